//! `cargo xtask test`: every tier, or one. A tier that can't run fails; none is skipped in silence.

use std::{
    fmt,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use lineal_tests::paths;

use crate::{
    build::{self, Profile},
    regress, run, say,
    setup::{self, Purpose, cargo},
    toolchain,
};

/// The crates whose tests need neither root nor a kernel.
const PURE: [&str; 5] = ["agent-abi", "agent-core", "agent-sql", "agent-policy", "agent"];
/// The version of cargo-deny that `deny.toml` is written for.
const DENY_VERSION: &str = "0.20.2";

/// What to test.
#[derive(Args)]
pub(crate) struct TestArgs {
    /// One tier alone; all unless given.
    tier: Option<Tier>,
    /// Full sizes, and what takes too long for every change: the release build, licences and advisories.
    #[arg(long)]
    full: bool,
}

/// A kind of test.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Tier {
    /// Format, lints, shipped policies.
    Tidy,
    /// Beside the code; no root.
    Pure,
    /// Real eBPF, real servers, real clients.
    E2e,
    /// What a hostile job tries.
    Escape,
    /// The agent killed at random moments under load.
    Crash,
    /// PostgreSQL's own regression tests, through lineal and not.
    Regress,
}

/// The tiers that raise labs.
const LAB_TIERS: [Tier; 4] = [Tier::E2e, Tier::Escape, Tier::Crash, Tier::Regress];

impl fmt::Display for Tier {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Tidy => "tidy",
            Self::Pure => "pure",
            Self::E2e => "e2e",
            Self::Escape => "escape",
            Self::Crash => "crash",
            Self::Regress => "regress",
        })
    }
}

/// How long each phase took.
#[derive(Default)]
struct Phases(Vec<(String, Duration)>);

impl Phases {
    fn run(
        &mut self,
        name: impl Into<String>,
        phase: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let name = name.into();
        say(format_args!("== {name}"));
        let started = Instant::now();
        phase()?;
        self.0.push((name, started.elapsed()));
        Ok(())
    }
}

/// Sets up and runs tests.
pub(crate) fn test(args: &TestArgs) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut phases = Phases::default();
    let wanted = |tier| args.tier.is_none_or(|only| only == tier);
    let lab = LAB_TIERS.into_iter().any(wanted);
    phases.run("setup", || setup::setup(if lab { Purpose::Lab } else { Purpose::Build }))?;
    if wanted(Tier::Regress) {
        phases.run("fetch", regress::fetch)?;
    }
    phases.run("build", || build::build(Profile::Dev))?;
    if wanted(Tier::Pure) {
        phases.run("pure", pure)?;
    }
    if wanted(Tier::Tidy) {
        phases.run("tidy", tidy)?;
    }
    for tier in LAB_TIERS {
        if wanted(tier) {
            phases.run(tier.to_string(), || lab_tier(tier, Profile::Dev, args.full))?;
        }
    }
    if args.full {
        phases.run("build --release", || build::build(Profile::Release))?;
        for tier in LAB_TIERS {
            if wanted(tier) {
                phases.run(format!("{tier}, as it ships"), || lab_tier(tier, Profile::Release, true))?;
            }
        }
        phases.run("deny", deny)?;
    } else {
        say(format_args!(
            "not run here: the release build's tests and cargo-deny; `cargo xtask test --full` has them"
        ));
    }
    for (phase, took) in &phases.0 {
        say(format_args!("{:>7.1} s  {phase}", took.as_secs_f64()));
    }
    say(format_args!("all passed in {:.0} s", started.elapsed().as_secs_f64()));
    Ok(())
}

fn pure() -> anyhow::Result<()> {
    let mut test = in_repository(cargo());
    test.args(["test", "--quiet"]);
    for package in PURE {
        test.args(["--package", package]);
    }
    run(&mut test)?;
    run(in_repository(cargo()).args(["test", "--quiet", "--package", "lineal-tests", "--lib"]))
}

fn tidy() -> anyhow::Result<()> {
    run(in_repository(cargo()).args(["fmt", "--all", "--", "--check"]))?;
    run(in_repository(cargo()).args(["fmt", "--manifest-path", "agent-ebpf/Cargo.toml", "--", "--check"]))?;
    let mut clippy = in_repository(cargo());
    clippy.args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    run(&mut clippy)?;
    for subcommand in ["check", "test"] {
        run(in_repository(Command::new(paths::lineal()?)).args(["policy", subcommand, "policies"]))?;
    }
    Ok(())
}

fn lab_tier(tier: Tier, profile: Profile, full: bool) -> anyhow::Result<()> {
    let mut test = in_repository(cargo());
    test.args(["test", "--quiet", "--package", "lineal-tests", "--test", &tier.to_string()]);
    if profile == Profile::Release {
        test.env(paths::LINEAL_VARIABLE, paths::lineal()?);
    }
    if full {
        test.env("LINEAL_TEST_FULL", "1");
    }
    if tier == Tier::Crash {
        // Its seed is to be seen, also when all is well.
        test.args(["--", "--nocapture"]);
    }
    run(&mut test)
}

/// Runs cargo-deny, installing it where it is not.
pub(crate) fn deny() -> anyhow::Result<()> {
    if toolchain::tool("cargo-deny").is_none() {
        say(format_args!("cargo install cargo-deny {DENY_VERSION}: some minutes"));
        run(cargo().args(["install", "cargo-deny", "--version", DENY_VERSION, "--locked"]))?;
    }
    // The advisories come over the network: what needs none is told first.
    for checks in [&["bans", "licenses", "sources"][..], &["advisories"]] {
        run(in_repository(cargo()).args(["deny", "check"]).args(checks))?;
        run(in_repository(cargo())
            .args(["deny", "--manifest-path", "agent-ebpf/Cargo.toml", "check"])
            .args(checks))?;
    }
    Ok(())
}

fn in_repository(mut command: Command) -> Command {
    command.current_dir(PathBuf::from(paths::repository()));
    command
}
