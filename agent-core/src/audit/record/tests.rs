//! Checks that docs/audit.schema.json describes a line of every kind, with a validator for the part of JSON
//! Schema that the file uses.

use std::{borrow::Cow, collections::BTreeMap};

use serde_json::Value;

use super::*;
use crate::{
    audit::{Chain, Host},
    decision::Effect,
    facts::Action,
};

const SCHEMA: &str = include_str!("../../../../docs/audit.schema.json");

/// Validates `value`, found at the path `at`. The error names the keyword that it does not satisfy. An
/// unknown keyword is an error, so that the schema cannot use more than is checked.
fn satisfies(root: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    for (keyword, rule) in schema.as_object().unwrap() {
        let holds = match keyword.as_str() {
            "$schema" | "$id" | "$defs" | "title" | "description" | "format" => Ok(()),
            "$ref" => {
                let pointer = rule.as_str().unwrap().strip_prefix('#').unwrap();
                satisfies(root, root.pointer(pointer).unwrap(), value, at)
            }
            "oneOf" => is_one_of(root, rule.as_array().unwrap(), value, at),
            "const" => (value == rule).then_some(()).ok_or(format!("is {value}, not {rule}")),
            "enum" => {
                rule.as_array().unwrap().contains(value).then_some(()).ok_or(format!("{value} not in {rule}"))
            }
            "minimum" => {
                (value.as_u64() >= rule.as_u64()).then_some(()).ok_or(format!("{value} is less than {rule}"))
            }
            "pattern" => matches_pattern(rule.as_str().unwrap(), value.as_str().unwrap_or(""))
                .then_some(())
                .ok_or(format!("{value} does not match {rule}")),
            "type" => {
                let types = rule.as_array().cloned().unwrap_or_else(|| vec![rule.clone()]);
                types
                    .iter()
                    .any(|name| is_type(name.as_str().unwrap(), value))
                    .then_some(())
                    .ok_or(format!("no {rule}"))
            }
            "items" => value
                .as_array()
                .into_iter()
                .flatten()
                .try_for_each(|item| satisfies(root, rule, item, &format!("{at}[]"))),
            "required" => rule.as_array().unwrap().iter().try_for_each(|name| {
                value.get(name.as_str().unwrap()).map(|_| ()).ok_or(format!("{name} is missing"))
            }),
            "properties" => {
                rule.as_object().unwrap().iter().try_for_each(|(name, schema)| match value.get(name) {
                    Some(value) => satisfies(root, schema, value, &format!("{at}.{name}")),
                    None => Ok(()),
                })
            }
            "additionalProperties" => has_no_other_properties(root, schema, rule, value, at),
            unknown => Err(format!("the checker does not know {unknown}")),
        };
        holds.map_err(|reason| format!("{at}: {keyword}: {reason}"))?;
    }
    Ok(())
}

/// `oneOf`: exactly one of the alternatives holds.
fn is_one_of(root: &Value, alternatives: &[Value], value: &Value, at: &str) -> Result<(), String> {
    let results: Vec<_> = alternatives.iter().map(|schema| satisfies(root, schema, value, at)).collect();
    match results.iter().filter(|result| result.is_ok()).count() {
        1 => Ok(()),
        count => Err(format!("{count} alternatives hold: {results:?}")),
    }
}

/// `additionalProperties`: properties that `schema` does not name are forbidden, or satisfy `rule`.
fn has_no_other_properties(
    root: &Value,
    schema: &Value,
    rule: &Value,
    value: &Value,
    at: &str,
) -> Result<(), String> {
    let known = schema.get("properties").and_then(Value::as_object);
    value.as_object().into_iter().flatten().try_for_each(|(name, value)| {
        match (known.is_some_and(|known| known.contains_key(name)), rule) {
            (true, _) => Ok(()),
            (false, Value::Bool(false)) => Err(format!("{name} is not described")),
            (false, schema) => satisfies(root, schema, value, &format!("{at}.{name}")),
        }
    })
}

fn is_type(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "null" => value.is_null(),
        other => panic!("the checker does not know the type {other}"),
    }
}

/// Matches the patterns that the schema uses: `^`, literals, `\.`, `[0-9]{n}`, `[0-9a-f]{n}` and `$`.
fn matches_pattern(pattern: &str, text: &str) -> bool {
    let mut pattern = pattern.strip_prefix('^').unwrap().strip_suffix('$').unwrap();
    let mut text = text;
    while !pattern.is_empty() {
        if let Some((class, rest)) = pattern.strip_prefix('[').and_then(|rest| rest.split_once("]{")) {
            let (count, rest) = rest.split_once('}').unwrap();
            let hex = class == "0-9a-f";
            assert!(hex || class == "0-9", "the checker does not know [{class}]");
            for _ in 0..count.parse::<usize>().unwrap() {
                let Some(tail) =
                    text.strip_prefix(|c: char| c.is_ascii_digit() || (hex && ('a'..='f').contains(&c)))
                else {
                    return false;
                };
                text = tail;
            }
            pattern = rest;
        } else {
            pattern = pattern.strip_prefix('\\').unwrap_or(pattern);
            let literal = pattern.chars().next().unwrap();
            let Some(tail) = text.strip_prefix(literal) else { return false };
            (text, pattern) = (tail, &pattern[literal.len_utf8()..]);
        }
    }
    text.is_empty()
}

fn line(record: &Record<'_>) -> Value {
    let mut out = Vec::new();
    let mut chain = Chain::GENESIS;
    chain.append(record, 1_709_164_800_123_456, &Host::new("ci-1"), &mut out).unwrap();
    serde_json::from_slice(&out).unwrap()
}

fn check(record: Record<'_>) {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let line = line(&record);
    assert_eq!(line["kind"], record.kind());
    if let Err(reason) = satisfies(&schema, &schema, &line, "$") {
        panic!("{line}\n{reason}");
    }
    // The schema is strict: it refuses a line with a field less or a field more.
    let optional = |name: &str| name == "observed" || name == "error" && record.kind() == "session";
    for name in line.as_object().unwrap().keys().filter(|name| !optional(name)) {
        let mut without = line.clone();
        without.as_object_mut().unwrap().remove(name);
        assert!(satisfies(&schema, &schema, &without, "$").is_err(), "without {name}");
    }
    let mut with_more = line.clone();
    with_more["more"] = Value::Null;
    assert!(satisfies(&schema, &schema, &with_more, "$").is_err());
}

#[test]
fn job_records_match_the_schema() {
    let claims = BTreeMap::from([("repository".to_owned(), "acme/shop".to_owned())]);
    let groups = ["contractors".to_owned()];
    let credential =
        CredentialRef { issuer: "https://ci.example", subject: "s", groups: &groups, claims: &claims };
    let job = JobRef { id: "01J", name: "nightly" };
    check(Record::Job(JobRecord {
        state: JobState::Enrolled,
        job,
        credential: Some(credential),
        root_pid: 7,
    }));
    check(Record::Job(JobRecord { state: JobState::Ended, job, credential: None, root_pid: 7 }));
}

#[test]
fn process_records_match_the_schema() {
    let argv = ["sh".to_owned(), "-c".to_owned()];
    for parent in [None, Some(1)] {
        check(Record::Process(ProcessRecord {
            process: 2,
            job: "01J",
            pid: 7,
            exe: "/bin/sh",
            argv: &argv,
            cwd: "/",
            uid: 1000,
            container: "",
            parent,
        }));
    }
}

#[test]
fn session_records_match_the_schema() {
    let upstream = UpstreamRef { name: "shop", address: "10.0.0.5:5432", database: "shop", user: "app" };
    let (session, job) = ("01S", "01J");
    check(Record::Session(SessionRecord::Opened {
        session,
        job,
        process: 2,
        protocol: "postgres",
        upstream,
    }));
    for error in [None, Some(OutcomeError { code: "3D000", message: "database \"x\" does not exist" })] {
        check(Record::Session(SessionRecord::Closed { session, job, reason: "upstream_closed", error }));
    }
}

#[test]
fn decision_and_outcome_records_match_the_schema() {
    let parameters = [Some(Cow::Borrowed("1")), None];
    let statement =
        StatementRef { text: "SELECT $1", fingerprint: "f", parameters: &parameters, whole: None };
    let policies = [Box::from("reads")];
    let sha256 = "00".repeat(32);
    let cut = StatementRef { whole: Some(WholeText { bytes: 2 << 20, sha256: &sha256 }), ..statement };
    for (statement, decision, observed) in [
        (Some(cut), Effect::Allow, false),
        (Some(statement), Effect::Allow, false),
        (None, Effect::Deny, true),
        (Some(statement), Effect::Hold, false),
    ] {
        check(Record::Decision(DecisionRecord {
            session: "01S",
            command: u64::MAX,
            protocol: "postgres",
            actions: &[Action::SqlSelect],
            resources: Texts::Strs(&["shop/shop"]),
            statement,
            decision,
            policies: Texts::Boxed(&policies),
            reason: "",
            masked: Texts::Strings(&[]),
            observed,
        }));
    }
    for error in [None, Some(OutcomeError { code: "23505", message: "duplicate" })] {
        let rows = error.is_none().then_some(3);
        check(Record::Outcome(OutcomeRecord {
            session: "01S",
            command: 1,
            rows,
            bytes: 9,
            error,
            duration_us: 5,
        }));
    }
}

#[test]
fn approval_and_revocation_records_match_the_schema() {
    check(Record::Approval(ApprovalRecord {
        id: "01A",
        state: ApprovalState::Approved,
        session: "01S",
        command: 1,
        group: "dba",
        by: Some("uid 0"),
        reason: None,
    }));
    check(Record::Revocation(RevocationRecord {
        job: None,
        subject: Some("s"),
        claim: None,
        reason: "offboarded",
        by: "uid 0",
        jobs: Texts::Strs(&["01J"]),
    }));
}

#[test]
fn bundle_agent_and_checkpoint_records_match_the_schema() {
    check(Record::Bundle(BundleRecord {
        state: BundleState::Refused,
        version: "v",
        reason: Some("a.cedar:1: no"),
    }));
    let details = [("torn_bytes", Detail::Count(12)), ("version", Detail::Text("0.1.0"))];
    for state in [AgentState::Start, AgentState::Stop, AgentState::Gap] {
        check(Record::Agent(AgentRecord { state, reason: "r", details: Details(&details) }));
    }
    let (hash, signature) = ("00".repeat(32), "11".repeat(64));
    let key = format!("sha256:{hash}");
    let upto = CheckpointUpto { seq: 0, hash: &hash };
    check(Record::Checkpoint(CheckpointRecord { upto, key: &key, signature: &signature }));
}
