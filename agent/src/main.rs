//! `lineal`: the host agent and its command line.

mod audit;
mod bounds;
mod changes;
mod cli;
mod clock;
mod config;
mod control;
mod daemon;
mod files;
mod identity;
mod ids;
mod jobs;
mod kernel;
mod logging;
mod logins;
mod metrics;
mod policy;
mod proxy;
mod tls;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
