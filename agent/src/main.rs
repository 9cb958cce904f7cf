//! `lineal`: the host agent and its command line.

#[allow(dead_code, unused_imports, reason = "the daemon that writes the trail is not here yet")]
mod audit;

fn main() {}
