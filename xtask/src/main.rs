//! The project's chores: `cargo xtask --help` lists them. `cargo build` must not need any of them.

mod bench;
mod build;
mod demo;
mod lab;
mod regress;
mod setup;
mod test;
#[allow(
    dead_code,
    reason = "set-up asks what is there; the agent's build script, which shares this, uses it"
)]
#[path = "../../agent/build/toolchain.rs"]
mod toolchain;

use std::{
    fmt,
    io::{self, Write},
    process::{Command, Stdio},
};

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use lineal_tests::{package, paths};

/// The project's chores.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Install what building and testing takes. The other chores do it for what they need.
    Setup,
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
    /// Check licences, sources and advisories of all dependencies.
    Deny,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().chore {
        Chore::Setup => setup::setup(setup::Purpose::Bench),
        Chore::Demo => demo::demo(),
        Chore::Lab(args) => lab::lab(&args),
        Chore::Test(args) => test::test(&args),
        Chore::Bench(args) => bench::bench(&args),
        Chore::Package => package(),
        Chore::Deny => test::deny(),
    }
}

/// Builds the package beside the agent.
fn package() -> anyhow::Result<()> {
    build::agent(setup::Purpose::Build, build::Profile::Release)?;
    let binary = paths::lineal()?;
    let package = package::build(&binary, binary.parent().context("the agent is in no directory")?)?;
    say(format_args!("{}", package.display()));
    Ok(())
}

/// Says what is being done: on standard error, for standard output may be read by a program.
fn say(what: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "xtask: {what}");
}

/// Runs a command that must succeed; its output goes where [`say`] goes.
fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .stdin(Stdio::null())
        .stdout(io::stderr())
        .status()
        .with_context(|| format!("cannot start {:?}", command.get_program()))?;
    if status.success() { Ok(()) } else { bail!("failed ({status}): {command:?}") }
}
