//! `lineal`: the host agent and its command line.

#[allow(dead_code, unused_imports, reason = "the daemon that uses it is composed elsewhere")]
mod policy;

fn main() {}
