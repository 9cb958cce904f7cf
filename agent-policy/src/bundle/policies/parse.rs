//! Cuts a file into its policies, and parses each.

use std::str::FromStr as _;

use cedar_policy::{Policy, PolicySet, ffi::DetailedError};

use crate::bundle::source::{BundleError, Source};

/// The policies of one file, each with the offset it starts at.
pub(super) fn parse(source: &Source) -> Result<Vec<(usize, Policy)>, BundleError> {
    // The whole file is parsed first: its errors have offsets in the file, and its count checks the split.
    let whole = PolicySet::from_str(&source.text).map_err(|errors| {
        let error = DetailedError::from(&errors);
        let offset = error.source_locations.first().map_or(0, |at| at.loc.start);
        source.refuse_at(offset, error.message)
    })?;
    let mut policies = Vec::new();
    for (offset, text) in split(&source.text) {
        let policy = Policy::parse(None, text).map_err(|errors| {
            let error = DetailedError::from(&errors);
            let inner = error.source_locations.first().map_or(0, |at| at.loc.start);
            let reason = format_args!("{} (templates are not supported)", error.message);
            source.refuse_at(offset + inner, reason)
        })?;
        policies.push((offset, policy));
    }
    let (by_cedar, by_split) = (whole.num_of_policies() + whole.num_of_templates(), policies.len());
    if by_cedar != by_split {
        let reason = format_args!(
            "Cedar finds {by_cedar} policies in the file, and lineal finds {by_split}; put each policy on \
             lines of its own"
        );
        return Err(source.refuse_line(1, reason));
    }
    Ok(policies)
}

/// Cuts a file into policies at the semicolons that stand outside strings and comments.
pub(super) fn split(text: &str) -> Vec<(usize, &str)> {
    // Where the policy that is being read starts; `None` between policies.
    let mut start = None;
    let mut pieces = Vec::new();
    let mut chars = text.char_indices().peekable();
    while let Some((offset, char)) = chars.next() {
        match char {
            '/' if chars.peek().is_some_and(|(_, next)| *next == '/') => {
                // Cedar's comments end at a carriage return, too.
                while chars.next_if(|(_, c)| !matches!(c, '\n' | '\r')).is_some() {}
            }
            _ if char.is_whitespace() => {}
            _ => {
                let from = *start.get_or_insert(offset);
                if char == '"' {
                    while let Some((_, inside)) = chars.next() {
                        match inside {
                            '"' => break,
                            '\\' => drop(chars.next()),
                            _ => {}
                        }
                    }
                }
                if char == ';' {
                    pieces.extend(text.get(from..=offset).map(|piece| (from, piece)));
                    start = None;
                }
            }
        }
    }
    if let Some(from) = start {
        pieces.extend(text.get(from..).map(|piece| (from, piece)));
    }
    pieces
}
