//! Tests the session between a client that sends random pipelines and a model of PostgreSQL, with random
//! delays in both directions.
//!
//! The promise under test is the one that matters most: the executor was asked about the text that an Execute
//! ran, and allowed it.

use std::collections::VecDeque;

use proptest::prelude::*;

use self::{
    pipelines::item,
    upstream::{Fate, Model},
};
use super::{
    executor::{Allowed, Executor},
    notation,
};
use crate::postgres::{Ending, Limits, Violation};

mod pipelines;
mod upstream;

/// Moves bytes between session and model until nothing moves.
fn settle(executor: &mut Executor, model: &mut Model) {
    loop {
        model.inbox.append(&mut executor.seen.to_upstream);
        let stepped = model.step();
        let said = std::mem::take(&mut model.outbox);
        if !stepped && said.is_empty() {
            return;
        }
        executor.upstream(&said);
    }
}

/// Sends the pipeline that `items` choose while `schedule` says whose turn it is, then lets everything settle
/// and compares the session's view with what the model did.
///
/// One byte of `schedule` is one turn. Modulo 4 it chooses who acts: the client sends, the model receives,
/// the model works, or the session receives the model's replies. Divided by 4 it says how many bytes move;
/// the model receives all that there are, and takes one message for every eight.
fn check(items: &[(u8, u8, u8)], schedule: &[u8], pipeline_max: usize) -> Result<(), TestCaseError> {
    let script: Vec<String> =
        items.iter().enumerate().map(|(n, &(kind, a, b))| item(n, kind, a, b)).collect();
    let mut client: VecDeque<u8> = notation::client(&script.join(" / ")).into();
    let mut executor = Executor::open(Limits { pipeline_max, ..Limits::default() });
    let mut model = Model::default();
    for turn in schedule {
        let amount = usize::from(turn / 4);
        match turn % 4 {
            0 => {
                let bytes: Vec<u8> = client.drain(..amount.min(client.len())).collect();
                executor.client(&bytes);
            }
            1 => model.inbox.append(&mut executor.seen.to_upstream),
            2 => (0..amount / 8).for_each(|_| {
                model.step();
            }),
            _ => {
                let bytes: Vec<u8> = model.outbox.drain(..amount.min(model.outbox.len())).collect();
                executor.upstream(&bytes);
            }
        }
    }
    executor.client(client.make_contiguous());
    settle(&mut executor, &mut model);
    compare(&executor, &model, &script)
}

/// Compares what the session was asked and told with what the model did.
fn compare(executor: &Executor, model: &Model, script: &[String]) -> Result<(), TestCaseError> {
    // Of what the pipelines send, only messages during a COPY can be a client's fault. Any other fault is an
    // error, unless the model has ended the session.
    if let Some(fault) = &executor.seen.fault {
        prop_assert!(matches!(fault, Violation::Client(_)) || model.dead, "{fault} in {script:?}");
    } else if !model.dead && model.copying.is_none() {
        prop_assert_eq!(executor.held_back(), 0, "the client would wait for ever: {:?}", script);
    }
    let executed: Vec<_> = executor
        .allowed
        .iter()
        .zip(&executor.commands)
        .filter_map(|(allowed, command)| match allowed {
            Allowed::Execute(_, text, or_sql) => Some((text, or_sql, command)),
            _ => None,
        })
        .collect();
    for (fate, (text, or_sql, command)) in model.executes.iter().zip(executed) {
        if let Fate::Ran(ran) = fate {
            // Where SQL may have given the name another text, the question covered that text too.
            let asked = text.as_deref() == Some(ran.as_bytes()) || *or_sql;
            prop_assert!(asked, "asked about {text:?}, ran {ran}: {script:?}");
            prop_assert!(!ran.contains("deny"), "{script:?}");
        }
        let matches = matches!(
            (executor.endings.get(command), fate),
            (None, _)
                | (Some(Ending::Complete), Fate::Ran(_))
                | (Some(Ending::Error(_)), Fate::Failed)
                | (Some(Ending::Skipped), Fate::Skipped)
        );
        prop_assert!(matches, "{:?} for {fate:?}: {script:?}", executor.endings.get(command));
    }
    for (query, ran) in &model.sql_executes {
        let asked = executor.by_sql.executed.get(query);
        let parsed = asked.is_some_and(|text| text.as_ref() == Some(ran));
        let covered = parsed || asked.is_some() && executor.by_sql.prepared.contains(ran);
        prop_assert!(covered, "{query} was decided as {asked:?}, ran {ran}: {script:?}");
    }
    prop_assert!(model.queries.iter().all(|text| !text.contains("deny")), "{script:?}");
    let to_client = String::from_utf8_lossy(&executor.seen.to_client);
    prop_assert!(!to_client.contains("poison"), "a poison's error reached the client: {script:?}");
    if executor.seen.fault.is_none() {
        let denied = to_client.matches("lineal: denied").count();
        prop_assert_eq!(denied, model.poisons, "{:?}", script);
    }
    Ok(())
}

/// How many random cases run: enough for each known mistake about names to show in many of them.
const CASES: u32 = 4000;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(CASES) })]

    #[test]
    fn every_execute_runs_a_text_that_was_asked_about(
        items in prop::collection::vec(any::<(u8, u8, u8)>(), 1..40),
        schedule in prop::collection::vec(any::<u8>(), 0..200),
        pipeline_max in prop::sample::select(vec![3, 10, 4096]),
    ) {
        check(&items, &schedule, pipeline_max)?;
    }
}
