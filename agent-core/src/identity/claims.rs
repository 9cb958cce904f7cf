//! From proven claims to a credential: claims as text, groups, the CI run and the pod.
//!
//! The claims must have been verified before they come here. What is not understood is left out of the
//! credential or refused, never guessed; what is too much is refused.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::replay::RunKey;

/// How many claims a credential holds. GitHub's tokens have about 35, GitLab's about 40.
pub const CLAIMS_MAX: usize = 128;
/// The longest name and the longest text of one claim.
pub const CLAIM_BYTES_MAX: usize = 4096;
/// How many groups a credential is in.
pub const GROUPS_MAX: usize = 256;
/// How many objects deep claims are flattened.
const NESTING_MAX: usize = 4;

/// Claims that the credential says elsewhere, or that say nothing about who acts.
const LEFT_OUT: [&str; 5] = ["exp", "iat", "iss", "nbf", "sub"];

/// What an issuer's tokens mean.
#[derive(Clone, Debug, Default)]
pub struct ClaimRules {
    /// Claims whose value is an object that is flattened, its members joined to it with dots.
    pub nested: Vec<String>,
    /// The claim that lists groups.
    pub groups_claim: Option<String>,
    /// Groups by rules over claims.
    pub groups: Vec<GroupRule>,
    /// The claims that name the CI run.
    pub run_claims: Vec<String>,
    /// The claim that names the pod a token is bound to.
    pub pod_uid_claim: Option<String>,
}

/// One rule: who matches every claim is in the group.
#[derive(Clone, Debug)]
pub struct GroupRule {
    group: String,
    claims: Vec<(String, Pattern)>,
}

/// What a claim's text must be: exactly this, or, with a `*` at the end, something that starts so.
#[derive(Clone, Debug)]
enum Pattern {
    Exactly(String),
    StartsWith(String),
}

/// Why a group rule can't stand.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum GroupRuleError {
    /// It has no usable name.
    #[error("a group's name must be text of 1 to {CLAIM_BYTES_MAX} bytes without control characters")]
    Name,
    /// It would put everybody in.
    #[error("the rule for group `{0}` names no claim, so it would put every token in; name one")]
    NoClaims(String),
    /// A `*` that isn't at the end.
    #[error("in the rule for group `{group}` the pattern for `{claim}` has a `*` that is not at its end")]
    Star {
        /// The group.
        group: String,
        /// The claim.
        claim: String,
    },
}

impl GroupRule {
    /// A rule that puts tokens into `group` whose claims match all of `claims`.
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

/// Why claims make no credential.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ClaimsError {
    /// More than [`CLAIMS_MAX`].
    #[error("the token has more than {CLAIMS_MAX} claims")]
    TooMany,
    /// One longer than [`CLAIM_BYTES_MAX`].
    #[error("the token has a claim with a name or a value longer than {CLAIM_BYTES_MAX} bytes")]
    TooLong,
    /// More than [`GROUPS_MAX`].
    #[error("the token is in more than {GROUPS_MAX} groups")]
    TooManyGroups,
    /// The groups claim isn't a list of names.
    #[error("the token's claim `{0}` is not a list of group names")]
    Groups(String),
    /// It speaks of a pod without naming it: taken for unbound it would be good anywhere.
    #[error("the token is bound to a pod, but its claim `{0}` does not name it")]
    Pod(String),
    /// Two claims that flatten to one name.
    #[error("the token says `{0}` twice")]
    Twice(String),
    /// Objects nested more deeply than is looked at.
    #[error("the token's claim `{0}` is nested more than {NESTING_MAX} objects deep")]
    TooDeep(String),
}

/// What claims say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Groups; sorted, unique.
    pub groups: Vec<String>,
    /// The claims as text. A list is joined with commas; a comma or a backslash inside one of its members
    /// has a backslash before it, so that one member can't pass for two.
    pub claims: BTreeMap<String, String>,
    /// The CI run, if the issuer's tokens name one and this one carries every claim of it.
    pub run: Option<RunKey>,
    /// The pod it is bound to.
    pub pod_uid: Option<String>,
}

/// Reads proven claims by an issuer's rules.
pub fn read(claims: &Map<String, Value>, rules: &ClaimRules) -> Result<Reading, ClaimsError> {
    let flat = Flat::new(claims, &rules.nested)?;
    let text = |name: &String| flat.0.get(name).and_then(ClaimValue::as_one);
    let run: Option<BTreeMap<_, _>> =
        rules.run_claims.iter().map(|name| Some((name.clone(), text(name)?.to_owned()))).collect();
    Ok(Reading {
        groups: groups(claims, &flat, rules)?,
        // No run claims configured: an empty map, which is no run.
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
            // Left out by the flattening, yet there: not a list of text.
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

fn pod_uid(flat: &Flat, rules: &ClaimRules) -> Result<Option<String>, ClaimsError> {
    let Some(name) = &rules.pod_uid_claim else { return Ok(None) };
    if let Some(uid) = flat.0.get(name).and_then(ClaimValue::as_one) {
        return Ok(Some(uid.to_owned()));
    }
    let pod = name.rsplit_once('.').map_or(name.as_str(), |(pod, _)| pod);
    let speaks_of_it = |claim: &String| claim.strip_prefix(pod).is_some_and(|rest| rest.starts_with('.'));
    if flat.0.contains_key(name) || flat.0.keys().any(speaks_of_it) {
        return Err(ClaimsError::Pod(name.clone()));
    }
    Ok(None)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= CLAIM_BYTES_MAX && !text.contains(char::is_control)
}

#[derive(Debug)]
enum ClaimValue {
    One(String),
    Many(Vec<String>),
}

impl ClaimValue {
    fn new(value: &Value) -> Option<Self> {
        match value {
            Value::Array(members) => members.iter().map(scalar).collect::<Option<_>>().map(Self::Many),
            value => scalar(value).map(Self::One),
        }
    }

    fn texts(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        }
    }

    fn as_one(&self) -> Option<&str> {
        match self {
            Self::One(text) if !text.is_empty() => Some(text),
            Self::One(_) | Self::Many(_) => None,
        }
    }

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

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The claims that are text, number, boolean or a list of those, with known objects flattened.
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
