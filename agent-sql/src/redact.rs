//! SQL text without its literals, for the audit trail and logs, where literals must never appear.

use crate::lexer::{Kind, Lexer, Token};

/// A quoted identifier with more bytes than PostgreSQL keeps is dropped: it may be anything.
const IDENTIFIER_BYTES_MAX: usize = 63;

/// The first words that are shown of a text whose quotes can't be trusted.
const FIRST_WORDS: &[&str] = &[
    "ALTER", "ANALYZE", "BEGIN", "CALL", "CLOSE", "COMMIT", "COPY", "CREATE", "DECLARE", "DELETE", "DO",
    "DROP", "EXECUTE", "EXPLAIN", "FETCH", "GRANT", "INSERT", "MERGE", "PREPARE", "RESET", "REVOKE",
    "ROLLBACK", "SELECT", "SET", "SHOW", "TRUNCATE", "UPDATE", "VACUUM", "VALUES", "WITH",
];

/// `sql` with `?` for every literal, and without comments. If its quotes are unbalanced, or where nobody
/// would write them, only the first word remains: what looks like a name may be part of a literal.
pub fn redact(sql: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(sql) else { return "?".to_owned() };
    let mut redacted = String::with_capacity(text.len().min(sql.len()));
    let mut before: Option<Token<'_>> = None;
    for token in Lexer::new(sql) {
        if is_doubtful(token, before) {
            return first_word(sql);
        }
        if !token.adjacent && !redacted.is_empty() {
            redacted.push(' ');
        }
        match token.kind {
            Kind::String | Kind::Number | Kind::Broken => redacted.push('?'),
            Kind::Quoted if !is_identifier(token.text) => redacted.push_str("\"?\""),
            Kind::Parameter if !token.text.iter().skip(1).all(u8::is_ascii_digit) => redacted.push('?'),
            Kind::Quoted | Kind::Word | Kind::Parameter | Kind::Symbol => {
                redacted.push_str(&String::from_utf8_lossy(token.text));
            }
        }
        before = Some(token);
    }
    redacted
}

/// Whether a token makes it doubtful where the text's literals begin and end.
fn is_doubtful(token: Token<'_>, before: Option<Token<'_>>) -> bool {
    // With `standard_conforming_strings` off, a server does not end a string at `\'`.
    let escaped_quote = token.kind == Kind::String
        && !token.text.starts_with(b"$")
        && !matches!(token.text.first(), Some(b'e' | b'E'))
        && token.text.windows(2).any(|pair| pair == b"\\'");
    // `'O'Brien'`: a quote in a literal was not escaped.
    let touching = token.adjacent
        && before.is_some_and(|before| {
            let either = |kind| token.kind == kind || before.kind == kind;
            let other = |kind| matches!(kind, Kind::Word | Kind::Number | Kind::Quoted | Kind::String);
            either(Kind::String) && other(token.kind) && other(before.kind)
        });
    token.kind == Kind::Broken || escaped_quote || touching
}

/// Whether a quoted identifier looks like one, and not like a literal in the wrong quotes.
fn is_identifier(quoted: &[u8]) -> bool {
    let doubtful = |byte: &u8| byte.is_ascii_control() || matches!(byte, b'\'' | b'\\' | b'$' | b'=' | b',');
    quoted.len() <= IDENTIFIER_BYTES_MAX + 2 && !quoted.iter().any(doubtful)
}

/// The first word of a text if it is a well-known one, and `?` for the rest.
fn first_word(sql: &[u8]) -> String {
    let first = Lexer::new(sql).next().filter(|token| token.kind == Kind::Word);
    let known = first
        .and_then(|first| FIRST_WORDS.iter().find(|known| known.as_bytes().eq_ignore_ascii_case(first.text)));
    known.map_or_else(|| "?".to_owned(), |word| format!("{word} ?"))
}
