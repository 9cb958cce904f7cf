//! What changes of settings add to facts: the settings' names, the schemas on the search path, and whether
//! the server would read text in another way.

use std::borrow::Cow;

use agent_core::{
    facts::SqlFacts,
    postgres::{decides_reading, keeps_reading},
};

use crate::{
    reading::altered_reading,
    search_path::{listed, search_path},
};

/// Stands for a setting whose name can't be told.
pub(crate) const UNTOLD: &str = "?";

/// The one setting whose value matters to how names are resolved.
const SEARCH_PATH: &str = "search_path";

/// What a setting is changed to.
pub(crate) enum Value<'a> {
    /// The value that it had when the session began.
    Initial,
    /// The constants of a `SET`.
    Words(Vec<Cow<'a, str>>),
    /// This text, as a whole.
    Text(&'a str),
    /// A value that the text does not tell.
    Unknown,
}

impl Value<'_> {
    /// The value as one text, if it is one.
    fn text(&self) -> Option<&str> {
        match self {
            Self::Words(words) => match &**words {
                [word] => Some(word),
                _ => None,
            },
            Self::Text(text) => Some(text),
            Self::Initial | Self::Unknown => None,
        }
    }
}

/// The changes gathered so far.
#[derive(Clone, Default)]
pub(crate) struct Settings {
    names: Vec<Box<str>>,
    search_path: Vec<Option<Box<str>>>,
    /// A setting whose change would make the server read text in another way.
    pub(crate) alters_reading: Option<Box<str>>,
    /// Only the server can tell which setting is changed, or whether it is the one that the text seems to
    /// say.
    pub(crate) awaited: bool,
}

impl Settings {
    /// A change of the setting `name`; [`UNTOLD`] for any. The server ignores the case of settings' names,
    /// even of quoted ones.
    pub(crate) fn change(&mut self, name: &str, value: &Value<'_>) {
        let name: Box<str> = name.to_ascii_lowercase().into();
        if decides_reading(&name) {
            match value {
                // The value at the session's beginning was checked then.
                Value::Initial => return,
                value if value.text().is_some_and(|text| keeps_reading(&name, text)) => return,
                _ => self.alters_reading = Some(name.clone()),
            }
        }
        if &*name == UNTOLD {
            // It may be one of those. The server reports the two that can make it read another statement
            // than the analysis; the third, backslash_quote, can only make it refuse one (scan.l).
            self.awaited = true;
            self.search_path.push(None);
        }
        if &*name == SEARCH_PATH {
            match value {
                Value::Initial => {}
                Value::Words(words) => self.search_path.extend(listed(words)),
                Value::Text(text) => self.search_path.extend(search_path(text)),
                Value::Unknown => self.search_path.push(None),
            }
        }
        self.names.push(name);
    }

    /// A schema in which the rest of the text looks first; `None` for one that can't be told.
    pub(crate) fn look_in(&mut self, schema: Option<&str>) {
        self.search_path.push(schema.map(Into::into));
    }

    /// Adds the changes that an inner statement makes.
    pub(crate) fn absorb(&mut self, inner: Self) {
        self.names.extend(inner.names);
        self.search_path.extend(inner.search_path);
        self.alters_reading = self.alters_reading.take().or(inner.alters_reading);
        self.awaited |= inner.awaited;
    }

    /// Bars what could be seen to happen only by awaiting the server's reports: it does not happen now.
    pub(crate) fn bar_awaited(&mut self) {
        if std::mem::take(&mut self.awaited) {
            self.alters_reading.get_or_insert_with(|| UNTOLD.into());
        }
    }

    /// Puts the changes into facts, in their canonical form. Returns why the command is barred, if it is.
    pub(crate) fn put(mut self, sql: &mut SqlFacts) -> Option<Box<str>> {
        self.names.sort_unstable();
        self.names.dedup();
        self.search_path.sort_unstable();
        self.search_path.dedup();
        (sql.settings, sql.search_path, sql.awaits_settings) = (self.names, self.search_path, self.awaited);
        self.alters_reading.map(|setting| altered_reading(&setting))
    }
}

/// Whether facts depend on the value that this setting is changed to.
pub(crate) fn depends_on_value(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name == SEARCH_PATH || decides_reading(&name)
}
