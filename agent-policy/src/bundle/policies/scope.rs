//! What a policy can apply to and what it can read, from its scope and conditions. Where this is
//! uncertain, the answer is that it can.

use agent_core::facts::Action;
use cedar_policy::{ActionConstraint, Policy};
use serde_json::Value;

/// True unless the policy's scope rules the action out.
pub(super) fn can_apply_to(policy: &Policy, action: Action) -> bool {
    let names = |uid: &cedar_policy::EntityUid| {
        let id = uid.id().unescaped();
        let groups = [action.group(), action.family().root()];
        id == action.name() || groups.iter().any(|group| !group.is_empty() && id == *group)
    };
    match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(uid) => uid.id().unescaped() == action.name(),
        ActionConstraint::In(uids) => uids.iter().any(names),
    }
}

/// True if the policy may read `context.time` or `context.approvals`.
pub(super) fn reads_moment(policy: &Policy) -> bool {
    // A policy that cannot be written as JSON cannot be looked into.
    policy.to_json().map_or(true, |json| json_reads_moment(&json))
}

/// [`reads_moment`] of a policy as Cedar's JSON: true if it reads one of the two attributes by name, or uses
/// `context` in any other way than to read one attribute of it.
fn json_reads_moment(json: &Value) -> bool {
    let is_context = |value: &Value| value.get("Var").and_then(Value::as_str) == Some("context");
    match json {
        Value::Object(fields) => {
            if is_context(json) {
                return true;
            }
            fields.iter().any(|(key, value)| {
                let attribute = value.get("attr").and_then(Value::as_str);
                match (key.as_str(), value.get("left"), attribute) {
                    // `context.NAME` or `context has NAME`: only the name matters.
                    ("." | "has", Some(left), Some(name)) if is_context(left) => {
                        matches!(name, "time" | "approvals")
                    }
                    _ => json_reads_moment(value),
                }
            })
        }
        Value::Array(items) => items.iter().any(json_reads_moment),
        _ => false,
    }
}
