//! The policies of a bundle: read from Cedar text, named by their `@id`, validated strictly against the
//! schema, and sorted by the actions they can speak to.
//!
//! Nothing here is lenient: a template, a missing or repeated name, a validator's *warning* refuses the
//! bundle. A policy that can never apply is a rule that its author believes in and nobody enforces.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr as _;

use agent_core::facts::Action;
use cedar_policy::ffi::DetailedError;
use cedar_policy::{
    ActionConstraint, Policy, PolicyId, PolicySet, PrincipalConstraint, Schema, ValidationMode, Validator,
};
use serde::Serialize;

use crate::schema;
use crate::source::{BundleError, Source, line_of};
use crate::subject::UNIDENTIFIED;

/// How many policies one bundle may hold: each command is judged against all that speak to its actions.
pub(crate) const POLICIES_MAX: usize = 1_000;

/// How long a policy's name may be: it stands in errors, in the trail and in reports.
const NAME_BYTES_MAX: usize = 64;

/// What a policy does when it applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// It allows, unless another forbids.
    Permit,
    /// It denies, whatever the others say.
    Forbid,
}

/// One policy as its author wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyInfo {
    /// Its `@id`.
    pub name: Box<str>,
    /// What it does.
    pub effect: Effect,
    /// It denies nothing: what it would have denied is recorded.
    pub observed: bool,
    /// Its scope names the group of jobs without a credential: only such a permit grants them anything.
    pub means_unidentified: bool,
    /// The file it stands in.
    pub file: String,
    /// The line it starts at, from 1.
    pub line: usize,
    /// Its text, from its first annotation to its semicolon.
    pub text: String,
}

/// All policies of a bundle.
#[derive(Debug)]
pub(crate) struct Policies {
    by_name: BTreeMap<Box<str>, PolicyInfo>,
    by_action: HashMap<Action, ActionPolicies>,
}

/// The policies that can speak to one action; the others are never evaluated for it.
#[derive(Debug, Default)]
pub(crate) struct ActionPolicies {
    /// All of them.
    pub(crate) all: PolicySet,
    /// Those that are enforced.
    pub(crate) enforced: PolicySet,
    /// True when there are others.
    pub(crate) observes: bool,
    /// True when one of them may read what changes while a session's facts do not: the time, the approvals.
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
            let mut speaking = ActionPolicies::default();
            for (policy, source, offset) in policies.iter().filter(|(p, ..)| speaks_to(p, *action)) {
                // A policy that cannot be written as JSON cannot be looked into: taken to read the moment.
                speaking.reads_moment |= policy.to_json().map_or(true, |json| reads_moment(&json));
                let observed =
                    by_name.get(AsRef::<str>::as_ref(policy.id())).is_some_and(|info| info.observed);
                speaking.observes |= observed;
                let sets = [Some(&mut speaking.all), (!observed).then_some(&mut speaking.enforced)];
                for set in sets.into_iter().flatten() {
                    set.add(policy.clone()).map_err(|error| source.refuse_at(*offset, error))?;
                }
            }
            by_action.insert(*action, speaking);
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

    /// The policies that can speak to an action.
    pub(crate) fn speaking_to(&self, action: Action) -> Option<&ActionPolicies> {
        self.by_action.get(&action)
    }
}

/// The policies of one file, each with the offset it starts at.
fn parse(source: &Source) -> Result<Vec<(usize, Policy)>, BundleError> {
    // The whole file first: what its parser says carries offsets in the file, and the count checks the split.
    let whole = PolicySet::from_str(&source.text).map_err(|errors| {
        let told = DetailedError::from(&errors);
        let offset = told.source_locations.first().map_or(0, |place| place.loc.start);
        source.refuse_at(offset, told.message)
    })?;
    let mut policies = Vec::new();
    for (offset, text) in split(&source.text) {
        let policy = Policy::parse(None, text).map_err(|errors| {
            let told = DetailedError::from(&errors);
            let inner = told.source_locations.first().map_or(0, |place| place.loc.start);
            source.refuse_at(offset + inner, format_args!("{} (templates are not supported)", told.message))
        })?;
        policies.push((offset, policy));
    }
    if policies.len() != whole.num_of_policies() + whole.num_of_templates() {
        return Err(source.refuse_line(
            1,
            format_args!(
                "the file holds {} policies to Cedar but {} to lineal; put each on lines of its own",
                whole.num_of_policies() + whole.num_of_templates(),
                policies.len()
            ),
        ));
    }
    Ok(policies)
}

/// Cuts a file into policies at the semicolons that stand outside strings and comments.
fn split(text: &str) -> Vec<(usize, &str)> {
    #[derive(PartialEq)]
    enum At {
        Between,
        Policy(usize),
    }
    let mut at = At::Between;
    let mut pieces = Vec::new();
    let mut chars = text.char_indices().peekable();
    while let Some((offset, char)) = chars.next() {
        match char {
            '/' if chars.peek().is_some_and(|(_, next)| *next == '/') => {
                // Cedar's comments end at a carriage return, too.
                while chars.next_if(|(_, c)| !matches!(c, '\n' | '\r')).is_some() {}
            }
            _ if char.is_whitespace() => {}
            _ => {
                if at == At::Between {
                    at = At::Policy(offset);
                }
                if char == '"' {
                    while let Some((_, inside)) = chars.next() {
                        match inside {
                            '"' => break,
                            '\\' => drop(chars.next()),
                            _ => {}
                        }
                    }
                }
                if let (';', At::Policy(start)) = (char, &at) {
                    pieces.extend(text.get(*start..=offset).map(|piece| (*start, piece)));
                    at = At::Between;
                }
            }
        }
    }
    if let At::Policy(start) = at {
        pieces.extend(text.get(start..).map(|piece| (start, piece)));
    }
    pieces
}

/// Names a policy, or says why it can't be named.
fn describe(source: &Source, offset: usize, policy: &Policy) -> Result<PolicyInfo, BundleError> {
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
            let reason = "a permit denies nothing that could be observed; observe a forbid, or the bundle by \
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
            cedar_policy::Effect::Permit => Effect::Permit,
            cedar_policy::Effect::Forbid => Effect::Forbid,
        },
        observed,
        means_unidentified: match policy.principal_constraint() {
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

/// Runs Cedar's validator, strictly; the first finding in the order of files and lines is the reason.
fn validate(policies: &[(Policy, &Source, usize)], schema: &Schema) -> Result<(), BundleError> {
    let validator = Validator::new(schema.clone());
    for (policy, source, offset) in policies {
        let alone =
            PolicySet::from_policies([policy.clone()]).map_err(|error| source.refuse_at(*offset, error))?;
        let result = validator.validate(&alone, ValidationMode::Strict);
        let place = |told: DetailedError| {
            (told.source_locations.first().map_or(0, |place| place.loc.start), told.message)
        };
        let errors = result.validation_errors().map(|error| place(DetailedError::from(error)));
        let warnings = result.validation_warnings().map(|warning| place(DetailedError::from(warning)));
        // A misspelt name is an error, and makes the policy one that can never apply, of which Cedar warns.
        let first = errors.min().or_else(|| warnings.min());
        if let Some((inner, message)) = first {
            return Err(source.refuse_at(offset + inner, message));
        }
    }
    Ok(())
}

/// True unless the policy's scope rules the action out.
fn speaks_to(policy: &Policy, action: Action) -> bool {
    let names = |uid: &cedar_policy::EntityUid| {
        let id = uid.id().unescaped();
        id == action.name()
            || (!action.group().is_empty() && id == action.group())
            || (schema::is_sql(action) && id == schema::SQL)
    };
    match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(uid) => uid.id().unescaped() == action.name(),
        ActionConstraint::In(uids) => uids.iter().any(names),
    }
}

/// True when a policy, as Cedar's JSON, may read `context.time` or `context.approvals`: by name, or by using
/// `context` in any way other than reading one attribute of it.
fn reads_moment(json: &serde_json::Value) -> bool {
    use serde_json::Value;
    let is_context = |value: &Value| value.get("Var").and_then(Value::as_str) == Some("context");
    match json {
        Value::Object(fields) => {
            if is_context(json) {
                return true;
            }
            fields.iter().any(|(key, value)| {
                let attribute = value.get("attr").and_then(Value::as_str);
                match (key.as_str(), value.get("left"), attribute) {
                    // `context.sql` and `context has sql`, and nothing deeper to look into.
                    ("." | "has", Some(left), Some(name)) if is_context(left) => {
                        matches!(name, "time" | "approvals")
                    }
                    _ => reads_moment(value),
                }
            })
        }
        Value::Array(items) => items.iter().any(reads_moment),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Schema {
        Schema::from_cedarschema_str(&schema::schema_text()).unwrap().0
    }

    fn refused(text: &str) -> String {
        let source = Source::new("policies/default/x.cedar", text);
        Policies::load(&[&source], &schema()).unwrap_err().to_string()
    }

    #[test]
    fn a_file_is_cut_at_semicolons_outside_strings_and_comments() {
        let check = |text: &str, expect: &[(usize, &str)]| assert_eq!(split(text), expect, "{text:?}");
        check("", &[]);
        check("// a; b\n", &[]);
        check("a; b;", &[(0, "a;"), (3, "b;")]);
        check("// x;\n a \"b;\\\"c;\" d; // y;\ne", &[(7, "a \"b;\\\"c;\" d;"), (27, "e")]);
        check("// comment ends here\rforbid;", &[(21, "forbid;")]);
        check("a // x;\n;", &[(0, "a // x;\n;")]);
    }

    #[test]
    fn every_refusal_names_the_file_the_line_and_the_reason() {
        let check = |text: &str, line: usize, reason: &str| {
            let told = refused(text);
            assert!(told.starts_with(&format!("policies/default/x.cedar:{line}: ")), "{told}");
            assert!(told.contains(reason), "{told}");
        };
        check("\n\npermit(principal, action, resource)\n", 3, "unexpected end of input");
        check("@id(\"a\")\npermit(principal, action resource);", 2, "unexpected token `resource`");
        check("\npermit(principal, action, resource);", 2, "has no name; put @id");
        check("@id(\"a b\")\npermit(principal, action, resource);", 1, "must be 1 to 64 letters");
        check("@id(\"\") permit(principal, action, resource);", 1, "must be 1 to 64 letters");
        check(
            "@id(\"a\") permit(principal, action, resource);\n\n@id(\"a\") forbid(principal, action, resource);",
            3,
            "already taken at policies/default/x.cedar:1",
        );
        check(
            "@id(\"a\")\npermit(principal, action, resource)\nwhen { principal.isuer == \"x\" };",
            3,
            "attribute `isuer` on entity type `Job` not found",
        );
        check("@id(\"a\")\npermit(principal, action == Action::\"sql:slect\", resource);", 2, "sql:slect");
        check(
            "@id(\"a\")\npermit(principal is User, action, resource);",
            2,
            "unrecognized entity type `User`",
        );
        check(
            "@id(\"a\")\npermit(principal, action, resource)\nwhen { context.sql.hasWhere };",
            3,
            "attribute `sql`",
        );
        check(
            "@id(\"a\")\npermit(principal, action == Action::\"connect\", resource)\nwhen { principal.getTag(\"repository\") == \"x\" };",
            3,
            "tag",
        );
        check("@id(\"a\")\npermit(principal == ?principal, action, resource);", 2, "template");
        // A policy that can never apply is refused, though Cedar only warns.
        check("@id(\"a\")\npermit(principal, action == Action::\"sql:read\", resource);", 1, "impossible");
        check("@id(\"a\")\npermit(principal, action, resource is SshHost);", 1, "impossible");
        check(
            "@id(\"a\")\nforbid(principal, action, resource) when { principal.subject == \"\u{430}dmin\" };",
            2,
            "script",
        );
    }

    #[test]
    fn a_policy_is_described_by_its_place_and_text() {
        let text = "// first\n@id(\"one\")\npermit(principal, action, resource);\n@id(\"two\") forbid(principal, action,\n resource);";
        let source = Source::new("x.cedar", text);
        let policies = Policies::load(&[&source], &schema()).unwrap();
        let two = policies.get("two").unwrap();
        assert_eq!((two.line, two.effect), (4, Effect::Forbid));
        assert_eq!(two.text, "@id(\"two\") forbid(principal, action,\n resource);");
        assert_eq!(policies.iter().map(|p| &*p.name).collect::<Vec<_>>(), ["one", "two"]);
    }

    #[test]
    fn a_policy_is_evaluated_only_for_actions_in_its_scope() {
        let check = |scope: &str, speaks: &[&str], silent: &[&str]| {
            let source = Source::new("x.cedar", format!("@id(\"x\") permit(principal, {scope}, resource);"));
            let policies = Policies::load(&[&source], &schema()).unwrap();
            let count = |name: &str| {
                let action = Action::ALL.iter().find(|a| a.name() == name).unwrap();
                policies.speaking_to(*action).unwrap().all.num_of_policies()
            };
            speaks.iter().for_each(|name| assert_eq!(count(name), 1, "{scope} speaks to {name}"));
            silent.iter().for_each(|name| assert_eq!(count(name), 0, "{scope} is silent about {name}"));
        };
        check("action", &["connect", "sql:select", "sql:drop"], &[]);
        check("action == Action::\"sql:select\"", &["sql:select"], &["connect", "sql:show"]);
        check("action in Action::\"sql:read\"", &["sql:select", "sql:show"], &["connect", "sql:drop"]);
        check("action in Action::\"sql\"", &["sql:select", "sql:unparsed"], &["connect"]);
        check(
            "action in [Action::\"connect\", Action::\"sql:ddl\"]",
            &["connect", "sql:drop"],
            &["sql:select"],
        );
    }

    #[test]
    fn what_may_read_the_time_or_the_approvals_is_known() {
        let check = |condition: &str, expect: bool| {
            let text = format!(
                "@id(\"x\") permit(principal, action in Action::\"sql:read\", resource) when {{ {condition} }};"
            );
            let source = Source::new("x.cedar", text);
            let policies = Policies::load(&[&source], &schema()).unwrap();
            let read = policies.speaking_to(Action::SqlSelect).unwrap().reads_moment;
            assert_eq!(read, expect, "{condition}");
            assert!(!policies.speaking_to(Action::SqlDrop).unwrap().reads_moment, "{condition}");
        };
        check("true", false);
        check("context.sql.hasWhere", false);
        check("context has sql && context.process.uid == 0", false);
        check("principal.subject == \"context.time\"", false);
        check("context.time.hour > 6", true);
        check("context[\"time\"].hour > 6", true);
        check("context.sql.hasWhere && context.approvals.contains(\"dba\")", true);
        check("context has time", true);
        check("context has time.hour", true);
        check("[context.time.hour].contains(3)", true);
        check("(if context.sql.hasWhere then context else context).process.uid == 0", true);
        check("context == context", true);
        check("{ now: context.time }.now.hour == 1", true);
    }
}
