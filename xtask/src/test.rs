//! `cargo xtask test`: every tier of tests, cheapest first, and how long each phase took. It stops at the first
//! phase that fails; it never skips one that was asked for.

use std::{
    env,
    ffi::OsString,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use lineal_tests::paths;

use crate::setup::{Part, setup};

/// Says to the tests whether they run at full size.
const FULL_VARIABLE: &str = "LINEAL_TEST_FULL";
/// Crates whose tests need no root, no eBPF and no server, and this crate and the lab's own.
const PURE: [&str; 6] = ["agent-abi", "agent-core", "agent-sql", "agent-policy", "agent", "xtask"];

/// What to run.
#[derive(Args)]
pub(crate) struct TestArgs {
    /// One tier; all of them unless given.
    #[arg(value_enum)]
    tier: Option<Tier>,
    /// Full sizes instead of those that fit CI, and the checks that take longer.
    #[arg(long)]
    full: bool,
}

/// A kind of test, by what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tier {
    /// Formatting and lints.
    Lint,
    /// Tests beside the code: no root, no eBPF.
    Pure,
    /// Real eBPF, real servers, real clients; root.
    E2e,
    /// What a hostile job tries; root.
    Escape,
}

const TIERS: [Tier; 4] = [Tier::Lint, Tier::Pure, Tier::E2e, Tier::Escape];

/// Runs what was asked for.
pub(crate) fn test(args: &TestArgs) -> anyhow::Result<()> {
    let tiers = args.tier.map_or(TIERS.to_vec(), |tier| vec![tier]);
    let mut phases = Phases { taken: Vec::new(), full: args.full };
    let outcome = run(&tiers, &mut phases);
    phases.report();
    outcome
}

fn run(tiers: &[Tier], phases: &mut Phases) -> anyhow::Result<()> {
    phases.phase("set-up", |_| setup(&[Part::Build, Part::Lab]))?;
    for tier in tiers {
        match tier {
            Tier::Lint => lint(phases)?,
            Tier::Pure => pure(phases)?,
            Tier::E2e => against_parts(phases, "e2e")?,
            Tier::Escape => against_parts(phases, "escape")?,
        }
    }
    Ok(())
}

fn lint(phases: &mut Phases) -> anyhow::Result<()> {
    phases.cargo("format", &["fmt", "--all", "--check"])?;
    phases.cargo(
        "format of the eBPF programs",
        &["fmt", "--manifest-path", "agent-ebpf/Cargo.toml", "--check"],
    )?;
    phases.cargo("clippy", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])
}

fn pure(phases: &mut Phases) -> anyhow::Result<()> {
    let mut arguments = vec!["test", "--no-fail-fast"];
    for name in PURE {
        arguments.extend(["--package", name]);
    }
    phases.cargo("pure: compile", &[arguments.as_slice(), &["--no-run"]].concat())?;
    phases.cargo("pure", &arguments)?;
    phases.cargo("pure: the lab's own", &["test", "--package", "lineal-tests", "--lib"])?;
    phases.cargo("the binary", &["build", "--package", "agent"])?;
    let lineal = paths::lineal()?;
    let policies = paths::repository().join("policies");
    phases.phase("shipped policies", |_| {
        finished("lineal policy test", Command::new(lineal).args(["policy", "test"]).arg(policies))
    })
}

fn against_parts(phases: &mut Phases, tier: &'static str) -> anyhow::Result<()> {
    phases.cargo("the binary", &["build", "--package", "agent"])?;
    let test = ["test", "--package", "lineal-tests", "--test", tier];
    phases.cargo("its tests", &[test.as_slice(), &["--no-run"]].concat())?;
    phases.cargo(tier, &test)
}

/// What was run, and how long it took.
struct Phases {
    taken: Vec<(&'static str, Duration)>,
    full: bool,
}

impl Phases {
    fn phase(
        &mut self,
        name: &'static str,
        work: impl FnOnce(&Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        println!("\n== {name}");
        let started = Instant::now();
        let outcome = work(self);
        self.taken.push((name, started.elapsed()));
        outcome.with_context(|| format!("{name} failed"))
    }

    fn cargo(&mut self, name: &'static str, arguments: &[&str]) -> anyhow::Result<()> {
        self.phase(name, |phases| {
            let mut cargo = cargo();
            cargo.args(arguments).current_dir(paths::repository());
            if phases.full {
                cargo.env(FULL_VARIABLE, "1");
            }
            finished(&format!("cargo {}", arguments.join(" ")), &mut cargo)
        })
    }

    fn report(&self) {
        println!("\n== time");
        for (name, took) in &self.taken {
            println!("{:>6} s  {name}", took.as_secs());
        }
        let total: Duration = self.taken.iter().map(|(_, took)| *took).sum();
        println!("{:>6} s  in all", total.as_secs());
    }
}

/// The cargo that runs this program, told to build where this program was built: `lineal` is looked for beside it.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    // Set by `cargo run` for this package; build scripts must not see them.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&name);
        }
    }
    cargo
}

fn finished(what: &str, command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("cannot start {what}"))?;
    if !status.success() {
        bail!("`{what}` failed ({status})");
    }
    Ok(())
}
