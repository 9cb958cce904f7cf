//! The schemas that a value of `search_path` names, as the server reads them.

/// The length at which the server cuts names, in bytes (`NAMEDATALEN`).
const NAME_BYTES: usize = 64;

/// The schemas in a value that is one text, as `set_config` and startup messages give it
/// (`SplitIdentifierString`). `None` among them stands for a part that can't be told.
pub fn search_path(text: &str) -> Vec<Option<Box<str>>> {
    let mut schemas = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    // An empty text is an empty list; after a comma a name must follow.
    while !rest.is_empty() || !schemas.is_empty() {
        let Some((name, after)) = quoted(rest).or_else(|| unquoted(rest)) else {
            // The server refuses such a value.
            schemas.push(None);
            break;
        };
        schemas.push(name);
        let after = after.trim_start_matches(is_space);
        match after.strip_prefix(',') {
            Some(next) => rest = next.trim_start_matches(is_space),
            None if after.is_empty() => break,
            None => {
                schemas.push(None);
                break;
            }
        }
    }
    schemas.into_iter().filter(|schema| schema.as_deref() != Some("")).collect()
}

/// The schemas that `SET` gives as a list of constants: each is one name, exactly as it stands.
pub(crate) fn listed<T: AsRef<str>>(words: &[T]) -> Vec<Option<Box<str>>> {
    words.iter().map(AsRef::as_ref).filter(|word| !word.is_empty()).map(known).collect()
}

/// A name in double quotes, and what follows it.
fn quoted(text: &str) -> Option<(Option<Box<str>>, &str)> {
    let mut rest = text.strip_prefix('"')?;
    let mut name = String::new();
    loop {
        let (part, after) = rest.split_once('"')?;
        name.push_str(part);
        match after.strip_prefix('"') {
            Some(after) => {
                name.push('"');
                rest = after;
            }
            None => return Some((known(&name), after)),
        }
    }
}

/// A name without quotes, and what follows it. The server folds it; how it folds what is not ASCII depends
/// on its encoding and locale.
fn unquoted(text: &str) -> Option<(Option<Box<str>>, &str)> {
    let end = text.find(|c| c == ',' || is_space(c)).unwrap_or(text.len());
    let (name, after) = text.split_at(end);
    if name.is_empty() {
        return None;
    }
    Some((if name.is_ascii() { known(&name.to_ascii_lowercase()) } else { None }, after))
}

/// A schema's name, unless the server cuts it. The server's own encoding may have more bytes for characters
/// that are not ASCII, but never more than four for each.
fn known(name: &str) -> Option<Box<str>> {
    let bytes = if name.is_ascii() { name.len() } else { 4 * name.chars().count() };
    (bytes < NAME_BYTES).then(|| name.into())
}

/// What `scanner_isspace` accepts.
fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_split_as_the_server_splits_it() {
        let check = |text: &str, expect: &[Option<&str>]| {
            let found = search_path(text);
            let found: Vec<_> = found.iter().map(Option::as_deref).collect();
            assert_eq!(found, expect, "{text}");
        };
        check("", &[]);
        check("  ", &[]);
        check("\"\"", &[]);
        check("Public", &[Some("public")]);
        check(" \"$user\" , public ", &[Some("$user"), Some("public")]);
        check("$user,a", &[Some("$user"), Some("a")]);
        check("\"A, \"\"b\", c", &[Some("A, \"b"), Some("c")]);
        check("\"é\"", &[Some("é")]);
        check("É", &[None]);
        check("a,", &[Some("a"), None]);
        check(",a", &[None]);
        check("a b", &[Some("a"), None]);
        check("\"a", &[Some("\"a")]);
        check(&"x".repeat(63), &[Some(&"x".repeat(63))]);
        check(&"x".repeat(64), &[None]);
        check(&format!("\"{}\"", "é".repeat(16)), &[None]);
    }
}
