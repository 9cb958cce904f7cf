//! `cargo xtask setup`: installs what building and testing lineal takes, says what and why, and does nothing
//! where all is there. It must never start a service, nor touch a toolchain that somebody else installed.

mod linker;
mod packages;
mod provider;
#[path = "../../agent/build/toolchain.rs"]
#[allow(dead_code, reason = "the build script uses more of it than set-up does")]
mod toolchain;

use std::{
    collections::BTreeSet,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, bail};
use clap::ValueEnum;

/// What to set up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Part {
    /// What `cargo build` takes: C libraries, and a compiler and linker for eBPF.
    Build,
    /// What the lab, the demo and the tests take: PostgreSQL, an OpenID provider, clients.
    Lab,
    /// What the benches take besides: PgBouncer, HAProxy, bpftool.
    Bench,
}

/// Makes sure that everything for these parts is installed.
pub(crate) fn setup(parts: &[Part]) -> anyhow::Result<()> {
    let started = Instant::now();
    let parts: BTreeSet<Part> = parts.iter().copied().collect();
    let mut changed = packages::install(&parts)?;
    if parts.contains(&Part::Build) {
        changed |= linker::install()?;
        // Not what was asked for but what matters: with this, `agent/build.rs` succeeds.
        toolchain::find().map_err(|missing| anyhow::anyhow!("{missing}"))?;
    }
    if parts.contains(&Part::Lab) {
        changed |= provider::install()?;
    }
    if changed {
        println!("set-up done in {} s", started.elapsed().as_secs());
    }
    Ok(())
}

/// Announces an installation.
fn announce(what: &str, why: &str) {
    println!("installing {what}: {why}");
}

/// Runs an installer whose output is the progress shown.
fn run(command: &mut Command) -> anyhow::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot start {program}"))?;
    if !status.success() {
        bail!(
            "{program} failed ({status}); its own words are above. Set-up goes on where it stopped when called again"
        );
    }
    Ok(())
}

/// What a command prints, if it can be run and succeeds.
fn stdout(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
