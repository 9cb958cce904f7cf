//! Deciding: each access of a command on its own, then the command. The one place where policies are
//! evaluated; `explain` and the test cases come through here, too.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use agent_core::decision::{Decision, Verdict};
use agent_core::facts::{Access, Action, Facts, Resource};
use cedar_policy::{AuthorizationError, Authorizer, Context, Entities, EntityUid, Request};

use crate::access::spell;
use crate::bundle::Bundle;
use crate::entities::{self, EngineError, Place};
use crate::schema::is_sql;
use crate::subject::Subject;
use crate::upstreams::{Undeclared, Upstream, canonical};

/// How many accesses one command may make: each is judged against every policy that speaks to it.
const ACCESSES_MAX: usize = 512;

/// How many bytes of Cedar's own words about an error a reason carries.
const ERROR_BYTES_MAX: usize = 200;

/// A subject's session with an upstream under one bundle. A new bundle needs a new session.
pub struct Session {
    bundle: Arc<Bundle>,
    subject: Subject,
    upstream: Upstream,
    database: Box<str>,
    user: Box<str>,
    /// The job, the upstream and the database: all but the actions and the tables.
    entities: Entities,
}

/// How one access was judged.
pub(crate) struct Judgement {
    pub(crate) action: Action,
    pub(crate) resource: String,
    pub(crate) cause: Cause,
    /// The policies that determined it: permits that allow, forbids that deny, policies that failed.
    pub(crate) policies: BTreeSet<Box<str>>,
    /// Which policies failed, and how.
    pub(crate) errors: Vec<(Box<str>, String)>,
}

/// Why an access is allowed or denied; a command is denied for the greatest of its causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    Permitted,
    /// No policy speaks.
    Unspoken,
    /// A policy could not be evaluated. Cedar alone would go on without it; if it forbids, that would allow.
    Failed,
    Forbidden,
}

impl Session {
    pub(crate) fn new(
        bundle: Arc<Bundle>,
        subject: &Subject,
        upstream: &Upstream,
        database: &str,
        user: &str,
    ) -> Result<Self, EngineError> {
        let place = Place { types: &bundle.types, tags: &bundle.tags, upstream, database };
        let fixed = [subject.entity.clone()].into_iter().chain(place.fixed()?);
        let entities =
            Entities::from_entities(fixed, None).map_err(|error| EngineError::new("the session", error))?;
        Ok(Self {
            subject: subject.clone(),
            upstream: upstream.clone(),
            database: database.into(),
            user: user.into(),
            entities,
            bundle,
        })
    }

    /// The bundle that decides.
    pub fn bundle(&self) -> &Arc<Bundle> {
        &self.bundle
    }

    /// The upstream that the session is with.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// The resources of a command as policies and decisions spell them, one for each access.
    pub fn resources(&self, facts: &Facts) -> Vec<String> {
        let spelled = |access: &Access| spell(&self.upstream.name, &self.database, &access.resource);
        facts.accesses.iter().map(spelled).collect()
    }

    /// Decides a command: allowed only if every one of its accesses is.
    ///
    /// `approvals` are the approver groups that have approved it. Denied facts are never a failure: what cannot
    /// be evaluated is a denial that says so.
    pub fn decide(&self, facts: &Facts, now_unix: i64, approvals: &[&str]) -> Decision {
        self.decide_by(facts, now_unix, approvals).0
    }

    /// The decision and the judgements it comes from; none where no policy was asked.
    pub(crate) fn decide_by(
        &self,
        facts: &Facts,
        now_unix: i64,
        approvals: &[&str],
    ) -> (Decision, Vec<Judgement>) {
        let settle = |part| match self.judge(facts, now_unix, approvals, part) {
            Ok(judgements) => (self.bundle.observed(conclude(&judgements)), judgements),
            Err(Refusal::Failed(reason)) => (self.bundle.observed(Decision::denied(reason)), Vec::new()),
            Err(Refusal::Always(reason)) => (Decision::denied(reason), Vec::new()),
        };
        let enforced = settle(Part::Enforced);
        let observes = |access: &Access| {
            self.bundle.policies.speaking_to(access.action).is_some_and(|policies| policies.observes)
        };
        if enforced.0.verdict != Verdict::Allow || !facts.accesses.iter().any(observes) {
            return enforced;
        }
        // Observed policies only forbid: where all of them together allow, each does.
        let mut all = settle(Part::All);
        if all.0.verdict == Verdict::Allow {
            return enforced;
        }
        all.0.observed = true;
        all
    }

    /// Judges each access of a command; or says why the command is denied without asking any policy.
    pub(crate) fn judge(
        &self,
        facts: &Facts,
        now_unix: i64,
        approvals: &[&str],
        part: Part,
    ) -> Result<Vec<Judgement>, Refusal> {
        if facts.accesses.is_empty() {
            return Err(Refusal::Failed("nothing is known of what the command does".to_owned()));
        }
        if let Some(setting) = facts.sql.as_ref().and_then(|sql| sql.alters_reading.as_deref()) {
            return Err(Refusal::Always(match setting {
                "?" => "which setting it changes can't be told, and some decide how statements are read"
                    .to_owned(),
                setting => format!("{setting} decides how statements are read, and may not be changed"),
            }));
        }
        if facts.accesses.len() > ACCESSES_MAX {
            return Err(Refusal::Failed(format!(
                "the command makes {} accesses, and at most {ACCESSES_MAX} are decided together; split it",
                facts.accesses.len()
            )));
        }
        let judged = self.evaluate(facts, now_unix, approvals, part);
        if !self.subject.identified {
            let judged = judged.map_err(|error| Refusal::Always(error.to_string()))?;
            let granted = |judgement: &Judgement| grants_unidentified(&self.bundle, judgement);
            // Observed policies are asked only once the others have granted it: theirs is the last word to tell.
            return if part == Part::All || judged.iter().all(granted) {
                Ok(judged)
            } else {
                Err(Refusal::Always(NOT_GRANTED.to_owned()))
            };
        }
        judged.map_err(|error| Refusal::Failed(error.to_string()))
    }

    fn evaluate(
        &self,
        facts: &Facts,
        now_unix: i64,
        approvals: &[&str],
        part: Part,
    ) -> Result<Vec<Judgement>, EngineError> {
        let place = Place {
            types: &self.bundle.types,
            tags: &self.bundle.tags,
            upstream: &self.upstream,
            database: &self.database,
        };
        let entities = &self.with(&place, facts)?;
        let context = |sql| entities::context(&self.subject, sql, now_unix, approvals);
        let plain = facts.accesses.iter().any(|a| !is_sql(a.action)).then(|| context(None)).transpose()?;
        let sql = facts
            .accesses
            .iter()
            .any(|access| is_sql(access.action))
            .then(|| context(Some(entities::sql(facts.sql.as_ref(), &self.user)?)))
            .transpose()?;
        facts
            .accesses
            .iter()
            .map(|Access { action, resource }| {
                let context = if is_sql(*action) { &sql } else { &plain };
                let question = Question {
                    bundle: &self.bundle,
                    subject: &self.subject,
                    entities,
                    context: context.as_ref(),
                    part,
                };
                question.ask(
                    *action,
                    place.uid(resource),
                    spell(&self.upstream.name, &self.database, resource),
                )
            })
            .collect()
    }

    /// The session's entities with the actions and the tables of these facts. All name all their ancestors, so
    /// groups of actions and of jobs, which have no attributes, need not be there.
    fn with(&self, place: &Place<'_>, facts: &Facts) -> Result<Entities, EngineError> {
        let mut actions = BTreeSet::new();
        let mut tables = BTreeSet::new();
        let mut entities = Vec::new();
        for access in &facts.accesses {
            if actions.insert(access.action) {
                entities.push(self.bundle.types.action(access.action)?.clone());
            }
            if let Resource::Table(relation) = &access.resource
                && tables.insert(relation)
            {
                entities.extend(place.table(&access.resource, relation)?);
            }
        }
        // Two tables of one schema bring it twice, and equal.
        let all = self.entities.clone().add_entities(entities, None);
        all.map_err(|error| EngineError::new("the command's resources", error))
    }

    /// True when a decision on these facts holds for as long as the session does: no policy that can speak to
    /// them may read the time or the approvals.
    pub(crate) fn is_lasting(&self, facts: &Facts) -> bool {
        facts.accesses.iter().all(|access| {
            self.bundle.policies.speaking_to(access.action).is_some_and(|policies| !policies.reads_moment)
        })
    }
}

/// Which policies are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Those that deny what they forbid.
    Enforced,
    /// The observed ones, too.
    All,
}

/// Why a command is denied without any policy's word.
pub(crate) enum Refusal {
    /// By a rule that holds in every mode: what passed would leave the agent without knowledge of the session, or act
    /// for nobody.
    Always(String),
    /// For lack of an answer.
    Failed(String),
}

/// The rule of "granted nothing": no policy can lift it by being too broad, see [`grants_unidentified`].
const NOT_GRANTED: &str = "the job has no verified credential, and is granted nothing until it has one";

/// Whether a job without a credential may make this access: a connection alone can be granted to it, by a permit whose
/// scope names its group.
fn grants_unidentified(bundle: &Bundle, judgement: &Judgement) -> bool {
    let named = |name: &str| bundle.policies.get(name).is_some_and(|policy| policy.means_unidentified);
    judgement.cause == Cause::Permitted
        && judgement.action == Action::Connect
        && judgement.policies.iter().any(|name| named(name))
}

/// Decides `connect` to a destination that no upstream declares.
pub(crate) fn decide_undeclared(
    bundle: &Bundle,
    subject: &Subject,
    destination: SocketAddr,
    now_unix: i64,
    approvals: &[&str],
) -> Decision {
    let destination = SocketAddr::new(canonical(destination.ip()), destination.port());
    if !subject.identified {
        return Decision::denied(NOT_GRANTED);
    }
    if bundle.upstreams.undeclared == Undeclared::Deny {
        return bundle.observed(Decision::denied(format!(
            "undeclared destination {destination}: no upstream in upstreams.toml has this address"
        )));
    }
    let judged = |part| {
        let endpoint = entities::endpoint(&bundle.types, destination)?;
        let resource = endpoint.uid();
        let connect = bundle.types.action(Action::Connect)?.clone();
        let entities = Entities::from_entities([subject.entity.clone(), endpoint, connect], None)
            .map_err(|error| EngineError::new("the destination", error))?;
        let context = entities::context(subject, None, now_unix, approvals)?;
        let question = Question { bundle, subject, entities: &entities, context: Some(&context), part };
        question.ask(Action::Connect, resource, format!("undeclared destination {destination}"))
    };
    let settle = |part| match judged(part) {
        Ok(judgement) => bundle.observed(conclude(&[judgement])),
        Err(error) => bundle.observed(Decision::denied(error.to_string())),
    };
    let enforced = settle(Part::Enforced);
    let observes = bundle.policies.speaking_to(Action::Connect).is_some_and(|policies| policies.observes);
    if enforced.verdict != Verdict::Allow || !observes {
        return enforced;
    }
    let all = settle(Part::All);
    if all.verdict == Verdict::Allow { enforced } else { Decision { observed: true, ..all } }
}

/// What is the same for all accesses of a command.
struct Question<'a> {
    bundle: &'a Bundle,
    subject: &'a Subject,
    entities: &'a Entities,
    context: Option<&'a Context>,
    part: Part,
}

impl Question<'_> {
    fn ask(&self, action: Action, resource: EntityUid, spelled: String) -> Result<Judgement, EngineError> {
        let context = self.context.cloned().ok_or_else(|| EngineError::new("the context", action.name()))?;
        let policies = self.bundle.policies.speaking_to(action);
        let policies = policies.ok_or_else(|| EngineError::new("an action", action.name()))?;
        let action_uid = self.bundle.types.action(action)?.uid();
        #[cfg(not(test))]
        let schema = None;
        // The hot path trusts `entities` to make what the schema says; tests hold it to that.
        #[cfg(test)]
        let schema = Some(&self.bundle.schema);
        let request = Request::new(self.subject.job.clone(), action_uid, resource, context, schema)
            .map_err(|error| EngineError::new("the request", error))?;
        let set = if self.part == Part::All { &policies.all } else { &policies.enforced };
        let response = Authorizer::new().is_authorized(&request, set, self.entities);
        let mut determining: BTreeSet<Box<str>> =
            response.diagnostics().reason().map(|id| AsRef::<str>::as_ref(id).into()).collect();
        let errors: Vec<_> = response.diagnostics().errors().map(failure).collect();
        let allowed = response.decision() == cedar_policy::Decision::Allow;
        let cause = match (allowed, errors.is_empty(), determining.is_empty()) {
            (false, _, false) => Cause::Forbidden,
            (_, false, _) => Cause::Failed,
            (true, true, _) => Cause::Permitted,
            (false, true, true) => Cause::Unspoken,
        };
        if cause == Cause::Failed {
            // Permits that would have allowed did not decide.
            determining.clear();
        }
        determining.extend(errors.iter().map(|(name, _)| name.clone()));
        Ok(Judgement { action, resource: spelled, cause, policies: determining, errors })
    }
}

fn failure(error: &AuthorizationError) -> (Box<str>, String) {
    let AuthorizationError::PolicyEvaluationError(error) = error;
    let name: &str = error.policy_id().as_ref();
    let mut told = error.inner().to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    if told.len() > ERROR_BYTES_MAX {
        let end = (0..=ERROR_BYTES_MAX).rev().find(|end| told.is_char_boundary(*end)).unwrap_or(0);
        told.truncate(end);
        told.push('…');
    }
    (name.into(), told)
}

/// From the judgements of all accesses to the decision on the command.
pub(crate) fn conclude(judgements: &[Judgement]) -> Decision {
    let denied = |judgement: &&Judgement| judgement.cause != Cause::Permitted;
    // `max_by_key` would give the last of equals; the first is the one that reads naturally.
    let Some(worst) = judgements.iter().filter(denied).reduce(|a, b| if b.cause > a.cause { b } else { a })
    else {
        if judgements.is_empty() {
            return Decision::denied("nothing is known of what the command does");
        }
        let policies: BTreeSet<_> = judgements.iter().flat_map(|j| j.policies.iter().cloned()).collect();
        let reason = format!("allowed by {}", list(&policies));
        return Decision {
            verdict: Verdict::Allow,
            policies: policies.into_iter().collect(),
            reason: reason.into(),
            observed: false,
        };
    };
    let Judgement { action, resource, cause, policies, errors } = worst;
    let on = format!("{} on {resource}", action.name());
    let reason = match cause {
        Cause::Forbidden => {
            let verb = if policies.len() == 1 { "forbids" } else { "forbid" };
            format!("{} {verb} {on}", list(policies))
        }
        Cause::Failed => {
            let mut reason = format!("{} could not be evaluated for {on}", list(policies));
            if let Some((_, told)) = errors.first() {
                // Writing to a String cannot fail.
                let _ = write!(reason, ": {told}");
            }
            reason
        }
        Cause::Unspoken | Cause::Permitted => format!("no policy allows {on}"),
    };
    let policies: BTreeSet<_> =
        judgements.iter().filter(denied).flat_map(|j| j.policies.iter().cloned()).collect();
    Decision { policies: policies.into_iter().collect(), ..Decision::denied(reason) }
}

/// `policy a`, `policies a and b`, `policies a, b and c`.
fn list(names: &BTreeSet<Box<str>>) -> String {
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    match names.split_last() {
        None => "no policy".to_owned(),
        Some((last, [])) => format!("policy {last}"),
        Some((last, others)) => format!("policies {} and {last}", others.join(", ")),
    }
}
