//! What Parse and Bind leave behind: statement texts, portals and parameter values; and how many bytes of
//! them a session keeps.
//!
//! Texts and values are the client's data: they must never be part of a `Debug` output.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::wire::Fields;

/// Counts the bytes of texts and values that a session keeps, whoever holds them.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter(Arc<AtomicUsize>);

impl Meter {
    /// How many bytes are kept now.
    pub(super) fn bytes(&self) -> usize {
        // The session's own thread alone counts; nothing else is synchronised by it, so no ordering is
        // needed.
        self.0.load(Ordering::Relaxed)
    }

    fn keep(&self, bytes: &[u8]) -> Kept {
        self.0.fetch_add(bytes.len(), Ordering::Relaxed);
        Kept { bytes: bytes.into(), meter: self.clone() }
    }
}

/// Bytes that count towards the session's bound until their last holder drops them.
struct Kept {
    bytes: Box<[u8]>,
    meter: Meter,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.meter.0.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

/// The text of a Parse message, and the types that it declares. Cheap to clone.
#[derive(Clone)]
pub struct Statement(Arc<Parsed>);

struct Parsed {
    id: u64,
    text: Kept,
    /// The parameters' types, as in the message.
    types: Kept,
}

impl Statement {
    pub(super) fn new(id: u64, text: &[u8], types: &[u8], meter: &Meter) -> Self {
        Self(Arc::new(Parsed { id, text: meter.keep(text), types: meter.keep(types) }))
    }

    /// Whether a Parse message has this text and declares these types.
    pub(super) fn is(&self, text: &[u8], types: &[u8]) -> bool {
        self.text() == text && *self.0.types.bytes == *types
    }

    /// A number for this text, unique in the session: what was found out about the text can be cached under
    /// it. One text may have several numbers; one number has one text.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// The text as sent: without NUL, not necessarily UTF-8.
    pub fn text(&self) -> &[u8] {
        &self.0.text.bytes
    }

    /// The OID of the type that the message declares of a parameter, by its number from 1; 0 if it declares
    /// none.
    pub fn parameter_type(&self, number: i32) -> u32 {
        let at = usize::try_from(number).ok().and_then(|number| number.checked_sub(1)?.checked_mul(4));
        let oid = at.and_then(|at| self.0.types.bytes.get(at..)?.first_chunk());
        oid.map_or(0, |oid| u32::from_be_bytes(*oid))
    }
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Statement {} of {} bytes", self.id(), self.text().len())
    }
}

impl PartialEq for Statement {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id() && self.text() == other.text()
    }
}

/// The values of a Bind message, as sent.
#[derive(Clone)]
pub struct Parameters(Arc<Kept>);

/// One value of a Bind message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Parameter<'a> {
    /// 0 for text, 1 for binary.
    pub format: u16,
    /// The value; `None` for NULL.
    pub value: Option<&'a [u8]>,
}

impl Parameters {
    /// Keeps the values; `tail` is what follows the names in the Bind message.
    pub(super) fn new(tail: &[u8], meter: &Meter) -> Self {
        Self(Arc::new(meter.keep(tail)))
    }

    /// The values in order; `None` if the message was malformed, in which case PostgreSQL refuses it.
    pub fn values(&self) -> Option<Vec<Parameter<'_>>> {
        let mut fields = Fields::new(&self.0.bytes);
        let formats = usize::from(fields.int16()?);
        let codes = fields.bytes(formats.checked_mul(2)?)?;
        // No format code: all values are text. One: it applies to all values. Otherwise one for each value
        // (manual, Bind).
        let format = |nth: usize| {
            let at = if formats == 1 { 0 } else { nth };
            let (&code, _) = codes.get(at.checked_mul(2)?..)?.split_first_chunk()?;
            Some(u16::from_be_bytes(code))
        };
        let count = usize::from(fields.int16()?);
        if formats > 1 && formats != count {
            return None;
        }
        let mut values = Vec::with_capacity(count.min(fields.rest().len() / 4));
        for nth in 0..count {
            let length = fields.int32()?;
            // -1 is NULL; it takes no bytes.
            let value = if length == u32::MAX { None } else { Some(fields.bytes(length as usize)?) };
            values.push(Parameter { format: if formats == 0 { 0 } else { format(nth)? }, value });
        }
        Some(values)
    }
}

impl fmt::Debug for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Parameters of {} bytes", self.0.bytes.len())
    }
}

impl fmt::Debug for Parameter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Parameter of {} bytes", self.value.map_or(0, <[u8]>::len))
    }
}

/// What a Bind made.
#[derive(Clone, Debug)]
pub(super) struct Portal {
    /// The statement that a Parse left under the name that was bound, if one did.
    pub(super) statement: Option<Statement>,
    /// The name that was bound, as PostgreSQL compares it, if SQL may have prepared a statement under it.
    pub(super) sql_statement: Option<Box<[u8]>>,
    /// The values, if they are kept.
    pub(super) parameters: Option<Parameters>,
}

impl Portal {
    /// What the portal may run.
    pub(super) fn candidates(&self) -> Candidates<'_> {
        Candidates {
            parsed: self.statement.as_ref(),
            sql_prepared: self.sql_statement.as_deref(),
            sql_cursor: None,
        }
    }
}

/// What an Execute may run. There is more than one candidate if SQL may have given a name another meaning.
/// There is none if the protocol never gave the name a meaning and SQL cannot have.
#[derive(Clone, Copy, Debug, Default)]
pub struct Candidates<'a> {
    /// The text that Parse left under the statement's name when the portal was bound.
    pub parsed: Option<&'a Statement>,
    /// The name of a statement that SQL `PREPARE` may have made, as PostgreSQL compares it.
    pub sql_prepared: Option<&'a [u8]>,
    /// The name of a cursor that SQL `DECLARE`, or a function, may have made.
    pub sql_cursor: Option<&'a [u8]>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_count_until_their_last_holder_drops_them() {
        let meter = Meter::default();
        let statement = Statement::new(1, b"select 1", b"", &meter);
        let held = statement.clone();
        drop(statement);
        assert_eq!(meter.bytes(), 8);
        drop(held);
        assert_eq!(meter.bytes(), 0);
    }

    #[test]
    fn a_parameter_has_the_type_that_its_parse_declares() {
        let statement = Statement::new(1, b"select $1, $2", &[0, 0, 0, 25, 0, 0, 4, 19], &Meter::default());
        let types = [0, 1, 2, 3, -1, i32::MAX].map(|number| statement.parameter_type(number));
        assert_eq!(types, [0, 25, 1043, 0, 0, 0]);
    }

    #[test]
    fn parameter_values_have_the_format_that_their_bind_gives() {
        type Values<'a> = Vec<(u16, Option<&'a [u8]>)>;
        let check = |tail: &[u8], expect: Option<Values<'_>>| {
            let parameters = Parameters::new(tail, &Meter::default());
            let values = parameters
                .values()
                .map(|values| values.iter().map(|value| (value.format, value.value)).collect::<Vec<_>>());
            assert_eq!(values, expect);
        };
        check(b"\0\0\0\0\0\0", Some(vec![]));
        check(b"\0\0\0\x01\0\0\0\x02ab\0\0", Some(vec![(0, Some(b"ab"))]));
        check(b"\0\x01\0\x01\0\x02\0\0\0\x01a\xff\xff\xff\xff\0\0", Some(vec![(1, Some(b"a")), (1, None)]));
        check(
            b"\0\x02\0\0\0\x01\0\x02\0\0\0\x01a\0\0\0\x01b\0\0",
            Some(vec![(0, Some(b"a")), (1, Some(b"b"))]),
        );
        check(b"\0\x02\0\0\0\x01\0\x01\0\0\0\x01a\0\0", None);
        check(b"\0\0\0\x01\0\0\0\x09ab", None);
        check(b"", None);
    }

    #[test]
    fn debug_output_holds_no_text_and_no_value() {
        let meter = Meter::default();
        let portal = Portal {
            statement: Some(Statement::new(1, b"select 'hunter2'", b"", &meter)),
            sql_statement: None,
            parameters: Some(Parameters::new(b"hunter2", &meter)),
        };
        assert!(!format!("{portal:?}").contains("hunter2"));
    }
}
