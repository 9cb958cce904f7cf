//! The policies of a bundle: read from Cedar text, named by their `@id`, validated strictly against the
//! schema, and sorted by the actions that they can apply to.
//!
//! Nothing here is lenient: a template, a missing or repeated name, even a *warning* of the validator refuses
//! the bundle. A policy that can never apply is a rule that its author relies on and nobody enforces.
//!
//! - [`parse`]: cuts a file into policies; [`describe`]: gives each its name and its place in the file.
//! - [`scope`]: which actions a policy can apply to, and whether it can read the time or the approvals.

mod describe;
mod parse;
mod scope;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use agent_core::facts::Action;
use cedar_policy::{Policy, PolicyId, PolicySet, Schema, ValidationMode, Validator, ffi::DetailedError};

pub use self::describe::{PolicyEffect, PolicyInfo};
use self::{
    describe::describe,
    parse::parse,
    scope::{can_apply_to, reads_moment},
};
use super::source::{BundleError, Source};

/// How many policies one bundle may hold: each access is asked of every policy that can apply to its action.
pub(crate) const POLICIES_MAX: usize = 1_000;

/// All policies of a bundle.
#[derive(Debug)]
pub(crate) struct Policies {
    by_name: BTreeMap<Box<str>, PolicyInfo>,
    by_action: HashMap<Action, ActionPolicies>,
}

/// The policies that can apply to one action. The others are never evaluated for it.
#[derive(Debug, Default)]
pub(crate) struct ActionPolicies {
    /// All of them.
    pub(crate) all: PolicySet,
    /// Those that are enforced.
    pub(crate) enforced: PolicySet,
    /// True if there are observed ones.
    pub(crate) observes: bool,
    /// True if one of them may read the time or the approvals: these change while facts stay equal.
    pub(crate) reads_moment: bool,
}

impl Policies {
    /// Reads and validates the policies of all sources.
    pub(crate) fn load(sources: &[&Source], schema: &Schema) -> Result<Self, BundleError> {
        let mut by_name: BTreeMap<Box<str>, PolicyInfo> = BTreeMap::new();
        let mut policies = Vec::new();
        for source in sources {
            for (offset, policy) in parse(source)? {
                let info = describe(source, offset, &policy)?;
                if let Some(first) = by_name.get(&info.name) {
                    return Err(source.refuse_at(
                        offset,
                        format_args!(
                            "the policy name \"{}\" is already taken at {}:{}; give each policy its own @id",
                            info.name, first.file, first.line
                        ),
                    ));
                }
                if policies.len() == POLICIES_MAX {
                    return Err(source
                        .refuse_at(offset, format_args!("more than {POLICIES_MAX} policies in one bundle")));
                }
                policies.push((policy.new_id(PolicyId::new(&info.name)), *source, offset));
                by_name.insert(info.name.clone(), info);
            }
        }
        validate(&policies, schema)?;
        let mut by_action = HashMap::new();
        for action in Action::ALL {
            let mut applicable = ActionPolicies::default();
            for (policy, source, offset) in policies.iter().filter(|(p, ..)| can_apply_to(p, *action)) {
                applicable.reads_moment |= reads_moment(policy);
                let observed =
                    by_name.get(AsRef::<str>::as_ref(policy.id())).is_some_and(|info| info.observed);
                applicable.observes |= observed;
                let sets = [Some(&mut applicable.all), (!observed).then_some(&mut applicable.enforced)];
                for set in sets.into_iter().flatten() {
                    set.add(policy.clone()).map_err(|error| source.refuse_at(*offset, error))?;
                }
            }
            by_action.insert(*action, applicable);
        }
        Ok(Self { by_name, by_action })
    }

    /// Every policy, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &PolicyInfo> {
        self.by_name.values()
    }

    /// The policy of a name.
    pub(crate) fn get(&self, name: &str) -> Option<&PolicyInfo> {
        self.by_name.get(name)
    }

    /// The policies that can apply to an action.
    pub(crate) fn for_action(&self, action: Action) -> Option<&ActionPolicies> {
        self.by_action.get(&action)
    }
}

/// Runs Cedar's validator in strict mode. The first finding, in the order of files and lines, refuses the
/// bundle.
fn validate(policies: &[(Policy, &Source, usize)], schema: &Schema) -> Result<(), BundleError> {
    let validator = Validator::new(schema.clone());
    for (policy, source, offset) in policies {
        let alone =
            PolicySet::from_policies([policy.clone()]).map_err(|error| source.refuse_at(*offset, error))?;
        let result = validator.validate(&alone, ValidationMode::Strict);
        let located = |detail: DetailedError| {
            (detail.source_locations.first().map_or(0, |at| at.loc.start), detail.message)
        };
        let errors = result.validation_errors().map(|error| located(DetailedError::from(error)));
        let warnings = result.validation_warnings().map(|warning| located(DetailedError::from(warning)));
        // Errors first: a misspelt name is an error, and in consequence a warning that the policy can never
        // apply.
        let first = errors.min().or_else(|| warnings.min());
        if let Some((inner, message)) = first {
            return Err(source.refuse_at(offset + inner, message));
        }
    }
    Ok(())
}
