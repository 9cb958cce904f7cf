//! Calls of `set_config` of which only the parameters of a Bind message tell the setting or its value.
//!
//! Drivers that bind values on the server send `SELECT set_config($1, $2, false)`. Such a statement is
//! decided by the settings that the bound values name. Its preparation is decided without them: planning a
//! statement does not call `set_config`, which is volatile.

use std::collections::HashMap;

use agent_core::facts::{Detail, Facts, SqlFacts};

use crate::settings::{Settings, UNTOLD, Value};

/// The length from which a value bound as `name` is cut, in bytes.
const NAME_BYTES: usize = 63;

/// An argument of `set_config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operand {
    /// A constant.
    Text(Box<str>),
    /// The parameter of this number, from 1.
    Parameter(i32),
    /// Anything else.
    Unknown,
}

/// A call of `set_config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SetConfig {
    pub(crate) name: Operand,
    pub(crate) value: Operand,
    /// Whether the server certainly sees the arguments that the text seems to give.
    pub(crate) certain: bool,
}

impl SetConfig {
    /// Adds the change that the call makes, with these values of the parameters.
    pub(crate) fn change<'v>(&self, settings: &mut Settings, value: impl Fn(i32) -> Option<&'v str>) {
        let name = match &self.name {
            Operand::Text(name) => Some(&**name),
            Operand::Parameter(number) => value(*number).filter(|name| is_plain(name)),
            Operand::Unknown => None,
        };
        let to = match &self.value {
            Operand::Text(text) => Some(&**text),
            Operand::Parameter(number) => value(*number),
            Operand::Unknown => None,
        };
        settings.change(name.unwrap_or(UNTOLD), &to.map_or(Value::Unknown, Value::Text));
        settings.awaited |= !self.certain;
    }
}

/// A statement's facts, by the values of its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByParameters {
    base: Facts,
    calls: Vec<SetConfig>,
}

impl ByParameters {
    /// The facts of a statement that does `base` and makes these calls. `references` holds the number of each
    /// parameter as often as the statement refers to it: one that it refers to elsewhere, too, can have
    /// another type than the call gives it.
    pub(crate) fn new(base: Facts, mut calls: Vec<SetConfig>, references: &[i32]) -> Self {
        let mut times: HashMap<i32, u32> = HashMap::new();
        for number in references {
            *times.entry(*number).or_default() += 1;
        }
        for call in &mut calls {
            for operand in [&mut call.name, &mut call.value] {
                if let Operand::Parameter(number) = operand
                    && times.get(number) != Some(&1)
                {
                    *operand = Operand::Unknown;
                }
            }
        }
        Self { base, calls }
    }

    /// The facts of preparing the statement.
    pub fn prepared(&self) -> &Facts {
        &self.base
    }

    /// The facts of running the statement with these values of its parameters, by their numbers from 1. There
    /// must be a value only for a parameter whose declared type is a character type without a length.
    pub fn bound<'v>(&self, value: impl Fn(i32) -> Option<&'v str>) -> Facts {
        let mut settings = Settings::default();
        for call in &self.calls {
            call.change(&mut settings, &value);
        }
        let mut sql = SqlFacts::one_statement();
        let barred = settings.put(&mut sql);
        let mut facts = self.base.clone();
        facts.join(&Facts { accesses: Vec::new(), detail: Some(Detail::Sql(sql)), barred });
        facts
    }
}

/// Whether a text is certain to reach the server as it is, and to be equal to no other name than itself:
/// conversions between character types drop blanks, collations ignore accents.
pub(crate) fn is_plain(name: &str) -> bool {
    name.len() < NAME_BYTES && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.".contains(&byte))
}
