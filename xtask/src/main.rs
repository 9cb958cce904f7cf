//! The project's chores: `cargo xtask --help` lists them. `cargo build` must not need any of them.

mod bench;
mod build;
mod demo;
mod deny;
mod lab;
mod regress;
mod setup;
mod shell;
mod test;
mod tidy;
#[allow(
    dead_code,
    reason = "the agent's build script shares this file and uses all of it; set-up only asks what is there"
)]
#[path = "../../agent/build/toolchain.rs"]
mod toolchain;

use anyhow::Context;
use clap::{Parser, Subcommand};
use lineal_tests::{package, paths};

use crate::{build::Profile, setup::Purpose, shell::say};

/// The project's chores.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Install what a purpose needs. The other chores do it for what they need.
    Setup {
        /// What it is for.
        #[arg(value_enum, default_value_t = Purpose::All)]
        purpose: Purpose,
    },
    /// Tell the story of a contractor's nightly job, on real parts.
    Demo,
    /// Raise the demo's parts, leave them running, and print what to try.
    Lab(lab::LabArgs),
    /// Run the tests.
    Test(test::TestArgs),
    /// Compare lineal with no proxy and with other proxies.
    Bench(bench::BenchArgs),
    /// Build the Debian package.
    Package,
    /// Check the licences, sources and known vulnerabilities of all dependencies.
    Deny,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().chore {
        Chore::Setup { purpose } => setup::setup(purpose),
        Chore::Demo => demo::demo(),
        Chore::Lab(args) => lab::lab(&args),
        Chore::Test(args) => test::test(&args),
        Chore::Bench(args) => bench::bench(&args),
        Chore::Package => package(),
        Chore::Deny => deny::deny(),
    }
}

/// Builds the package beside the agent.
fn package() -> anyhow::Result<()> {
    build::agent(Purpose::Build, Profile::Release)?;
    let binary = paths::lineal()?;
    let package = package::build(&binary, binary.parent().context("the agent's path has no directory")?)?;
    say(format_args!("{}", package.display()));
    Ok(())
}
