//! Decides the commands of one session.

use std::{collections::BTreeSet, sync::Arc};

use agent_core::{
    decision::Decision,
    facts::{Access, Facts, Family, ITEMS_MAX},
    target::Scope,
};
use cedar_policy::{Context, Entities};

use super::{
    conclude::{ObservedDenials, decide_by, merge},
    judgement::{Finding, Judgement, Refusal},
    question::{Question, Selection},
    unidentified::{NOT_GRANTED, is_granted},
};
use crate::{
    bundle::{Bundle, upstreams::Upstream},
    subject::Subject,
    vocabulary::{Moment, Resources, context, value::EngineError},
};

/// Decides what a subject does in its session with an upstream, under one bundle. A new bundle needs a new
/// decider.
pub struct Decider {
    bundle: Arc<Bundle>,
    subject: Subject,
    upstream: Upstream,
    scope: Scope,
    /// The job, the upstream and the scope. The actions and resources of a command are added when it is
    /// decided.
    entities: Entities,
}

impl Decider {
    /// The decider of a session. `scope` is [`Scope::Connection`] until the client has chosen one: only
    /// `connect` can be decided then.
    pub fn new(
        bundle: &Arc<Bundle>,
        subject: &Subject,
        upstream: &Upstream,
        scope: &Scope,
    ) -> Result<Self, EngineError> {
        let (bundle, subject) = (Arc::clone(bundle), subject.clone());
        let (upstream, scope) = (upstream.clone(), scope.clone());
        let mut decider = Self { bundle, subject, upstream, scope, entities: Entities::empty() };
        let entities = [decider.subject.entity.clone()].into_iter().chain(decider.names().of_session()?);
        decider.entities = Entities::from_entities(entities, None)
            .map_err(|error| EngineError::new("the session", error))?;
        Ok(decider)
    }

    /// The bundle that decides.
    pub fn bundle(&self) -> &Arc<Bundle> {
        &self.bundle
    }

    /// The upstream that the session is with.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Decides a command: allowed only if every one of its accesses is.
    ///
    /// `approvals` are the approver groups that have approved it. This never fails: what cannot be evaluated
    /// is denied, and the decision's reason says so.
    pub fn decide(&self, facts: &Facts, now_unix: i64, approvals: &[&str]) -> Judgement {
        let (decision, _) = self.decide_with_findings(facts, Moment { now_unix, approvals });
        Judgement { decision, resources: self.resources(facts) }
    }

    /// Decides something that passes only as a whole, such as the beginning of a session, part by part. The
    /// first part that does not pass decides; if all pass, the first denial that is only observed, otherwise
    /// the allowance by all their policies. `observed` says whether a part passes whose denial is only
    /// observed. `whole` is what the parts do together: the judgement has its resources.
    pub fn decide_parts(
        &self,
        parts: &[Facts],
        whole: &Facts,
        now_unix: i64,
        approvals: &[&str],
        observed: ObservedDenials,
    ) -> Judgement {
        let moment = Moment { now_unix, approvals };
        let decisions = parts.iter().map(|part| self.decide_with_findings(part, moment).0);
        Judgement { decision: merge(decisions, observed), resources: self.resources(whole) }
    }

    /// Denies a command for a reason that is not a policy's.
    pub fn denied(&self, facts: &Facts, reason: &str) -> Judgement {
        Judgement { decision: Decision::denied(reason), resources: self.resources(facts) }
    }

    /// The decision, and what policies say about each access. There are no findings if the decision does not
    /// rest on policies: see [`Refusal`].
    pub(super) fn decide_with_findings(&self, facts: &Facts, moment: Moment<'_>) -> (Decision, Vec<Finding>) {
        let actions = facts.accesses.iter().map(|access| access.action);
        decide_by(&self.bundle, actions, |selection| self.ask(facts, moment, selection))
    }

    /// Asks policies about each access of a command. The error is why the command is denied whatever they
    /// say, or because they cannot be evaluated.
    fn ask(&self, facts: &Facts, moment: Moment<'_>, selection: Selection) -> Result<Vec<Finding>, Refusal> {
        if facts.accesses.is_empty() {
            return Err(Refusal::Failed("nothing is known of what the command does".to_owned()));
        }
        if let Some(reason) = &facts.barred {
            return Err(Refusal::Always(reason.to_string()));
        }
        let items = facts.weight().items();
        if items > ITEMS_MAX {
            return Err(Refusal::Failed(format!(
                "the command has {items} accesses and names, and at most {ITEMS_MAX} are decided together: \
                 send it in parts"
            )));
        }
        let findings = self.evaluate(facts, moment, selection);
        if self.subject.identified {
            return findings.map_err(|error| Refusal::Failed(error.to_string()));
        }
        let findings = findings.map_err(|error| Refusal::Always(error.to_string()))?;
        // Observed policies are asked only after the enforced ones have granted everything, and change only
        // the record.
        if selection == Selection::All || findings.iter().all(|finding| is_granted(&self.bundle, finding)) {
            Ok(findings)
        } else {
            Err(Refusal::Always(NOT_GRANTED.to_owned()))
        }
    }

    fn evaluate(
        &self,
        facts: &Facts,
        moment: Moment<'_>,
        selection: Selection,
    ) -> Result<Vec<Finding>, EngineError> {
        let names = self.names();
        let entities = &self.entities_with(&names, facts)?;
        let question = Question { bundle: &self.bundle, subject: &self.subject, entities, selection };
        let mut contexts: Vec<(Family, Context)> = Vec::new();
        let mut findings = Vec::with_capacity(facts.accesses.len());
        for Access { action, resource } in &facts.accesses {
            let family = action.family();
            let known = contexts.iter().find(|(of, _)| *of == family).map(|(_, context)| context.clone());
            let context = match known {
                Some(context) => context,
                None => {
                    let context = context(&self.subject.process, family, facts, &self.scope, moment)?;
                    contexts.push((family, context.clone()));
                    context
                }
            };
            findings.push(question.ask(*action, names.uid(resource), names.spell(resource), context)?);
        }
        Ok(findings)
    }

    /// The session's entities with the actions and resources of these facts. Every entity names all its
    /// ancestors, so groups of actions and of jobs, which have no attributes, can be left out.
    fn entities_with(&self, names: &Resources<'_>, facts: &Facts) -> Result<Entities, EngineError> {
        let mut actions = BTreeSet::new();
        let mut resources = BTreeSet::new();
        let mut entities = Vec::new();
        for Access { action, resource } in &facts.accesses {
            if actions.insert(action) {
                entities.push(self.bundle.vocabulary.action(*action)?.clone());
            }
            if resources.insert(resource) {
                entities.extend(names.entities(resource)?);
            }
        }
        // Resources with a common ancestor each add it. Cedar accepts that, because the copies are equal.
        let all = self.entities.clone().add_entities(entities, None);
        all.map_err(|error| EngineError::new("the command's resources", error))
    }

    /// The resources of a command as policies spell them, one for each access.
    fn resources(&self, facts: &Facts) -> Vec<String> {
        let names = self.names();
        facts.accesses.iter().map(|access| names.spell(&access.resource)).collect()
    }

    fn names(&self) -> Resources<'_> {
        Resources {
            vocabulary: &self.bundle.vocabulary,
            tags: &self.bundle.tags,
            upstream: &self.upstream,
            scope: &self.scope,
        }
    }

    /// True if a decision on these facts holds for as long as the session does: no policy that can apply to
    /// them may read the time or the approvals.
    pub(crate) fn is_lasting(&self, facts: &Facts) -> bool {
        facts.accesses.iter().all(|access| {
            self.bundle.policies.for_action(access.action).is_some_and(|policies| !policies.reads_moment)
        })
    }
}
