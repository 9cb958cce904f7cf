//! The words and marks of a Rust file, without its comments. It must not lose count of lines, whatever a
//! string holds.

/// What a text is made of. Characters, lifetimes' ticks and raw strings are left out: no import is in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A name, a keyword or a number.
    Word(&'a str),
    /// What a plain string holds.
    Text(&'a str),
    /// `::`
    Path,
    /// Any other mark.
    Other(char),
}

/// The tokens of a text, without comments, each with its line.
pub(super) fn tokens(text: &str) -> Vec<(usize, Token<'_>)> {
    let mut tokens = Vec::new();
    let (mut rest, mut line) = (text, 1);
    while let Some(first) = rest.chars().next() {
        let (length, token) = next(rest, first);
        let (taken, left) = rest.split_at(length);
        tokens.extend(token.map(|token| (line, token)));
        line += taken.matches('\n').count();
        rest = left;
    }
    tokens
}

/// How long the first token is, and what it is; nothing for space and comments.
fn next(rest: &str, first: char) -> (usize, Option<Token<'_>>) {
    let until = |end: &str, from: usize| {
        let tail = rest.get(from..).unwrap_or_default();
        tail.find(end).map_or(rest.len(), |at| from + at + end.len())
    };
    if rest.starts_with("//") {
        return (until("\n", 2), None);
    }
    if rest.starts_with("/*") {
        return (block_comment(rest), None);
    }
    if let Some((opening, closing)) = raw_string(rest) {
        return (until(&closing, opening), None);
    }
    if rest.starts_with("::") {
        return (2, Some(Token::Path));
    }
    match first {
        '"' => {
            let length = quoted(rest);
            (length, rest.get(1..length.saturating_sub(1)).map(Token::Text))
        }
        '\'' => (character(rest), None),
        _ if first == '_' || first.is_alphabetic() => {
            let length = rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(rest.len());
            (length, rest.get(..length).map(Token::Word))
        }
        _ if first.is_whitespace() => (first.len_utf8(), None),
        _ => (first.len_utf8(), Some(Token::Other(first))),
    }
}

/// The length of a comment that may hold others.
fn block_comment(rest: &str) -> usize {
    let (mut open, mut at) = (0_usize, 0);
    while let Some(tail) = rest.get(at..).filter(|tail| !tail.is_empty()) {
        if tail.starts_with("/*") {
            (open, at) = (open + 1, at + 2);
        } else if tail.starts_with("*/") {
            (open, at) = (open.saturating_sub(1), at + 2);
            if open == 0 {
                return at;
            }
        } else {
            at += tail.chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// The length of a raw string's opening, and its closing.
fn raw_string(rest: &str) -> Option<(usize, String)> {
    let after = ["r", "br", "cr"].iter().find_map(|prefix| rest.strip_prefix(prefix))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let opening = rest.len() - after.len() + hashes;
    rest.get(opening..)?.starts_with('"').then(|| (opening + 1, format!("\"{}", "#".repeat(hashes))))
}

/// The length of a string, quotes included.
fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    for (at, character) in rest.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The length of a character literal, or of the tick of a lifetime.
fn character(rest: &str) -> usize {
    let mut characters = rest.char_indices().skip(1);
    match (characters.next(), characters.next()) {
        (Some((_, '\\')), Some((escaped, _))) => {
            rest.get(escaped + 1..).and_then(|tail| tail.find('\'')).map_or(rest.len(), |at| escaped + at + 2)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &[(usize, Token<'_>)]) {
        assert_eq!(tokens(text), expect, "{text}");
    }

    #[test]
    fn comments_and_raw_strings_are_left_out_and_their_lines_counted() {
        let a = Token::Word("a");
        check("// x\na", &[(2, a)]);
        check("/* x /* y */\n */ a", &[(2, a)]);
        check("r#\"\n\"#a", &[(2, a)]);
        check("\"\\\"\n\" a", &[(1, Token::Text("\\\"\n")), (2, a)]);
    }

    #[test]
    fn a_character_is_told_from_a_lifetime() {
        let (a, x) = (Token::Word("a"), Token::Word("x"));
        check("'\"' x", &[(1, x)]);
        check("'\\'' x", &[(1, x)]);
        check("'\\u{1F600}' x", &[(1, x)]);
        check("&'a x", &[(1, Token::Other('&')), (1, a), (1, x)]);
    }

    #[test]
    fn a_path_is_words_and_double_colons() {
        check("r::x", &[(1, Token::Word("r")), (1, Token::Path), (1, Token::Word("x"))]);
    }
}
