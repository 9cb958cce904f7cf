//! The project's chores: `cargo xtask --help` lists them. `cargo build` must not need any of them.

mod lab;
mod setup;
mod test;

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
    /// Install what building and testing takes, and say why. All other chores do it for what they need.
    Setup {
        /// What for.
        #[arg(value_enum, default_values_t = [setup::Part::Build, setup::Part::Lab])]
        parts: Vec<setup::Part>,
    },
    /// Run the tests: all tiers, or one.
    Test(test::TestArgs),
    /// Raise the demo's parts, leave them running, and print what to try.
    Lab(lab::LabArgs),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().chore {
        Chore::Setup { parts } => setup::setup(&parts),
        Chore::Test(args) => test::test(&args),
        Chore::Lab(args) => lab::lab(&args),
    }
}
