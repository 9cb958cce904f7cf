//! Fingerprints and redaction: both read tokens, as PostgreSQL's scanner makes them (manual, "Lexical
//! Structure"), and know no grammar. What isn't recognised as a keyword, name or operator is taken for a
//! literal: a fingerprint may then be coarser, a redaction says less, and neither says more.

/// What replaces a literal.
const PLACEHOLDER: u8 = b'?';

/// 16 hexadecimal digits that are equal for texts that differ in literals, comments and white space only.
pub fn fingerprint(sql: &[u8]) -> String {
    // FNV-1a: short, and nothing rests on its being hard to invert.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut add = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    for token in Tokens::new(sql) {
        match token {
            Token::Literal => add(PLACEHOLDER),
            Token::Word(word) => word.iter().for_each(|byte| add(byte.to_ascii_lowercase())),
            Token::Quoted(text) => text.iter().for_each(|byte| add(*byte)),
            Token::Symbol(symbol) => add(symbol),
        }
        add(b' ');
    }
    format!("{hash:016x}")
}

/// The text without its literals and comments.
pub fn redact(sql: &[u8]) -> String {
    let mut out = Vec::with_capacity(sql.len());
    let mut glued = true;
    for token in Tokens::new(sql) {
        let symbol = matches!(token, Token::Symbol(_));
        if !glued && !symbol {
            out.push(b' ');
        }
        glued = matches!(token, Token::Symbol(b'(' | b'.' | b'['));
        match token {
            Token::Literal => out.push(PLACEHOLDER),
            Token::Word(text) | Token::Quoted(text) => out.extend_from_slice(text),
            Token::Symbol(symbol) => {
                if !out.is_empty()
                    && !matches!(symbol, b',' | b';' | b')' | b'(' | b'.' | b'[' | b']' | b':')
                    && out.last() != Some(&b' ')
                    && !out.last().is_some_and(|last| is_operator(*last))
                {
                    out.push(b' ');
                }
                out.push(symbol);
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn is_operator(byte: u8) -> bool {
    b"+-*/<>=~!@#%^&|`?:".contains(&byte)
}

/// One token; comments and white space are none.
enum Token<'a> {
    /// A string, number, bit string or parameter's value, or whatever can't be told from one.
    Literal,
    /// A keyword or an unquoted name.
    Word(&'a [u8]),
    /// A quoted name, quotes included.
    Quoted(&'a [u8]),
    /// One byte of punctuation or of an operator.
    Symbol(u8),
}

struct Tokens<'a> {
    rest: &'a [u8],
}

impl<'a> Tokens<'a> {
    fn new(sql: &'a [u8]) -> Self {
        Self { rest: sql }
    }

    fn advance(&mut self, bytes: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(bytes.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// The end of a quoted piece that starts here: the quote doubled is part of it, and so is one behind a
    /// backslash where `escapes` says so. Without an end it is all that is left.
    fn quoted_end(&self, start: usize, quote: u8, escapes: bool) -> usize {
        let mut at = start;
        loop {
            match self.rest.get(at) {
                None => return self.rest.len(),
                Some(b'\\') if escapes => at += 2,
                Some(byte) if *byte == quote => {
                    if self.rest.get(at + 1) != Some(&quote) {
                        return at + 1;
                    }
                    at += 2;
                }
                Some(_) => at += 1,
            }
        }
    }

    /// The end of a dollar-quoted string that starts here, if one does.
    fn dollar_end(&self) -> Option<usize> {
        let tag = self.rest.get(1..)?.iter().position(|byte| *byte == b'$')? + 2;
        let delimiter = self.rest.get(..tag)?;
        let name = delimiter.get(1..tag - 1)?;
        let named = name.iter().all(|byte| is_word(*byte) && *byte != b'$');
        if !named || name.first().is_some_and(u8::is_ascii_digit) {
            return None;
        }
        let body = self.rest.get(tag..)?;
        let end = body.windows(tag).position(|window| window == delimiter);
        Some(end.map_or(self.rest.len(), |end| tag + end + tag))
    }

    /// The end of a comment that starts here; block comments nest.
    fn comment_end(&self) -> Option<usize> {
        if self.rest.starts_with(b"--") {
            return Some(
                self.rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(self.rest.len()),
            );
        }
        if !self.rest.starts_with(b"/*") {
            return None;
        }
        let (mut at, mut depth) = (2, 1);
        while depth > 0 {
            match self.rest.get(at..) {
                Some([b'/', b'*', ..]) => (at, depth) = (at + 2, depth + 1),
                Some([b'*', b'/', ..]) => (at, depth) = (at + 2, depth - 1),
                Some([_, ..]) => at += 1,
                _ => return Some(self.rest.len()),
            }
        }
        Some(at)
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let space =
                self.rest.iter().take_while(|byte| byte.is_ascii_whitespace() || **byte == 0x0b).count();
            self.advance(space);
            match self.comment_end() {
                Some(end) => self.advance(end),
                None => break,
            };
        }
        let first = *self.rest.first()?;
        let quote_at = |at: usize| self.rest.get(at) == Some(&b'\'');
        match first {
            b'\'' => {
                // Whatever standard_conforming_strings says, the shorter reading would leave a literal's tail.
                let plain = self.quoted_end(1, b'\'', false);
                self.advance(plain);
                Some(Token::Literal)
            }
            b'e' | b'E' if quote_at(1) => {
                let end = self.quoted_end(2, b'\'', true);
                self.advance(end);
                Some(Token::Literal)
            }
            b'b' | b'B' | b'x' | b'X' | b'n' | b'N' if quote_at(1) => {
                let end = self.quoted_end(2, b'\'', false);
                self.advance(end);
                Some(Token::Literal)
            }
            b'u' | b'U' if self.rest.get(1) == Some(&b'&') && matches!(self.rest.get(2), Some(b'\'')) => {
                let end = self.quoted_end(3, b'\'', false);
                self.advance(end);
                Some(Token::Literal)
            }
            b'u' | b'U' if self.rest.get(1) == Some(&b'&') && matches!(self.rest.get(2), Some(b'"')) => {
                let end = self.quoted_end(3, b'"', false);
                Some(Token::Quoted(self.advance(end)))
            }
            b'"' => {
                let end = self.quoted_end(1, b'"', false);
                // A quoted name without an end is no name.
                let closed = end >= 2 && self.rest.get(end - 1) == Some(&b'"');
                let text = self.advance(end);
                Some(if closed { Token::Quoted(text) } else { Token::Literal })
            }
            b'$' => match self.dollar_end() {
                Some(end) => {
                    self.advance(end);
                    Some(Token::Literal)
                }
                None => {
                    let digits = self.rest.iter().skip(1).take_while(|byte| byte.is_ascii_digit()).count();
                    Some(Token::Word(self.advance(1 + digits)))
                }
            },
            b'0'..=b'9' => {
                let number = |byte: &u8| is_word(*byte) || *byte == b'.';
                let end = self.rest.iter().take_while(|byte| number(byte)).count();
                self.advance(end);
                Some(Token::Literal)
            }
            b'.' if self.rest.get(1).is_some_and(u8::is_ascii_digit) => {
                let end = self.rest.iter().skip(1).take_while(|byte| is_word(**byte)).count();
                self.advance(1 + end);
                Some(Token::Literal)
            }
            byte if is_word(byte) => {
                let end = self.rest.iter().take_while(|byte| is_word(**byte)).count();
                Some(Token::Word(self.advance(end)))
            }
            byte => {
                self.advance(1);
                Some(Token::Symbol(byte))
            }
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}
