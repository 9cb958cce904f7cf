//! `lineal policy check|test|explain`: the enforcer's own code, run on a directory. Needs no running agent.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use agent_core::{
    credential::Credential,
    decision::Effect,
    facts::Facts,
    lineage::{Lineage, Process},
    target::Scope,
};
use agent_policy::{Bundle, Decider, Mode, Principal, Protocol, Source, Subject, Upstream, run_cases};
use anyhow::Context;
use clap::{Args, Subcommand};

use super::{EXIT_NO, Outcome};
use crate::policy::read;

/// What to do with a bundle.
#[derive(Subcommand)]
pub enum PolicyCommand {
    /// Validate a bundle; where and why not, if it isn't valid.
    Check(Place),
    /// Run the cases that stand beside its policies.
    Test(TestArgs),
    /// Which policies would decide a statement, and why.
    Explain(ExplainArgs),
}

/// Which bundle.
#[derive(Args)]
pub struct Place {
    /// The policy directory, which holds `default/` and `hosts/`.
    #[arg(default_value = "/etc/lineal/policies", value_name = "DIR")]
    dir: PathBuf,
    /// The host whose additions count.
    #[arg(long, value_name = "NAME", default_value_t = own_hostname())]
    hostname: String,
}

/// Which bundle, and how to print.
#[derive(Args)]
pub struct TestArgs {
    #[command(flatten)]
    place: Place,
    /// One JSON object a case.
    #[arg(long)]
    json: bool,
}

/// Who would run what, and where.
#[derive(Args)]
pub struct ExplainArgs {
    #[command(flatten)]
    place: Place,
    /// The statement.
    #[arg(long, short = 'c', value_name = "SQL")]
    statement: String,
    /// The upstream's name; the bundle's first, or one made up, unless given.
    #[arg(long)]
    upstream: Option<String>,
    /// The database.
    #[arg(long, default_value = "postgres")]
    database: String,
    /// The user at the upstream.
    #[arg(long, default_value = "postgres")]
    user: String,
    /// The credential's subject.
    #[arg(long, default_value = "somebody")]
    subject: String,
    /// The credential's issuer.
    #[arg(long, default_value = "https://issuer.example")]
    issuer: String,
    /// A group of the credential's; may be given more than once.
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// A claim of the credential's; may be given more than once.
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = super::claim)]
    claims: Vec<(String, String)>,
    /// Print the explanation as one JSON object.
    #[arg(long)]
    json: bool,
}

/// `lineal policy`.
pub fn run(command: PolicyCommand) -> Outcome {
    match command {
        PolicyCommand::Check(place) => check(&place),
        PolicyCommand::Test(args) => test(&args),
        PolicyCommand::Explain(args) => explain(args),
    }
}

fn check(place: &Place) -> Outcome {
    match load(place)? {
        Ok((_, bundle)) => {
            let mut out = io::stdout().lock();
            let (policies, upstreams) = (bundle.policies().count(), bundle.upstreams().count());
            let version = bundle.version();
            let observed = match (bundle.mode(), bundle.policies().filter(|policy| policy.observed).count()) {
                (Mode::Observe, _) => ", all observed only".to_owned(),
                (Mode::Enforce, 0) => String::new(),
                (Mode::Enforce, count) => format!(", {count} of them observed only"),
            };
            writeln!(out, "bundle {version}: {policies} policies{observed}, {upstreams} upstreams")?;
            Ok(ExitCode::SUCCESS)
        }
        Err(refusal) => refuse(&refusal),
    }
}

/// Says why a bundle is none.
fn refuse(refusal: &str) -> Outcome {
    writeln!(io::stdout(), "{refusal}")?;
    Ok(ExitCode::from(EXIT_NO))
}

fn test(args: &TestArgs) -> Outcome {
    let (sources, bundle) = match load(&args.place)? {
        Ok(loaded) => loaded,
        Err(refusal) => return refuse(&refusal),
    };
    let results = run_cases(&bundle, &sources, &|statement| agent_sql::analyze(statement.as_bytes()).facts)?;
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

fn explain(args: ExplainArgs) -> Outcome {
    let (_, bundle) = match load(&args.place)? {
        Ok(loaded) => loaded,
        Err(refusal) => return refuse(&refusal),
    };
    let example = Upstream::new("example", Protocol::Postgres);
    let upstream = match &args.upstream {
        Some(name) => {
            bundle.upstream_named(name).with_context(|| format!("the bundle has no upstream {name}"))?
        }
        // A bundle that declares none yet can still be tried out.
        None => bundle.upstreams().next().unwrap_or(&example),
    };
    let claims: BTreeMap<_, _> = args.claims.into_iter().collect();
    let credential = Credential {
        issuer: args.issuer,
        subject: args.subject,
        groups: args.groups,
        claims,
        expires_unix: i64::MAX,
        acts_until_unix: i64::MAX,
    };
    let process = Process { pid: 1, exe: "/bin/sh".to_owned(), argv: vec!["sh".to_owned()] };
    let lineage = Lineage {
        process: process.clone(),
        cwd: "/".to_owned(),
        uid: 0,
        container: String::new(),
        ancestry: vec![process],
    };
    let subject = Subject::new(Principal::Credential(&credential), "explained", &lineage)?;
    let scope = Scope::sql(&args.database, &args.user);
    let decider = Decider::new(&bundle, &subject, upstream, &scope)?;
    let analysis = agent_sql::analyze(args.statement.as_bytes());
    let facts: &Facts = &analysis.facts;
    let now_unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    let explanation = decider.explain(facts, now_unix, &[]);
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&explanation)?)?;
    } else {
        let observed = if explanation.observed { " (observed only: it passes)" } else { "" };
        writeln!(out, "{}{observed}: {}", explanation.decision.name(), explanation.reason)?;
        if let Some(reason) = &analysis.unparsed {
            writeln!(out, "  PostgreSQL's grammar refuses it: {reason}")?;
        }
        for access in &explanation.accesses {
            writeln!(out, "  {:<5} {} on {}", access.decision.name(), access.action, access.resource)?;
            for policy in &access.policies {
                writeln!(out, "        by {} ({}:{})", policy.name, policy.file, policy.line)?;
            }
        }
    }
    Ok(if explanation.decision == Effect::Allow { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NO) })
}

/// A bundle with the files it was read from.
type Loaded = (Vec<Source>, Arc<Bundle>);

/// Reads a bundle: the outer error is the directory's, the inner one the bundle's.
fn load(place: &Place) -> anyhow::Result<Result<Loaded, String>> {
    let sources = read(&place.dir, &place.hostname)?;
    Ok(match Bundle::load(&sources) {
        Ok(bundle) => Ok((sources, Arc::new(bundle))),
        Err(refusal) => Err(refusal.to_string()),
    })
}

fn own_hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
