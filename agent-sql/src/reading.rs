//! The settings that decide how the server reads text. The grammar here is that of their defaults: under others the
//! same text can be another statement, and no facts about it would be true.

/// The settings, and the values under which the grammar reads as the server does, in lower case and without what the
/// server ignores in them.
const SETTINGS: [(&str, &[&str]); 4] = [
    // Of other encodings the server takes bytes for other characters, quotes and backslashes among them.
    ("client_encoding", &["utf8", "unicode", "sqlascii"]),
    ("standard_conforming_strings", &["on", "true", "yes", "1"]),
    ("escape_string_warning", &["on", "true", "yes", "1"]),
    ("backslash_quote", &["safeencoding"]),
];

/// Whether the setting, in lower case, is one of those.
pub fn decides_reading(setting: &str) -> bool {
    SETTINGS.iter().any(|(name, _)| *name == setting)
}

/// Whether the grammar still reads as the server does once `setting`, one of those, is `value`.
pub fn keeps_reading(setting: &str, value: &str) -> bool {
    // "not case-sensitive, and … ignores dashes and other non-alphanumerics" (`pg_char_to_encoding`).
    let bare: String =
        value.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    SETTINGS.iter().any(|(name, values)| *name == setting && values.contains(&&*bare))
}

/// Why a command that changes `setting` is denied whatever policies say: the text that follows could be another
/// statement than it seems. `?` stands for a setting whose name is not known.
pub fn altered_reading(setting: &str) -> Box<str> {
    match setting {
        "?" => "which setting it changes can't be told, and some decide how statements are read".into(),
        setting => format!("{setting} decides how statements are read, and may not be changed").into(),
    }
}
