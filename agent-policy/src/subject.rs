//! Who acts: a job under its credential, and the process of it that connected. Made once for a flow; it
//! belongs to no bundle, so a reload takes it along.

use std::collections::{BTreeSet, HashSet};

use agent_core::credential::Credential;
use agent_core::lineage::Lineage;
use cedar_policy::{Entity, EntityUid, RestrictedExpression};

use crate::entities::{EngineError, Types, entity, record, string, strings, uid};

/// Under what a job acts.
#[derive(Clone, Copy, Debug)]
pub enum Principal<'a> {
    /// A credential made from a verified token.
    Credential(&'a Credential),
    /// None: the job was enrolled by a rule and no token has arrived. It is granted nothing.
    Unidentified,
}

/// A job and its connecting process, as policies see them.
#[derive(Clone, Debug)]
pub struct Subject {
    pub(crate) identified: bool,
    pub(crate) job: EntityUid,
    /// The job and its groups.
    pub(crate) entities: Vec<Entity>,
    /// `context.process`.
    pub(crate) process: RestrictedExpression,
}

impl Subject {
    /// The subject of a flow: the job of this id, under its credential, acting through the process of the lineage.
    pub fn new(principal: Principal<'_>, job_id: &str, lineage: &Lineage) -> Result<Self, EngineError> {
        let types = Types::new()?;
        let job = uid(&types.job, job_id);
        let (identified, entities) = match principal {
            Principal::Credential(credential) => (true, job_entities(&types, &job, credential)?),
            Principal::Unidentified => (
                false,
                vec![entity(
                    job.clone(),
                    vec![("issuer", string("")), ("subject", string(""))],
                    HashSet::new(),
                )?],
            ),
        };
        Ok(Self { identified, job, entities, process: process(lineage)? })
    }
}

fn job_entities(types: &Types, job: &EntityUid, credential: &Credential) -> Result<Vec<Entity>, EngineError> {
    let groups: HashSet<_> = credential.groups.iter().map(|group| uid(&types.group, group)).collect();
    let attributes = [("issuer", string(&credential.issuer)), ("subject", string(&credential.subject))];
    let claims = credential.claims.iter().map(|(name, value)| (name.clone(), string(value)));
    let job = Entity::new_with_tags(
        job.clone(),
        attributes.map(|(name, value)| (name.to_owned(), value)),
        groups.clone(),
        claims,
    )
    .map_err(|error| EngineError::new("the credential", error))?;
    Ok(groups.into_iter().map(Entity::with_uid).chain([job]).collect())
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
