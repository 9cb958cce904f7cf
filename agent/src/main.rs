//! `lineal`: the host agent and its command line.
fn main() {}
