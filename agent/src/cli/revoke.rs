//! `lineal revoke`.

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use anyhow::Context;
use clap::Args;

use super::{arguments::claim, outcome::Outcome};
use crate::{
    control::{Request, answer::Revoked, client::ask},
    ids::Id,
    jobs::Selector,
};

/// Whose access ends, and why.
#[derive(Args)]
pub struct RevokeArgs {
    #[command(flatten)]
    selector: SelectorArgs,
    /// Why: shown to those who lose access, and kept in the trail.
    #[arg(long, default_value = "no reason was given")]
    reason: String,
    /// Kill the jobs' processes too.
    #[arg(long)]
    kill: bool,
    /// Print the jobs whose access ended as JSON, one object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct SelectorArgs {
    /// One job.
    #[arg(long, value_name = "ID")]
    job: Option<Id>,
    /// Every job of this subject, now and later.
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<String>,
    /// Every job whose credential has this claim, now and later.
    #[arg(long, value_name = "NAME=VALUE", value_parser = claim)]
    claim: Option<(String, String)>,
}

impl SelectorArgs {
    /// The selector; clap makes sure that exactly one is given.
    fn into_selector(self) -> Option<Selector> {
        let job = self.job.map(|job| Selector::Job(job.to_string()));
        job.or(self.subject.map(Selector::Subject))
            .or(self.claim.map(|(key, value)| Selector::Claim { key, value }))
    }
}

/// `lineal revoke`.
pub fn revoke(control: &Path, args: RevokeArgs) -> Outcome {
    let one_job = args.selector.job.is_some();
    let selector =
        args.selector.into_selector().context("nothing is selected: name --job, --subject or --claim")?;
    let request = Request::Revoke { selector, reason: args.reason, kill: args.kill };
    let ended: Vec<Revoked> = ask(control, &request)?;
    let mut out = io::stdout().lock();
    for job in &ended {
        if args.json {
            writeln!(out, "{}", serde_json::to_string(job)?)?;
        } else {
            writeln!(out, "revoked job {}", job.id)?;
        }
    }
    if ended.is_empty() && !args.json {
        let told = if one_job {
            "no such job is live: `lineal jobs` lists those that are"
        } else {
            "no live job matches; new ones that do will be refused"
        };
        writeln!(out, "{told}")?;
    }
    Ok(ExitCode::SUCCESS)
}
