//! The settings that decide how the server reads text. The grammar is that of their default values: with
//! others, the same text can be another statement, and its facts would be wrong.

/// These settings, and the values with which the server reads text as the grammar does: in lower case, and
/// without the characters that the server ignores in them.
const SETTINGS: [(&str, &[&str]); 4] = [
    // In other encodings, bytes that are quotes or backslashes here can be part of other characters.
    ("client_encoding", &["utf8", "unicode", "sqlascii"]),
    ("standard_conforming_strings", &["on", "true", "yes", "1"]),
    ("escape_string_warning", &["on", "true", "yes", "1"]),
    ("backslash_quote", &["safeencoding"]),
];

/// Whether a setting, in lower case, is one of these.
pub fn decides_reading(setting: &str) -> bool {
    SETTINGS.iter().any(|(name, _)| *name == setting)
}

/// Whether the server reads text as the grammar does while `setting`, one of these, has this value.
pub fn keeps_reading(setting: &str, value: &str) -> bool {
    // "not case-sensitive, and … ignores dashes and other non-alphanumerics" (`pg_char_to_encoding`).
    let bare: String =
        value.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    SETTINGS.iter().any(|(name, values)| *name == setting && values.contains(&&*bare))
}

/// Why a command that changes `setting` is denied whatever policies say: the text that follows could be
/// another statement than it seems. `?` stands for a setting whose name is not known.
pub fn altered_reading(setting: &str) -> Box<str> {
    match setting {
        "?" => "which setting it changes can't be told, and some decide how statements are read".into(),
        setting => format!("{setting} decides how statements are read, and may not be changed").into(),
    }
}
