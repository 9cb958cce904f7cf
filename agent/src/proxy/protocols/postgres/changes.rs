//! Changes of settings that the text alone does not tell: by a function that is called without text, and by
//! the values of parameters; and what the client is told of a denied one.

use agent_core::{
    facts::{Action, Detail, Facts, SqlFacts},
    postgres::{Parameters, Statement},
};
use agent_sql::ByParameters;

/// The function `set_config`, by its OID (`pg_proc.dat`).
const SET_CONFIG: u32 = 2078;
/// `text`, `varchar`, and a type that the server finds out, by their OIDs (`pg_type.dat`): types of which the
/// server sees a value as it was bound.
const TEXT_TYPES: [u32; 3] = [25, 1043, 0];

/// What to do about a setting that can't be told.
const TELL_SETTING: &str =
    "write the setting's name in set_config as a constant or as a parameter of its own, or use SET";
/// What to do about a search path that can't be told.
const TELL_PATH: &str = "write the schemas of search_path as constants";

/// The facts of a FunctionCall. Its arguments are not read, so which setting `set_config` changes is not
/// known.
pub fn function_call(oid: u32) -> Facts {
    let mut facts = Facts::of_sql(Action::SqlCall);
    if oid == SET_CONFIG {
        let sql = SqlFacts {
            settings: vec!["?".into()],
            search_path: vec![None],
            awaits_settings: true,
            ..SqlFacts::one_statement()
        };
        facts.join(&Facts { detail: Some(Detail::Sql(sql)), ..Facts::of_sql(Action::SqlSet) });
    }
    facts
}

/// The facts of running what Parse made, with the values that were bound.
pub fn bound(by_parameters: &ByParameters, statement: &Statement, values: Option<&Parameters>) -> Facts {
    let values = values.and_then(Parameters::values).unwrap_or_default();
    by_parameters.bound(|number| {
        let value = values.get(usize::try_from(number).ok()?.checked_sub(1)?)?.value?;
        let is_text = TEXT_TYPES.contains(&statement.parameter_type(number));
        is_text.then(|| str::from_utf8(value).ok()).flatten()
    })
}

/// What the client can do about the denial of a command with these facts.
pub fn hint(facts: &Facts) -> Option<&'static str> {
    let sql = facts.sql()?;
    if sql.settings.iter().any(|name| **name == *"?") {
        return Some(TELL_SETTING);
    }
    sql.search_path.iter().any(Option::is_none).then_some(TELL_PATH)
}
