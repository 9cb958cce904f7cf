//! Who acts: a job under its credential, and the process of the job that connected. A subject is made once
//! for each connection. It belongs to no bundle, so it outlives a reload.

use std::collections::{BTreeSet, HashMap, HashSet};

use agent_core::{credential::Credential, lineage::Lineage};
use cedar_policy::{Entity, EntityTypeName, EntityUid, RestrictedExpression};

use crate::vocabulary::value::{EngineError, entity_type, record, string, strings, uid};

/// On what authority a job acts.
#[derive(Clone, Copy, Debug)]
pub enum Principal<'a> {
    /// A credential made from a verified token.
    Credential(&'a Credential),
    /// None: a rule enrolled the job, and no token has arrived. The job is granted only what policies grant
    /// to the group `unidentified` by that name.
    Unidentified {
        /// The rule's name: the job's tag `rule`.
        rule: &'a str,
    },
}

/// The group of every job without a credential.
pub(crate) const UNIDENTIFIED: &str = "unidentified";

/// A job and its connecting process, as policies see them.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The job has a credential.
    pub(crate) identified: bool,
    pub(crate) job: EntityUid,
    pub(crate) entity: Entity,
    /// `context.process`.
    pub(crate) process: RestrictedExpression,
}

impl Subject {
    /// The subject of a connection: the job of this id, acting through the last process of the lineage.
    pub fn new(principal: Principal<'_>, job_id: &str, lineage: &Lineage) -> Result<Self, EngineError> {
        let job = uid(&entity_type("Job")?, job_id);
        let entity = job_entity(&job, &entity_type("Group")?, principal)?;
        let identified = matches!(principal, Principal::Credential(_));
        Ok(Self { identified, job, entity, process: process(lineage)? })
    }
}

fn job_entity(
    job: &EntityUid,
    group: &EntityTypeName,
    principal: Principal<'_>,
) -> Result<Entity, EngineError> {
    let (issuer, subject, groups, tags): (_, _, HashSet<_>, HashMap<_, _>) = match principal {
        Principal::Credential(Credential { issuer, subject, groups, claims, .. }) => (
            &**issuer,
            &**subject,
            // A job with a credential is never in the group, even if its issuer has a group of that name.
            groups.iter().filter(|name| *name != UNIDENTIFIED).map(|name| uid(group, name)).collect(),
            claims.iter().map(|(name, value)| (name.clone(), string(value))).collect(),
        ),
        Principal::Unidentified { rule } => {
            ("", "", [uid(group, UNIDENTIFIED)].into(), [("rule".to_owned(), string(rule))].into())
        }
    };
    let attributes = [("issuer".to_owned(), string(issuer)), ("subject".to_owned(), string(subject))];
    Entity::new_with_tags(job.clone(), attributes, groups, tags)
        .map_err(|error| EngineError::new("the credential", error))
}

fn process(lineage: &Lineage) -> Result<RestrictedExpression, EngineError> {
    let ancestry: BTreeSet<_> = lineage.ancestry.iter().map(|process| process.exe.as_str()).collect();
    let depth = i64::try_from(lineage.depth()).unwrap_or(i64::MAX);
    record(vec![
        ("exe", string(&lineage.process.exe)),
        ("depth", RestrictedExpression::new_long(depth)),
        ("uid", RestrictedExpression::new_long(lineage.uid.into())),
        ("ancestry", strings(ancestry)),
        ("container", string(&lineage.container)),
    ])
}
