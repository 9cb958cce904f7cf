//! How the parts of a resource's name are joined. One name must never stand for two resources, although a
//! part can hold any character: PostgreSQL, for one, takes dots and question marks in a quoted identifier.

use std::borrow::Cow;

/// Stands for a part that the command leaves out. A part of that very name is spelled `"?"`.
pub(crate) const LEFT_OUT: &str = "?";

/// One part of a name, in quotes if it could be read as anything else.
pub(crate) fn part(name: &str) -> Cow<'_, str> {
    let ambiguous = |c: char| matches!(c, '.' | '/' | '"' | '\\') || c.is_control() || c.is_whitespace();
    if name.is_empty() || name == LEFT_OUT || name.contains(ambiguous) {
        // Debug's escapes can be read back, so no two names share a spelling, and none breaks a line.
        Cow::Owned(format!("{name:?}"))
    } else {
        Cow::Borrowed(name)
    }
}
