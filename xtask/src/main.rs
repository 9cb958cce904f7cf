//! The project's chores: `cargo xtask --help` lists them. `cargo build` must not need any of them.

mod lab;

use clap::{Parser, Subcommand};

/// The project's chores.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Raise the demo's parts, leave them running, and print what to try.
    Lab(lab::LabArgs),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().chore {
        Chore::Lab(args) => lab::lab(&args),
    }
}
