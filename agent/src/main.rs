//! `lineal`: the host agent and its command line.

#[allow(dead_code, reason = "the program is composed elsewhere")]
mod identity;

fn main() {}
