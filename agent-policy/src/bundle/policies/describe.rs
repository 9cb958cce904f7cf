//! What is known of a policy beside its rule: its name, its mode, and its place in the file.

use cedar_policy::{Policy, PrincipalConstraint};
use serde::Serialize;

use super::parse::split;
use crate::{
    bundle::source::{BundleError, Source, line_of},
    subject::UNIDENTIFIED,
};

/// How long a policy's name may be: it stands in errors, in the trail and in reports.
const NAME_BYTES_MAX: usize = 64;

/// What a policy does when it applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyEffect {
    /// It allows, unless another policy forbids.
    Permit,
    /// It denies, whatever other policies say.
    Forbid,
}

/// One policy as its author wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyInfo {
    /// Its `@id`.
    pub name: Box<str>,
    /// What it does.
    pub effect: PolicyEffect,
    /// It denies nothing: a command that it would deny is recorded as such, and passes.
    pub observed: bool,
    /// Its scope names the group of jobs without a credential. Only such a permit grants them anything.
    pub names_unidentified: bool,
    /// The file it stands in.
    pub file: String,
    /// The line it starts at, from 1.
    pub line: usize,
    /// Its text, from its first annotation to its semicolon.
    pub text: String,
}

/// What is known of the policy that starts at `offset`; refused if it has no proper name or mode.
pub(super) fn describe(source: &Source, offset: usize, policy: &Policy) -> Result<PolicyInfo, BundleError> {
    let name = policy
        .annotation("id")
        .ok_or_else(|| source.refuse_at(offset, "the policy has no name; put @id(\"its-name\") before it"))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(plain) {
        return Err(source.refuse_at(
            offset,
            format_args!(
                "the policy name {name:?} must be 1 to {NAME_BYTES_MAX} letters, digits, '-', '_' or '.'"
            ),
        ));
    }
    let observed = match policy.annotation("mode") {
        None | Some("enforce") => false,
        Some("observe") if policy.effect() == cedar_policy::Effect::Forbid => true,
        Some("observe") => {
            let reason = "only a forbid can have @mode(\"observe\"); to observe every denial, set \
                          `mode = \"observe\"` in upstreams.toml";
            return Err(source.refuse_at(offset, reason));
        }
        Some(mode) => {
            let reason = format_args!("@mode is \"enforce\" or \"observe\", not {mode:?}");
            return Err(source.refuse_at(offset, reason));
        }
    };
    let text = split(&source.text).into_iter().find(|(start, _)| *start == offset).map_or("", |(_, t)| t);
    Ok(PolicyInfo {
        name: name.into(),
        effect: match policy.effect() {
            cedar_policy::Effect::Permit => PolicyEffect::Permit,
            cedar_policy::Effect::Forbid => PolicyEffect::Forbid,
        },
        observed,
        names_unidentified: match policy.principal_constraint() {
            PrincipalConstraint::In(group) | PrincipalConstraint::IsIn(_, group) => {
                group.type_name().basename() == "Group" && group.id().unescaped() == UNIDENTIFIED
            }
            _ => false,
        },
        file: source.path.clone(),
        line: line_of(&source.text, offset),
        text: text.to_owned(),
    })
}
