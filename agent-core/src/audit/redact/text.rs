//! Secrets inside text: settings, headers, JSON, URLs, SQL, and tokens known by their form.

use super::names::{is_name_char, is_secret};

/// The text that replaces a secret.
pub const MASK: &str = "***";

/// Prefixes by which issuers mark their tokens, so that scanners find them.
const TOKEN_PREFIXES: &[&str] = &[
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "glptt-",
    "gldt-",
    "xoxa-",
    "xoxb-",
    "xoxp-",
    "xoxs-",
    "sk-",
    "sk_live_",
    "rk_live_",
    "hvs.",
    "hvb.",
    "npm_",
    "pypi-",
    "dckr_pat_",
    "shpat_",
];

/// The shortest text with a token's prefix that counts as a token.
const TOKEN_CHARS_MIN: usize = 16;

/// `text` with the secrets found in it masked.
pub(super) fn redact(text: &str) -> String {
    if let Some(at) = text.find("-----BEGIN ")
        && text.contains("PRIVATE KEY-----")
    {
        let (before, _) = text.split_at(at);
        return format!("{}{MASK}", redact(before));
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut previous = "";
    while !rest.is_empty() {
        let (name, after) = take(rest, is_name_char);
        rest = if name.is_empty() {
            let (other, after) = take(rest, |c| !is_name_char(c));
            out.push_str(other);
            after
        } else if let Some(after) = after.strip_prefix("://") {
            url(name, after, &mut out)
        } else if is_token(name) {
            out.push_str(MASK);
            after
        } else if is_secret(name) {
            out.push_str(name);
            value(name, after, &mut out)
        } else if name.eq_ignore_ascii_case("by") && previous.eq_ignore_ascii_case("identified") {
            // MySQL: IDENTIFIED BY '…'.
            out.push_str(name);
            quoted_after_space(after, &mut out)
        } else {
            out.push_str(name);
            after
        };
        if !name.is_empty() {
            previous = name;
        }
    }
    out
}

/// Whether `name=` follows a space somewhere, which makes the text a list of settings and not one value.
pub(super) fn has_setting(text: &str) -> bool {
    text.split_whitespace().skip(1).any(|word| {
        let (name, rest) = take(word, is_name_char);
        !name.is_empty() && rest.starts_with('=')
    })
}

/// A piece of a script.
pub(super) enum Piece<'a> {
    /// White space and operators between words.
    Space(&'a str),
    /// A word, with its quotes.
    Word(&'a str),
}

/// A script's words, split nearly as a shell would. Every byte of the script is in one of the pieces.
pub(super) fn shell_words(script: &str) -> Vec<Piece<'_>> {
    let is_space = |c: char| c.is_whitespace() || matches!(c, ';' | '|' | '&' | '(' | ')' | '<' | '>');
    let mut pieces = Vec::new();
    let mut rest = script;
    while !rest.is_empty() {
        let (space, after) = take(rest, is_space);
        if !space.is_empty() {
            pieces.push(Piece::Space(space));
        }
        let mut quote = None;
        let mut escaped = false;
        let end = after.char_indices().find(|(_, c)| {
            if escaped {
                escaped = false;
                return false;
            }
            match (quote, *c) {
                (_, '\\') => escaped = true,
                (Some(open), c) if open == c => quote = None,
                (None, '"' | '\'') => quote = Some(*c),
                (None, c) if is_space(c) => return true,
                _ => {}
            }
            false
        });
        let (word, after) = after.split_at(end.map_or(after.len(), |(at, _)| at));
        if !word.is_empty() {
            pieces.push(Piece::Word(word));
        }
        rest = after;
    }
    pieces
}

/// A word without the quotes around the whole of it.
pub(super) fn unquoted(word: &str) -> &str {
    ['"', '\'']
        .iter()
        .find_map(|quote| word.strip_prefix(*quote)?.strip_suffix(*quote))
        .filter(|inner| !inner.contains(['"', '\'']) || inner.contains(char::is_whitespace))
        .unwrap_or(word)
}

/// Writes the text after a secret's name with the value masked, if there is a value, and returns the rest.
fn value<'a>(name: &str, after: &'a str, out: &mut String) -> &'a str {
    // JSON closes the name's quote first.
    let (quote, unquoted) = take(after, |c| matches!(c, '"' | '\''));
    let (space, at_separator) = take(unquoted, |c| c == ' ' || c == '\t');
    let Some(separator) = at_separator.chars().next().filter(|c| matches!(c, '=' | ':')) else {
        if name.eq_ignore_ascii_case("bearer") {
            let (space, token) = take(after, char::is_whitespace);
            let (token, rest) = take(token, |c| !c.is_whitespace() && !matches!(c, '"' | '\''));
            out.push_str(space);
            out.push_str(if space.is_empty() || token.len() < TOKEN_CHARS_MIN { token } else { MASK });
            return rest;
        }
        // SQL: PASSWORD '…'.
        return quoted_after_space(after, out);
    };
    let (separators, after) = take(at_separator, |c| matches!(c, '=' | ':' | '>'));
    let (more_space, value) = take(after, |c| c == ' ' || c == '\t');
    for kept in [quote, space, separators, more_space] {
        out.push_str(kept);
    }
    if let Some(rest) = masked_quoted(value, out) {
        return rest;
    }
    // A header's value runs to the end of its line: it may be two words, "Bearer …".
    let (secret, rest) = match separator {
        ':' => take(value, |c| !matches!(c, '"' | '\'' | '\r' | '\n')),
        _ => take(value, |c| !c.is_whitespace() && !matches!(c, '"' | '\'' | ';' | '&' | '|' | ')' | ',')),
    };
    if !secret.is_empty() {
        out.push_str(MASK);
    }
    rest
}

fn quoted_after_space<'a>(after: &'a str, out: &mut String) -> &'a str {
    let (space, value) = take(after, char::is_whitespace);
    // Escape strings: E'…'.
    let (escape, at_quote) = match value.strip_prefix(['E', 'e', 'U', 'u']) {
        Some(at_quote) if at_quote.starts_with('\'') => (value.get(..1).unwrap_or(""), at_quote),
        _ => ("", value),
    };
    if space.is_empty() || !at_quote.starts_with(['"', '\'', '$']) {
        return after;
    }
    let mark = out.len();
    out.push_str(space);
    out.push_str(escape);
    match masked_quoted(at_quote, out) {
        Some(rest) => rest,
        None => {
            out.truncate(mark);
            after
        }
    }
}

/// Masks a quoted value and returns the text after it; an unclosed quote extends to the end.
fn masked_quoted<'a>(value: &'a str, out: &mut String) -> Option<&'a str> {
    if let Some(inner) = value.strip_prefix("$$") {
        out.push_str(MASK);
        return Some(inner.split_once("$$").map_or("", |(_, rest)| rest));
    }
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let mut inner = value.strip_prefix(quote)?;
    out.push(quote);
    out.push_str(MASK);
    loop {
        let Some(at) = inner.find([quote, '\\']) else { return Some("") };
        let (_, found) = inner.split_at(at);
        // A backslash or a doubled quote takes the next character with it.
        let mut rest = found.chars();
        let first = rest.next();
        if first == Some(quote) && !rest.as_str().starts_with(quote) {
            out.push(quote);
            return Some(rest.as_str());
        }
        rest.next();
        inner = rest.as_str();
    }
}

/// Writes `scheme://authority` with the password in it masked, and returns the text after the authority.
fn url<'a>(scheme: &str, after: &'a str, out: &mut String) -> &'a str {
    out.push_str(scheme);
    out.push_str("://");
    let (whole, _) = take(after, |c| !c.is_whitespace() && !matches!(c, '"' | '\'' | '<' | '>'));
    let (authority, _) = take(whole, |c| !matches!(c, '/' | '?' | '#'));
    // RFC 3986 section 3.2.1 has userinfo end at the authority's `@`. A password with an unescaped slash
    // moves that `@` past the authority; then what follows the colon is no port.
    let port_like =
        authority.split_once(':').is_none_or(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let userinfo = match (authority.rfind('@'), whole.rfind('@')) {
        (Some(at), _) => Some(at),
        (None, Some(at)) if !port_like => Some(at),
        _ => None,
    };
    let Some((userinfo, host)) = userinfo.map(|at| after.split_at(at)) else {
        out.push_str(authority);
        return after.get(authority.len()..).unwrap_or("");
    };
    match userinfo.split_once(':') {
        Some((user, _)) => {
            out.push_str(user);
            out.push(':');
            out.push_str(MASK);
        }
        // `https://TOKEN@host` is how hosting services take tokens; `ssh://git@host` names a user.
        None if scheme.to_ascii_lowercase().contains("http") => out.push_str(MASK),
        None => out.push_str(userinfo),
    }
    let (host, rest) = take(host, |c| !c.is_whitespace() && !matches!(c, '/' | '?' | '#' | '"' | '\''));
    out.push_str(host);
    rest
}

fn is_token(word: &str) -> bool {
    let marked =
        word.len() >= TOKEN_CHARS_MIN && TOKEN_PREFIXES.iter().any(|prefix| word.starts_with(prefix));
    // A JSON Web Token: base64url of `{"`, and three parts (RFC 7515 section 3.1).
    let jwt = word.len() >= 2 * TOKEN_CHARS_MIN && word.starts_with("eyJ") && word.matches('.').count() >= 2;
    marked || jwt
}

/// Splits off the longest beginning made of characters that `belongs` takes.
fn take(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}
