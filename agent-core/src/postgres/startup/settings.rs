//! The settings that a StartupMessage changes: by parameters of its own, and inside `options`, which
//! PostgreSQL reads as a command line (`pg_split_opts`, `process_postgres_switches`).
//!
//! An option that is not a setting must never be passed over in silence: it is refused by name.

use thiserror::Error;

use super::message::{PROTOCOL_OPTION, Startup};

/// A setting: its name as PostgreSQL folds it, and its value.
pub type Setting = (Box<str>, Box<str>);

/// `options` holds this switch, which is not a setting or cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "the startup option {0:?} is not carried: `options` may hold settings only (-c name=value, --name=value)"
)]
pub struct UnsupportedOption(pub Box<str>);

impl Startup {
    /// Everything that this message sets, in the order in which PostgreSQL sets it.
    ///
    /// # Errors
    /// `options` holds a switch that is not a setting, or cannot be read.
    pub fn settings(&self) -> Result<Vec<Setting>, UnsupportedOption> {
        let mut settings = Vec::new();
        for (name, value) in &self.parameters {
            match &**name {
                "user" | "database" | "replication" => {}
                "options" => settings.extend(from_options(value)?),
                // Protocol options are negotiated, not set.
                name if name.starts_with(PROTOCOL_OPTION) => {}
                name => settings.push((folded(name), value.clone())),
            }
        }
        Ok(settings)
    }
}

fn from_options(options: &str) -> Result<Vec<Setting>, UnsupportedOption> {
    let mut settings = Vec::new();
    let mut words = split(options).into_iter();
    while let Some(word) = words.next() {
        let unsupported = || UnsupportedOption(word.as_str().into());
        let setting = match word.strip_prefix("--") {
            Some(setting) => setting.to_owned(),
            None => match word.strip_prefix("-c").ok_or_else(unsupported)? {
                "" => words.next().ok_or_else(unsupported)?,
                setting => setting.to_owned(),
            },
        };
        let (name, value) = setting.split_once('=').ok_or_else(unsupported)?;
        settings.push((folded(&name.replace('-', "_")), value.into()));
    }
    Ok(settings)
}

/// The words of `options`. White space divides them; a backslash takes the next character as it is.
fn split(options: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = options.chars();
    while let Some(character) = characters.next() {
        match character {
            // What C's `isspace` accepts.
            ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c' => words.extend(word.take()),
            '\\' => word.get_or_insert_default().extend(characters.next()),
            character => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

fn folded(name: &str) -> Box<str> {
    name.to_ascii_lowercase().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(parameters: &[(&str, &str)]) -> Result<Vec<Setting>, UnsupportedOption> {
        let parameters = parameters.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Startup { minor_version: 0, user: "u".into(), database: "d".into(), parameters }.settings()
    }

    fn check(options: &str, expect: &[(&str, &str)]) {
        let found = settings(&[("user", "u"), ("options", options)]).unwrap();
        let found: Vec<(&str, &str)> = found.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(found, expect, "{options}");
    }

    #[test]
    fn options_are_read_as_postgresql_reads_them() {
        check("", &[]);
        check("-c role=x", &[("role", "x")]);
        check("-crole=x  --search-path=a,b", &[("role", "x"), ("search_path", "a,b")]);
        check("-c r\\ole=x", &[("role", "x")]);
        check("-c\\ role=x", &[(" role", "x")]);
        check("\t-c ROLE=x\\ y=z\n", &[("role", "x y=z")]);
        check("--standard\\-conforming_strings=off", &[("standard_conforming_strings", "off")]);
    }

    #[test]
    fn options_that_are_not_settings_are_refused() {
        for options in ["-F", "-d 5", "x", "-c", "-c role", "--", "-e", "\\"] {
            assert!(settings(&[("options", options)]).is_err(), "{options}");
        }
    }

    #[test]
    fn parameters_other_than_the_protocols_own_are_settings() {
        let found = settings(&[("user", "u"), ("_pq_.x", "1"), ("TimeZone", "UTC"), ("replication", "off")]);
        assert_eq!(found.unwrap(), [("timezone".into(), "UTC".into())]);
    }
}
