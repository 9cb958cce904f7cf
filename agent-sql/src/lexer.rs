//! Splits any SQL text into tokens, as PostgreSQL's scanner does with its default settings, for fingerprints
//! and redaction. Facts never come from here, but from the grammar.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A string, bit string or dollar-quoted constant, with its prefix.
    String,
    /// A number, with the letters directly after it.
    Number,
    /// A key word or a bare identifier.
    Word,
    /// A double-quoted identifier, with its quotes.
    Quoted,
    /// `$1`.
    Parameter,
    /// One byte of anything else.
    Symbol,
    /// A constant, identifier or comment without an end, up to the end of the text.
    Broken,
}

/// A token of some text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind,
    pub(crate) text: &'a [u8],
    /// Whether it directly follows the token before it.
    pub(crate) adjacent: bool,
}

/// The tokens of a text, without white space and comments.
pub(crate) struct Lexer<'a> {
    rest: &'a [u8],
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(sql: &'a [u8]) -> Self {
        Self { rest: sql }
    }
}

impl<'a> Iterator for Lexer<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let before = self.rest.len();
        let Some(rest) = skip_blank(self.rest) else {
            return self.take(Kind::Broken, self.rest.len(), false);
        };
        self.rest = rest;
        let (kind, length) = token(rest)?;
        self.take(kind, length, rest.len() == before)
    }
}

impl<'a> Lexer<'a> {
    fn take(&mut self, kind: Kind, length: usize, adjacent: bool) -> Option<Token<'a>> {
        let (text, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(Token { kind, text, adjacent })
    }
}

/// The kind and length of the token that `text` begins with; `None` if it is empty.
fn token(text: &[u8]) -> Option<(Kind, usize)> {
    let first = *text.first()?;
    let second = text.get(1).copied();
    let all = text.len();
    let string = |prefix: usize, escapes: bool| match string_end(text, prefix, escapes) {
        Some(end) => (Kind::String, end),
        None => (Kind::Broken, all),
    };
    Some(match (first, second) {
        (b'\'', _) => string(0, false),
        (b'e' | b'E', Some(b'\'')) => string(1, true),
        (b'b' | b'B' | b'x' | b'X' | b'n' | b'N', Some(b'\'')) => string(1, false),
        (b'u' | b'U', Some(b'&')) if text.get(2) == Some(&b'\'') => string(2, false),
        (b'u' | b'U', Some(b'&')) if text.get(2) == Some(&b'"') => quoted(text, 2),
        (b'"', _) => quoted(text, 0),
        (b'$', Some(digit)) if digit.is_ascii_digit() => {
            // PostgreSQL refuses letters directly after a parameter's number: they are taken as part of it.
            (Kind::Parameter, 1 + run(text, 1, is_word))
        }
        (b'$', _) => dollar_quoted(text),
        (digit, _) if digit.is_ascii_digit() => (Kind::Number, number_end(text)),
        (b'.', Some(digit)) if digit.is_ascii_digit() => (Kind::Number, number_end(text)),
        (letter, _) if starts_word(letter) => (Kind::Word, run(text, 0, is_word)),
        _ => (Kind::Symbol, 1),
    })
}

/// How many bytes of `text` from `at` on satisfy `belongs`.
fn run(text: &[u8], at: usize, belongs: fn(u8) -> bool) -> usize {
    text.iter().skip(at).take_while(|byte| belongs(**byte)).count()
}

fn starts_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn is_word(byte: u8) -> bool {
    starts_word(byte) || byte.is_ascii_digit() || byte == b'$'
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// `text` without the white space and comments that it begins with; `None` if a comment has no end.
fn skip_blank(mut text: &[u8]) -> Option<&[u8]> {
    loop {
        text = text.get(run(text, 0, is_blank)..)?;
        if text.starts_with(b"--") {
            text = text.get(run(text, 0, |byte| !matches!(byte, b'\n' | b'\r'))..)?;
        } else if text.starts_with(b"/*") {
            text = text.get(comment_end(text)?..)?;
        } else {
            return Some(text);
        }
    }
}

/// Where the block comment that `text` begins with ends. Such comments can be nested.
fn comment_end(text: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0;
    loop {
        match text.get(at..at + 2)? {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" if depth == 1 => return Some(at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
}

/// Where the string whose opening quote is at `open` ends. A string continues, by the same rules, in one that
/// follows after white space with a line break.
fn string_end(text: &[u8], open: usize, escapes: bool) -> Option<usize> {
    let mut at = open + 1;
    loop {
        match text.get(at)? {
            b'\\' if escapes => at += 2,
            b'\'' if text.get(at + 1) == Some(&b'\'') => at += 2,
            b'\'' => match continuation(text.get(at + 1..)?) {
                Some(length) => at += 1 + length + 1,
                None => return Some(at + 1),
            },
            _ => at += 1,
        }
    }
}

/// Where the opening quote of the string's next part is, if it has one.
fn continuation(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    let mut broken_line = false;
    loop {
        match text.get(at)? {
            b'\n' | b'\r' => (broken_line, at) = (true, at + 1),
            byte if is_blank(*byte) => at += 1,
            b'-' if text.get(at + 1) == Some(&b'-') => {
                at += run(text, at, |byte| !matches!(byte, b'\n' | b'\r'));
            }
            b'\'' if broken_line => return Some(at),
            _ => return None,
        }
    }
}

/// The quoted identifier whose opening quote is at `open`.
fn quoted(text: &[u8], open: usize) -> (Kind, usize) {
    let mut at = open + 1;
    loop {
        match text.get(at) {
            None => return (Kind::Broken, text.len()),
            Some(b'"') if text.get(at + 1) == Some(&b'"') => at += 2,
            Some(b'"') => return (Kind::Quoted, at + 1),
            Some(_) => at += 1,
        }
    }
}

/// The dollar-quoted string that `text` begins with, or the dollar sign alone.
fn dollar_quoted(text: &[u8]) -> (Kind, usize) {
    let tag = 1 + run(text, 1, |byte| is_word(byte) && byte != b'$');
    if text.get(tag) != Some(&b'$') {
        return (Kind::Symbol, 1);
    }
    let Some((delimiter, body)) = text.split_at_checked(tag + 1) else { return (Kind::Broken, text.len()) };
    match find(body, delimiter) {
        Some(at) => (Kind::String, delimiter.len() + at + delimiter.len()),
        None => (Kind::Broken, text.len()),
    }
}

/// Where `delimiter`, which begins and ends with `$` and has none between, first occurs in `body`.
fn find(body: &[u8], delimiter: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += body.get(at..)?.iter().position(|byte| *byte == b'$')?;
        if body.get(at..)?.starts_with(delimiter) {
            return Some(at);
        }
        at += 1;
    }
}

/// Where a number ends. Letters directly after it are part of it, and so is the sign of an exponent.
fn number_end(text: &[u8]) -> usize {
    let mut at = 0;
    let hexadecimal = text.starts_with(b"0x") || text.starts_with(b"0X");
    while let Some(&byte) = text.get(at) {
        let signed = matches!(byte, b'+' | b'-')
            && !hexadecimal
            && at > 0
            && matches!(text.get(at - 1), Some(b'e' | b'E'))
            && text.get(at + 1).is_some_and(u8::is_ascii_digit);
        if !is_word(byte) && byte != b'.' && !signed {
            break;
        }
        at += 1;
    }
    at
}
