//! What a decision costs, made anew and from the cache, and what it costs to make a session's decider. Prints
//! nanoseconds and asserts nothing.
//!
//! `cargo bench -p agent-policy`

#![allow(clippy::unwrap_used, reason = "a benchmark has nobody to report to but its terminal")]

use std::{collections::BTreeMap, hint::black_box, path::Path, sync::Arc, time::Instant};

use agent_core::{
    credential::Credential,
    facts::{Access, Action, Detail, Facts, Relation, SqlFacts},
    lineage::{Lineage, Process},
    target::Scope,
};
use agent_policy::{Bundle, Decider, DecisionCache, Principal, Protocol, Source, Subject, Upstream};

fn main() {
    let shipped = shipped();
    let fifty: String = (0..50)
        .map(|i| {
            format!(
                "@id(\"p{i}\") \
                 permit(principal in Group::\"g{i}\", action in Action::\"sql:read\", resource) \
                 when {{ context.sql.hasWhere }};\n"
            )
        })
        .collect();
    let fifty = Bundle::load(&[Source::new("fifty.cedar", fifty)]).unwrap();
    for (name, bundle, groups) in
        [("shipped pack", shipped, ["contractors"]), ("fifty policies", fifty, ["g7"])]
    {
        let bundle = Arc::new(bundle);
        for (what, facts) in
            [("one table", select(&["orders"])), ("two tables", select(&["customers", "orders"]))]
        {
            let engine = decider(&bundle, &groups);
            measure(&format!("{name}, {what}, decided"), 2_000, || {
                drop(black_box(engine.decide(&facts, 0, &[])))
            });
            let mut cache = DecisionCache::new(decider(&bundle, &groups));
            measure(&format!("{name}, {what}, remembered"), 1_000_000, || {
                drop(black_box(cache.decide(black_box(&facts), 0, &[])));
            });
        }
        measure(&format!("{name}, decider made"), 2_000, || drop(black_box(decider(&bundle, &groups))));
    }
}

/// Prints how many nanoseconds one call of `work` takes, in the fastest of several runs of `times` calls: the
/// other runs were disturbed by something else on the machine.
fn measure(name: &str, times: u32, mut work: impl FnMut()) {
    let run = |work: &mut dyn FnMut()| {
        let start = Instant::now();
        (0..times).for_each(|_| work());
        start.elapsed().as_nanos() / u128::from(times)
    };
    let best = (0..7).map(|_| run(&mut work)).min().unwrap_or_default();
    println!("{best:>9} ns  {name}");
}

/// The facts of a SELECT from these tables, with two functions.
fn select(tables: &[&str]) -> Facts {
    let table = |name: &&str| Access {
        action: Action::SqlSelect,
        resource: Relation { schema: None, name: (*name).into() }.into(),
    };
    let functions = vec!["count".into(), "now".into()];
    let sql = SqlFacts { functions, ..SqlFacts::one_statement() };
    Facts { accesses: tables.iter().map(table).collect(), detail: Some(Detail::Sql(sql)), barred: None }
}

/// The decider of a session of a job with these groups, in the database `shop`.
fn decider(bundle: &Arc<Bundle>, groups: &[&str]) -> Decider {
    let credential = Credential {
        issuer: "https://issuer.example".to_owned(),
        subject: "contractor:dana".to_owned(),
        groups: groups.iter().map(ToString::to_string).collect(),
        claims: (0..20).map(|i| (format!("claim{i}"), "value".to_owned())).collect::<BTreeMap<_, _>>(),
        expires_unix: i64::MAX,
        acts_until_unix: i64::MAX,
    };
    let process = Process { pid: 1, exe: "/usr/bin/psql".to_owned(), argv: vec![] };
    let lineage = Lineage {
        process: process.clone(),
        cwd: "/".to_owned(),
        uid: 1000,
        container: String::new(),
        ancestry: vec![process],
    };
    let subject = Subject::new(Principal::Credential(&credential), "job", &lineage).unwrap();
    let upstream = Upstream::new("shop", Protocol::Postgres);
    Decider::new(bundle, &subject, &upstream, &Scope::sql("shop", "app")).unwrap()
}

/// The policies that ship with lineal.
fn shipped() -> Bundle {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies/default");
    let sources: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| Source::new(path.to_string_lossy(), std::fs::read_to_string(&path).unwrap()))
        .collect();
    Bundle::load(&sources).unwrap()
}
