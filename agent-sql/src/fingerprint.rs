//! One name for all statements that differ only in their literals, for the audit trail.
//!
//! It must never represent a statement in a decision: the setting that `set_config` changes is a literal,
//! too, and anybody can make two texts with the same fingerprint.

use crate::lexer::{Kind, Lexer, Token};

/// FNV-1a's parameters for 64 bits.
const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

/// The fingerprint of `sql`, 16 hexadecimal digits. It does not depend on white space, comments, the case of
/// words, or literals and their signs.
pub fn fingerprint(sql: &[u8]) -> String {
    let mut hash = OFFSET_BASIS;
    let mut add = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(PRIME);
    let mut tokens = Lexer::new(sql).peekable();
    let mut before: Option<Token<'_>> = None;
    while let Some(token) = tokens.next() {
        let followed_by_number = tokens.peek().is_some_and(|next| next.kind == Kind::Number);
        if followed_by_number && is_sign(token, before) {
            continue;
        }
        before = Some(token);
        match token.kind {
            Kind::String | Kind::Number | Kind::Broken => add(b'?'),
            Kind::Word => token.text.iter().for_each(|byte| add(byte.to_ascii_lowercase())),
            Kind::Quoted | Kind::Parameter | Kind::Symbol => token.text.iter().copied().for_each(&mut add),
        }
        add(0);
    }
    format!("{hash:016x}")
}

/// Whether `token` is the sign of a number and not an operator: there is no operand before it.
fn is_sign(token: Token<'_>, before: Option<Token<'_>>) -> bool {
    matches!(token.text, b"+" | b"-")
        && before.is_none_or(|before| {
            before.kind == Kind::Symbol && !matches!(before.text, b")" | b"]" | b"*" | b";")
        })
}
