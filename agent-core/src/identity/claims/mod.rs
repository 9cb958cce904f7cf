//! What a token's claims say: the claims as text, the groups, the CI run and the pod.
//!
//! The claims must have been verified before. A claim that is not understood is left out or refused, never
//! guessed at; a token with too many claims, or too long ones, is refused.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::replay::RunKey;

/// How many claims a token may have, the members of flattened objects included. GitHub's tokens have about
/// 35, GitLab's about 40.
pub const CLAIMS_MAX: usize = 128;
/// The longest name of a claim and the longest text of one, each in bytes.
pub const CLAIM_BYTES_MAX: usize = 4096;
/// How many groups a credential may be in.
pub const GROUPS_MAX: usize = 256;
/// How many objects deep a flattened claim may be; an object without objects in it is one deep.
const NESTING_MAX: usize = 4;

/// Claims that are left out: the credential has them in fields of its own, or they say nothing about who
/// acts.
const LEFT_OUT: [&str; 5] = ["exp", "iat", "iss", "nbf", "sub"];

/// How to read an issuer's tokens.
#[derive(Clone, Debug, Default)]
pub struct ClaimRules {
    /// Names of the claims to flatten: each member of such an object, and of the objects within, becomes a
    /// claim named `object.member`. All other objects are left out.
    pub nested: Vec<String>,
    /// The claim that lists groups, if one does. A single text counts as a list of one.
    pub groups_claim: Option<String>,
    /// Rules that put a token into further groups by its claims.
    pub groups: Vec<GroupRule>,
    /// The claims that together name the CI run; empty if none do.
    pub run_claims: Vec<String>,
    /// The claim with the UID of the pod that a token is bound to, if there is one.
    pub pod_uid_claim: Option<String>,
}

/// One rule: a token whose claims match every pattern is in the group.
#[derive(Clone, Debug)]
pub struct GroupRule {
    group: String,
    claims: Vec<(String, Pattern)>,
}

/// What a claim's text must be.
#[derive(Clone, Debug)]
enum Pattern {
    Exactly(String),
    /// The configuration writes this as the prefix and a `*`.
    StartsWith(String),
}

/// Why a rule for a group can't be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum GroupRuleError {
    /// The group's name can't be used.
    #[error("a group's name must be text of 1 to {CLAIM_BYTES_MAX} bytes without control characters")]
    Name,
    /// The rule has no pattern, and would match every token.
    #[error("the rule for group `{0}` names no claim, so it would put every token in; name one")]
    NoClaims(String),
    /// A pattern has a `*` that is not at its end.
    #[error("in the rule for group `{group}` the pattern for `{claim}` has a `*` that is not at its end")]
    Star {
        /// The group.
        group: String,
        /// The claim.
        claim: String,
    },
}

impl GroupRule {
    /// A rule that puts tokens into `group` if their claims match all of `claims`, each the name of a claim
    /// and its pattern. Of a claim that is a list, one member has to match.
    pub fn new(group: String, claims: BTreeMap<String, String>) -> Result<Self, GroupRuleError> {
        if !is_name(&group) {
            return Err(GroupRuleError::Name);
        }
        if claims.is_empty() {
            return Err(GroupRuleError::NoClaims(group));
        }
        let claims = claims
            .into_iter()
            .map(|(claim, text)| match text.strip_suffix('*') {
                Some(prefix) if !prefix.contains('*') => Ok((claim, Pattern::StartsWith(prefix.to_owned()))),
                None if !text.contains('*') => Ok((claim, Pattern::Exactly(text))),
                _ => Err(GroupRuleError::Star { group: group.clone(), claim }),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { group, claims })
    }

    fn matches(&self, claims: &Flat) -> bool {
        self.claims.iter().all(|(claim, pattern)| {
            claims.0.get(claim).is_some_and(|value| value.texts().iter().any(|text| pattern.matches(text)))
        })
    }
}

impl Pattern {
    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exactly(exact) => text == exact,
            Self::StartsWith(prefix) => text.starts_with(prefix.as_str()),
        }
    }
}

/// Why a token's claims are refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ClaimsError {
    /// The token has more than [`CLAIMS_MAX`] claims.
    #[error("the token has more than {CLAIMS_MAX} claims")]
    TooMany,
    /// A claim's name or text is longer than [`CLAIM_BYTES_MAX`].
    #[error("the token has a claim with a name or a value longer than {CLAIM_BYTES_MAX} bytes")]
    TooLong,
    /// The token is in more than [`GROUPS_MAX`] groups.
    #[error("the token is in more than {GROUPS_MAX} groups")]
    TooManyGroups,
    /// The claim for groups is neither a name nor a list of names.
    #[error("the token's claim `{0}` is not a list of group names")]
    Groups(String),
    /// The token has claims about a pod, but not the pod's UID. Such a token must not pass for an unbound
    /// one, which could be used anywhere.
    #[error("the token is bound to a pod, but its claim `{0}` does not name it")]
    Pod(String),
    /// Two claims have the same name once objects are flattened.
    #[error("the token says `{0}` twice")]
    Twice(String),
    /// Objects are nested too deep.
    #[error("the token's claim `{0}` is nested more than {NESTING_MAX} objects deep")]
    TooDeep(String),
}

/// What a token's claims say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The groups that the token lists and those that the rules add. Sorted, without duplicates.
    pub groups: Vec<String>,
    /// The claims as text, without those in `LEFT_OUT`. The members of a list are joined with commas; a comma
    /// or backslash within a member is escaped with a backslash, so that one member can't pass for two.
    pub claims: BTreeMap<String, String>,
    /// The CI run; `None` if the rules name no run claims, or the token lacks one of them as a text that is
    /// not empty.
    pub run: Option<RunKey>,
    /// The UID of the pod that the token is bound to; `None` for a token that is bound to no pod.
    pub pod_uid: Option<String>,
}

/// Reads verified claims by an issuer's rules.
pub fn read(claims: &Map<String, Value>, rules: &ClaimRules) -> Result<Reading, ClaimsError> {
    let flat = Flat::new(claims, &rules.nested)?;
    let text = |name: &String| flat.0.get(name).and_then(ClaimValue::as_one);
    let run: Option<BTreeMap<_, _>> =
        rules.run_claims.iter().map(|name| Some((name.clone(), text(name)?.to_owned()))).collect();
    Ok(Reading {
        groups: groups(claims, &flat, rules)?,
        // Without run claims in the rules the map is empty, and no run is made of it.
        run: run.and_then(|claims| RunKey::try_from(claims).ok()),
        pod_uid: pod_uid(&flat, rules)?,
        claims: flat.into_text()?,
    })
}

fn groups(claims: &Map<String, Value>, flat: &Flat, rules: &ClaimRules) -> Result<Vec<String>, ClaimsError> {
    let mut groups = BTreeSet::new();
    if let Some(name) = &rules.groups_claim {
        match flat.0.get(name) {
            Some(value) if value.texts().iter().all(|group| is_name(group)) => {
                groups.extend(value.texts().iter().cloned());
            }
            Some(_) => return Err(ClaimsError::Groups(name.clone())),
            // The claim is there, but `Flat` left it out: it is neither a text nor a list of texts.
            None if claims.get(name).is_some_and(|value| !value.is_null()) => {
                return Err(ClaimsError::Groups(name.clone()));
            }
            None => {}
        }
    }
    groups.extend(rules.groups.iter().filter(|rule| rule.matches(flat)).map(|rule| rule.group.clone()));
    if groups.len() > GROUPS_MAX {
        return Err(ClaimsError::TooManyGroups);
    }
    Ok(groups.into_iter().collect())
}

/// The UID of the pod that the token is bound to; an error if another claim about the pod, such as the pod's
/// name, is there without the UID.
fn pod_uid(flat: &Flat, rules: &ClaimRules) -> Result<Option<String>, ClaimsError> {
    let Some(name) = &rules.pod_uid_claim else { return Ok(None) };
    if let Some(uid) = flat.0.get(name).and_then(ClaimValue::as_one) {
        return Ok(Some(uid.to_owned()));
    }
    let pod = name.rsplit_once('.').map_or(name.as_str(), |(pod, _)| pod);
    let mentions_pod = |claim: &String| claim.strip_prefix(pod).is_some_and(|rest| rest.starts_with('.'));
    if flat.0.contains_key(name) || flat.0.keys().any(mentions_pod) {
        return Err(ClaimsError::Pod(name.clone()));
    }
    Ok(None)
}

/// Whether a text can name a group.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= CLAIM_BYTES_MAX && !text.contains(char::is_control)
}

/// A claim's value: one text, or a list of texts.
#[derive(Debug)]
enum ClaimValue {
    One(String),
    Many(Vec<String>),
}

impl ClaimValue {
    /// `None` for null, for an object, and for a list with a null, an object or a list in it.
    fn new(value: &Value) -> Option<Self> {
        match value {
            Value::Array(members) => members.iter().map(scalar).collect::<Option<_>>().map(Self::Many),
            value => scalar(value).map(Self::One),
        }
    }

    /// All texts of the claim.
    fn texts(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        }
    }

    /// The claim's text; `None` for a list, even of one member, and for an empty text.
    fn as_one(&self) -> Option<&str> {
        match self {
            Self::One(text) if !text.is_empty() => Some(text),
            Self::One(_) | Self::Many(_) => None,
        }
    }

    /// The one text that [`Reading::claims`] shows.
    fn into_text(self) -> String {
        match self {
            Self::One(text) => text,
            Self::Many(texts) => {
                let escaped: Vec<_> =
                    texts.iter().map(|text| text.replace('\\', "\\\\").replace(',', "\\,")).collect();
                escaped.join(",")
            }
        }
    }
}

/// A string, number or boolean as text.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The claims that are text, numbers, booleans or lists of those, with the objects in [`ClaimRules::nested`]
/// flattened.
#[derive(Debug, Default)]
struct Flat(BTreeMap<String, ClaimValue>);

impl Flat {
    fn new(claims: &Map<String, Value>, nested: &[String]) -> Result<Self, ClaimsError> {
        let mut flat = Self::default();
        for (name, value) in claims {
            match value {
                Value::Object(members) if nested.contains(name) => flat.add_object(name, members, 1)?,
                value => flat.add(name.clone(), value)?,
            }
        }
        Ok(flat)
    }

    fn add_object(
        &mut self,
        prefix: &str,
        members: &Map<String, Value>,
        depth: usize,
    ) -> Result<(), ClaimsError> {
        if depth > NESTING_MAX {
            return Err(ClaimsError::TooDeep(prefix.chars().take(64).collect()));
        }
        for (name, value) in members {
            let name = format!("{prefix}.{name}");
            match value {
                Value::Object(members) => self.add_object(&name, members, depth + 1)?,
                value => self.add(name, value)?,
            }
        }
        Ok(())
    }

    fn add(&mut self, name: String, value: &Value) -> Result<(), ClaimsError> {
        let Some(value) = ClaimValue::new(value) else { return Ok(()) };
        if name.len() > CLAIM_BYTES_MAX {
            return Err(ClaimsError::TooLong);
        }
        if self.0.contains_key(&name) {
            return Err(ClaimsError::Twice(name.chars().take(64).collect()));
        }
        if self.0.len() >= CLAIMS_MAX {
            return Err(ClaimsError::TooMany);
        }
        self.0.insert(name, value);
        Ok(())
    }

    fn into_text(self) -> Result<BTreeMap<String, String>, ClaimsError> {
        let mut claims = BTreeMap::new();
        for (name, value) in self.0 {
            if LEFT_OUT.contains(&name.as_str()) {
                continue;
            }
            let text = value.into_text();
            if text.len() > CLAIM_BYTES_MAX {
                return Err(ClaimsError::TooLong);
            }
            claims.insert(name, text);
        }
        Ok(claims)
    }
}

#[cfg(test)]
mod tests;
