//! `lineal`: the host agent and its command line.

mod audit;

fn main() {}
