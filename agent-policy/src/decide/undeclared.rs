//! Decides connections to destinations that no upstream declares.

use std::net::SocketAddr;

use agent_core::{
    decision::Decision,
    facts::{Action, Facts},
    target::Scope,
};
use cedar_policy::Entities;

use super::{
    conclude::decide_by,
    judgement::{Finding, Judgement, Refusal},
    question::{Question, Selection},
    unidentified::NOT_GRANTED,
};
use crate::{
    bundle::{
        Bundle,
        upstreams::{Undeclared, canonical},
    },
    subject::Subject,
    vocabulary::{Moment, context, value::EngineError},
};

/// Decides the connection to a destination that no upstream declares. `approvals` are the approver groups
/// that have approved it. The judgement's resource is the destination.
pub fn decide_undeclared(
    bundle: &Bundle,
    subject: &Subject,
    destination: SocketAddr,
    now_unix: i64,
    approvals: &[&str],
) -> Judgement {
    let moment = Moment { now_unix, approvals };
    Judgement {
        decision: decide(bundle, subject, destination, moment),
        resources: vec![destination.to_string()],
    }
}

fn decide(bundle: &Bundle, subject: &Subject, destination: SocketAddr, moment: Moment<'_>) -> Decision {
    let destination = SocketAddr::new(canonical(destination.ip()), destination.port());
    if !subject.identified {
        return Decision::denied(NOT_GRANTED);
    }
    if bundle.upstreams.undeclared == Undeclared::Deny {
        return bundle.observed(Decision::denied(format!(
            "undeclared destination {destination}: no upstream in upstreams.toml has this address"
        )));
    }
    let ask = |selection| {
        let finding = ask(bundle, subject, destination, moment, selection);
        finding.map(|finding| vec![finding]).map_err(|error| Refusal::Failed(error.to_string()))
    };
    decide_by(bundle, [Action::Connect], ask).0
}

fn ask(
    bundle: &Bundle,
    subject: &Subject,
    destination: SocketAddr,
    moment: Moment<'_>,
    selection: Selection,
) -> Result<Finding, EngineError> {
    let endpoint = bundle.vocabulary.endpoint(destination)?;
    let resource = endpoint.uid();
    let connect = bundle.vocabulary.action(Action::Connect)?.clone();
    let entities = Entities::from_entities([subject.entity.clone(), endpoint, connect], None)
        .map_err(|error| EngineError::new("the destination", error))?;
    let family = Action::Connect.family();
    let context = context(&subject.process, family, &Facts::connect(), &Scope::Connection, moment)?;
    let question = Question { bundle, subject, entities: &entities, selection };
    question.ask(Action::Connect, resource, format!("undeclared destination {destination}"), context)
}
