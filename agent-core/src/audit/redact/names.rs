//! Tells from the name of an option, variable, setting or header whether its value is a secret.

/// A name is a secret's if one of its words ends in one of these: `PGPASSWORD`, `authToken`.
const SECRET_ENDINGS: &[&str] = &[
    "password",
    "passwords",
    "passwd",
    "passphrase",
    "passcode",
    "secret",
    "secrets",
    "token",
    "tokens",
    "apikey",
    "credential",
    "credentials",
    "authorization",
    "bearer",
    "jwt",
    "cookie",
    "signature",
];

/// A name is a secret's if one of its words is one of these.
const SECRET_WORDS: &[&str] = &["pass", "pwd", "pw", "sig"];

/// A name is a secret's if `key` follows one of these. `key` alone is more often a column or a file.
const SECRET_KEYS: &[&str] = &[
    "access",
    "account",
    "api",
    "auth",
    "encryption",
    "master",
    "private",
    "secret",
    "session",
    "shared",
    "signing",
    "storage",
];

/// A name that ends in one of these words is about a secret, such as its file or its lifetime, and not the
/// secret.
const ABOUT_A_SECRET: &[&str] = &[
    "age", "count", "dir", "expiry", "fd", "file", "format", "id", "jar", "length", "limit", "mode", "name",
    "path", "policy", "prompt", "provider", "stdin", "ttl", "type",
];

/// Whether a value under this name is a secret. Leading dashes are ignored.
pub(super) fn is_secret(name: &str) -> bool {
    // These hold the shell's working directories, although `pwd` is short for password elsewhere.
    if matches!(name, "PWD" | "OLDPWD") {
        return false;
    }
    let words = words(name);
    let first = words.first().map(String::as_str);
    let last = words.last().map_or("", String::as_str);
    if first == Some("no") || (words.len() > 1 && ABOUT_A_SECRET.contains(&last)) {
        return false;
    }
    let mut before = "";
    for word in &words {
        let is_key = matches!(word.as_str(), "key" | "keys") && SECRET_KEYS.contains(&before);
        let ends = SECRET_ENDINGS.iter().any(|ending| word.ends_with(ending));
        if is_key || ends || SECRET_WORDS.contains(&word.as_str()) {
            return true;
        }
        before = word;
    }
    false
}

/// Whether `text` can be a name: of a variable, a setting, an option or a header.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_name_char)
}

/// Whether a character can be part of a name.
pub(super) fn is_name_char(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// A name's words, in lower case: split at punctuation and where a capital follows a small letter.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut after_small = false;
    for c in name.chars() {
        let starts = !c.is_alphanumeric() || (after_small && c.is_uppercase());
        if starts && words.last().is_some_and(|word| !word.is_empty()) {
            words.push(String::new());
        }
        after_small = c.is_lowercase();
        if let (true, Some(word)) = (c.is_alphanumeric(), words.last_mut()) {
            word.extend(c.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}
