//! `cargo xtask test`: runs every tier, or one. A tier that can't run fails; none is skipped silently.

use std::{
    fmt,
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use lineal_tests::paths;

use crate::{
    build::{self, Profile},
    deny::deny,
    regress,
    setup::{self, Purpose},
    shell::{Took, cargo, run, say},
    tidy::{style, tidy},
};

/// The crates whose tests need neither root nor a kernel.
const PURE: [&str; 6] = ["agent-abi", "agent-core", "agent-sql", "agent-policy", "agent", "xtask"];

/// What to test.
#[derive(Args)]
pub(crate) struct TestArgs {
    /// Only this tier; without it, all of them.
    tier: Option<Tier>,
    /// Also what takes too long for every change: full sizes, the release build, licences and advisories.
    #[arg(long)]
    full: bool,
}

/// A kind of test.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Tier {
    /// House style, format, lints, shipped policies.
    Tidy,
    /// Unit tests, which need no root.
    Pure,
    /// Real eBPF, real servers, real clients.
    E2e,
    /// Ordinary frameworks and tools under the shipped policies.
    Frameworks,
    /// What a hostile job tries.
    Escape,
    /// The agent killed at random moments under load.
    Crash,
    /// PostgreSQL's own regression tests, through lineal and not.
    Regress,
}

/// The tiers that raise labs, in the order in which they run.
const LAB_TIERS: [Tier; 5] = [Tier::E2e, Tier::Frameworks, Tier::Escape, Tier::Crash, Tier::Regress];

impl fmt::Display for Tier {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Tidy => "tidy",
            Self::Pure => "pure",
            Self::E2e => "e2e",
            Self::Frameworks => "frameworks",
            Self::Escape => "escape",
            Self::Crash => "crash",
            Self::Regress => "regress",
        })
    }
}

/// The phases that have passed, and how long each took.
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

/// Sets up what the wanted tiers need, builds, and runs them.
pub(crate) fn test(args: &TestArgs) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut phases = Phases::default();
    let wanted = |tier| args.tier.is_none_or(|only| only == tier);
    let lab = LAB_TIERS.into_iter().any(wanted);
    if wanted(Tier::Tidy) {
        // It takes a second and needs nothing, so it is the first to fail.
        phases.run("house style", style::check)?;
    }
    phases.run("setup", || setup::setup(if lab { Purpose::Test } else { Purpose::Build }))?;
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
    say(format_args!("all passed in {}", Took(started.elapsed())));
    Ok(())
}

fn pure() -> anyhow::Result<()> {
    let mut test = cargo();
    test.args(["test", "--quiet"]);
    for package in PURE {
        test.args(["--package", package]);
    }
    run(&mut test)?;
    run(cargo().args(["test", "--quiet", "--package", "lineal-tests", "--lib"]))?;
    // Once more, with the error codes checked by which the ways round a recorded decision fail to compile.
    let rustdoc = paths::repository().join("xtask/rustdoc");
    run(cargo().args(["test", "--quiet", "--package", "agent-core", "--doc"]).env("RUSTDOC", rustdoc))
}

fn lab_tier(tier: Tier, profile: Profile, full: bool) -> anyhow::Result<()> {
    let mut test = cargo();
    test.args(["test", "--quiet", "--package", "lineal-tests", "--test", &tier.to_string()]);
    if profile == Profile::Release {
        test.env(paths::LINEAL_VARIABLE, paths::lineal()?);
    }
    if full {
        test.env("LINEAL_TEST_FULL", "1");
    }
    if tier == Tier::Crash {
        // It prints its seed, which must be visible even if it passes.
        test.args(["--", "--nocapture"]);
    }
    run(&mut test)
}
