//! The settings that decide how the server reads text. The grammar holds only for certain values of them:
//! with others, the same text can be another statement, and its facts would be wrong.
//!
//! Three places ask: what a startup message sets, what a statement sets, and what the server reports. All go
//! by this list, so that none refuses what another accepts.

/// The settings that decide how the server reads text, each with the values for which the grammar holds: in
/// lower case, and without what is not a letter or digit.
const SETTINGS: [(&str, &[&str]); 3] = [
    // In other encodings, bytes that are quotes or backslashes here can be part of other characters.
    ("client_encoding", &["utf8", "unicode", "sqlascii"]),
    ("standard_conforming_strings", &["on", "true", "yes", "1"]),
    ("backslash_quote", &["safeencoding"]),
];

/// Whether `setting`, in lower case, decides how the server reads text.
pub fn decides_reading(setting: &str) -> bool {
    SETTINGS.iter().any(|(name, _)| *name == setting)
}

/// Whether the server reads text as the grammar does while `setting` has this value. False for a setting that
/// does not [decide](decides_reading) how the server reads text.
pub fn keeps_reading(setting: &str, value: &str) -> bool {
    // PostgreSQL looks an encoding up by the letters and digits of its name, in lower case (`encnames.c`). A
    // value of the other settings with a character too many is refused by the server.
    let bare: String =
        value.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    SETTINGS.iter().any(|(name, values)| *name == setting && values.contains(&&*bare))
}
