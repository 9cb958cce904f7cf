//! `lineal policy explain`: decides a statement as the agent would, and says which policies decide it and, if
//! it is denied, what would allow it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    process::ExitCode,
};

use agent_core::{
    credential::Credential,
    decision::Effect,
    lineage::{Lineage, Process},
};
use agent_policy::{
    AccessExplanation, Bundle, Decider, Explanation, PolicyEffect, Principal, Protocol, Subject, Upstream,
};
use anyhow::Context;
use clap::Args;

use super::{
    super::{
        arguments::claim,
        outcome::{EXIT_NO, Outcome, tell},
    },
    bundle::{BundleArgs, refuse},
    texts::{read, scope},
};
use crate::clock::unix_now;

/// Who would run which statement, and where.
#[derive(Args)]
pub struct ExplainArgs {
    #[command(flatten)]
    bundle: BundleArgs,
    /// The statement.
    #[arg(long, short = 'c', value_name = "SQL")]
    statement: String,
    /// The upstream's name; unless given, the bundle's first whose commands are read, or a made-up one.
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
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claim)]
    claims: Vec<(String, String)>,
    /// Print the explanation as one JSON object.
    #[arg(long)]
    json: bool,
}

/// `lineal policy explain`.
pub fn explain(args: ExplainArgs) -> Outcome {
    let (_, bundle) = match args.bundle.load()? {
        Ok(loaded) => loaded,
        Err(refusal) => return refuse(&refusal),
    };
    let example = Upstream::new("example", Protocol::Postgres);
    let upstream = match &args.upstream {
        Some(name) => {
            bundle.upstream_named(name).ok_or_else(|| anyhow::anyhow!(unknown_upstream(&bundle, name)))?
        }
        // A bundle that declares no upstream yet can be tried out all the same.
        None => {
            let is_read = |upstream: &&Upstream| read(upstream.protocol, &args.statement).is_some();
            bundle.upstreams().find(is_read).unwrap_or(&example)
        }
    };
    if let Some(warning) = unknown_groups(&bundle, &args.groups) {
        tell(&warning);
    }
    let credential = Credential {
        issuer: args.issuer,
        subject: args.subject,
        groups: args.groups,
        claims: args.claims.into_iter().collect::<BTreeMap<_, _>>(),
        expires_unix: i64::MAX,
        acts_until_unix: i64::MAX,
    };
    let subject = Subject::new(Principal::Credential(&credential), "explained", &made_up_lineage())?;
    let scope = scope(upstream.protocol, &args.database, &args.user);
    let decider = Decider::new(&bundle, &subject, upstream, &scope)?;
    let text = read(upstream.protocol, &args.statement).with_context(|| {
        let (name, protocol) = (&upstream.name, upstream.protocol.name());
        format!(
            "the upstream {name} speaks {protocol}, of which no command is read: \
             name an upstream with --upstream that speaks another protocol"
        )
    })?;
    let explanation = decider.explain(&text.facts, unix_now(), &[]);
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&explanation)?)?;
    } else {
        print(&explanation, text.unparsed.as_deref(), &mut out)?;
    }
    Ok(if explanation.decision == Effect::Allow { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NO) })
}

/// The lineage of a shell that root runs.
fn made_up_lineage() -> Lineage {
    let process = Process { pid: 1, exe: "/bin/sh".to_owned(), argv: vec!["sh".to_owned()] };
    Lineage {
        process: process.clone(),
        cwd: "/".to_owned(),
        uid: 0,
        container: String::new(),
        ancestry: vec![process],
    }
}

fn print(explanation: &Explanation, unparsed: Option<&str>, out: &mut dyn Write) -> io::Result<()> {
    let observed = if explanation.observed { " (observed only: it passes)" } else { "" };
    writeln!(out, "{}{observed}: {}", explanation.decision.name(), explanation.reason)?;
    if let Some(reason) = unparsed {
        writeln!(out, "  PostgreSQL's grammar refuses it: {reason}")?;
    }
    for access in &explanation.accesses {
        writeln!(out, "  {:<5} {} on {}", access.decision.name(), access.action, access.resource)?;
        for policy in &access.policies {
            writeln!(out, "        by {} ({}:{})", policy.name, policy.file, policy.line)?;
        }
    }
    if let Some(remedy) = remedy(explanation) {
        writeln!(out, "  to allow it: {remedy}")?;
    }
    Ok(())
}

/// What would allow a statement whose accesses policies deny; `None` for one that passes, or that no policy
/// can allow.
fn remedy(explanation: &Explanation) -> Option<String> {
    if explanation.observed {
        return None;
    }
    let denied: Vec<_> =
        explanation.accesses.iter().filter(|access| access.decision != Effect::Allow).collect();
    let mut steps = Vec::new();
    let failed = names(&denied, |_, error| error);
    if !failed.is_empty() {
        steps.push(format!("mend {failed}, which cannot be evaluated"));
    }
    let forbidding = names(&denied, |effect, error| effect == PolicyEffect::Forbid && !error);
    if !forbidding.is_empty() {
        steps.push(format!("change {forbidding}: a forbid holds whatever is permitted"));
    }
    let unpermitted: BTreeSet<_> = denied
        .iter()
        .filter(|access| access.policies.is_empty())
        .map(|access| format!("{} on {}", access.action, access.resource))
        .collect();
    if !unpermitted.is_empty() {
        let accesses = unpermitted.into_iter().collect::<Vec<_>>().join(", ");
        steps.push(format!("add a permit that matches this credential for {accesses}"));
    }
    (!steps.is_empty()).then(|| steps.join("; "))
}

/// The policies that deny, by their effect and whether they failed: `policy a`, or `policy a, policy b`.
fn names(denied: &[&AccessExplanation], wanted: impl Fn(PolicyEffect, bool) -> bool) -> String {
    let policies = denied.iter().flat_map(|access| &access.policies);
    let wanted = policies.filter(|policy| wanted(policy.effect, policy.error.is_some()));
    let names: BTreeSet<_> = wanted.map(|policy| format!("policy {}", policy.name)).collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

fn unknown_upstream(bundle: &Bundle, name: &str) -> String {
    let names: Vec<&str> = bundle.upstreams().map(|upstream| &*upstream.name).collect();
    if names.is_empty() {
        format!("the bundle has no upstream {name}: upstreams.toml declares none")
    } else {
        format!("the bundle has no upstream {name}; it has {}", names.join(", "))
    }
}

/// A warning about groups that no policy names. They are no error: a policy may match the credential in
/// another way.
fn unknown_groups(bundle: &Bundle, groups: &[String]) -> Option<String> {
    let known: BTreeSet<String> = bundle.policies().flat_map(|policy| groups_in(&policy.text)).collect();
    let unknown: Vec<&str> =
        groups.iter().filter(|group| !known.contains(*group)).map(String::as_str).collect();
    if unknown.is_empty() {
        return None;
    }
    let known = if known.is_empty() {
        "policies name no group".to_owned()
    } else {
        format!("policies name {}", known.into_iter().collect::<Vec<_>>().join(", "))
    };
    Some(format!("no policy names the group {}; {known}", unknown.join(", ")))
}

/// The groups that a policy's text names: `Group::"ci"`. Names with escapes are left out.
fn groups_in(text: &str) -> impl Iterator<Item = String> {
    text.split("Group::\"").skip(1).filter_map(|rest| {
        let (name, _) = rest.split_once('"')?;
        (!name.contains('\\')).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use agent_policy::Source;

    use super::*;

    const POLICIES: &str = r#"
@id("read")
permit (principal in Group::"ci", action in Action::"sql:read", resource);

@id("hands-off")
forbid (principal, action in Action::"sql:read", resource is Table) when { resource.name == "secrets" };
"#;

    fn bundle() -> Arc<Bundle> {
        Arc::new(Bundle::load(&[Source::new("x.cedar", POLICIES.to_owned())]).unwrap())
    }

    fn explained(statement: &str) -> String {
        let credential = Credential {
            issuer: "https://issuer.example".to_owned(),
            subject: "s".to_owned(),
            groups: vec!["ci".to_owned()],
            claims: BTreeMap::new(),
            expires_unix: i64::MAX,
            acts_until_unix: i64::MAX,
        };
        let subject =
            Subject::new(Principal::Credential(&credential), "explained", &made_up_lineage()).unwrap();
        let upstream = Upstream::new("shop", Protocol::Postgres);
        let scope = scope(Protocol::Postgres, "shop", "app");
        let decider = Decider::new(&bundle(), &subject, &upstream, &scope).unwrap();
        let explanation = decider.explain(&agent_sql::analyze(statement.as_bytes()).facts, 0, &[]);
        let mut out = Vec::new();
        print(&explanation, None, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_allowed_statement_needs_no_remedy() {
        let told = explained("SELECT 1");
        assert!(told.starts_with("allow") && !told.contains("to allow it"), "{told}");
    }

    #[test]
    fn a_statement_that_no_policy_allows_is_told_which_permit_it_needs() {
        let told = explained("DROP TABLE orders");
        let line =
            "  to allow it: add a permit that matches this credential for sql:drop on shop/shop.?.orders";
        assert_eq!(told.lines().last(), Some(line), "{told}");
    }

    #[test]
    fn a_statement_that_is_forbidden_is_told_by_which_policy() {
        let told = explained("SELECT * FROM secrets");
        let line = "  to allow it: change policy hands-off: a forbid holds whatever is permitted";
        assert_eq!(told.lines().last(), Some(line), "{told}");
    }

    #[test]
    fn an_unknown_upstream_or_group_is_told_with_those_there_are() {
        let bundle = bundle();
        assert_eq!(
            unknown_upstream(&bundle, "shp"),
            "the bundle has no upstream shp: upstreams.toml declares none"
        );
        assert_eq!(unknown_groups(&bundle, &["ci".to_owned()]), None);
        assert_eq!(
            unknown_groups(&bundle, &["cl".to_owned()]).as_deref(),
            Some("no policy names the group cl; policies name ci")
        );
    }
}
