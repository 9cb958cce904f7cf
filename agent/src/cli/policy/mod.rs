//! `lineal policy check|test|explain`: runs the agent's own policy code on a directory. Needs no running
//! agent.

mod bundle;
mod explain;
mod texts;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use agent_policy::{Mode, run_cases};
use clap::{Args, Subcommand};

use self::{
    bundle::{BundleArgs, refuse},
    explain::{ExplainArgs, explain},
};
use super::outcome::{EXIT_NO, Outcome};

/// What to do with a bundle.
#[derive(Subcommand)]
pub enum PolicyCommand {
    /// Validate a bundle, or say where and why it is not valid.
    Check(BundleArgs),
    /// Run the test cases beside its policies.
    Test(TestArgs),
    /// Say which policies would decide a statement, and why.
    Explain(ExplainArgs),
}

/// Which bundle, and how to print.
#[derive(Args)]
pub struct TestArgs {
    #[command(flatten)]
    bundle: BundleArgs,
    /// One JSON object a case.
    #[arg(long)]
    json: bool,
}

/// `lineal policy`.
pub fn run(command: PolicyCommand) -> Outcome {
    match command {
        PolicyCommand::Check(bundle) => check(&bundle),
        PolicyCommand::Test(args) => test(&args),
        PolicyCommand::Explain(args) => explain(args),
    }
}

fn check(bundle: &BundleArgs) -> Outcome {
    let (_, bundle) = match bundle.load()? {
        Ok(loaded) => loaded,
        Err(refusal) => return refuse(&refusal),
    };
    let (policies, upstreams) = (bundle.policies().count(), bundle.upstreams().count());
    let version = bundle.version();
    let observed = match (bundle.mode(), bundle.policies().filter(|policy| policy.observed).count()) {
        (Mode::Observe, _) => ", all observed only".to_owned(),
        (Mode::Enforce, 0) => String::new(),
        (Mode::Enforce, count) => format!(", {count} of them observed only"),
    };
    writeln!(io::stdout(), "bundle {version}: {policies} policies{observed}, {upstreams} upstreams")?;
    Ok(ExitCode::SUCCESS)
}

fn test(args: &TestArgs) -> Outcome {
    let (sources, bundle) = match args.bundle.load()? {
        Ok(loaded) => loaded,
        Err(refusal) => return refuse(&refusal),
    };
    let results = run_cases(&bundle, &sources, &|protocol, text| Some(texts::read(protocol, text)?.facts))?;
    let mut out = io::stdout().lock();
    let failed = results.iter().filter(|result| !result.passed).count();
    for result in &results {
        if args.json {
            writeln!(out, "{}", serde_json::to_string(result)?)?;
        } else if !result.passed {
            writeln!(out, "FAIL {} ({}:{}): {}", result.name, result.file, result.line, result.difference)?;
        }
    }
    if !args.json {
        writeln!(out, "{} cases, {} passed, {failed} failed", results.len(), results.len() - failed)?;
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NO) })
}
