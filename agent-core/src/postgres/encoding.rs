//! The encoding that the upstream keeps names in (`server_encoding`).
//!
//! PostgreSQL converts what a client sends to the database's encoding before it reads it. There it folds
//! capital letters, by the database's locale if a character is one byte, and cuts names to 63 bytes
//! (`scansup.c`, `downcase_identifier` and `truncate_identifier`). The grammar here does both in UTF-8. In
//! another encoding the two can differ: one name here would be another there.

/// How many bytes PostgreSQL keeps of a name (`NAMEDATALEN - 1`).
const NAME_BYTES: usize = 63;

/// The encodings with one byte for each character, which PostgreSQL reports by these names (`encnames.c`).
/// None of their conversions from UTF-8 makes one character of two.
const SINGLE_BYTE: [&[u8]; 25] = [
    b"ISO_8859_5",
    b"ISO_8859_6",
    b"ISO_8859_7",
    b"ISO_8859_8",
    b"KOI8R",
    b"KOI8U",
    b"LATIN1",
    b"LATIN10",
    b"LATIN2",
    b"LATIN3",
    b"LATIN4",
    b"LATIN5",
    b"LATIN6",
    b"LATIN7",
    b"LATIN8",
    b"LATIN9",
    b"WIN1250",
    b"WIN1251",
    b"WIN1252",
    b"WIN1253",
    b"WIN1254",
    b"WIN1255",
    b"WIN1256",
    b"WIN1257",
    b"WIN1258",
];

/// What is known of the upstream's encoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// Names are read there as they are here.
    Utf8,
    /// One byte for each character.
    SingleByte,
    /// Bytes are kept as they are sent; which of them are letters depends on the database's locale.
    SqlAscii,
    /// Any other, or one that the upstream has not reported.
    #[default]
    Unknown,
}

impl Encoding {
    /// The encoding that the upstream reports by this name.
    pub(super) fn reported(name: &[u8]) -> Self {
        match name {
            b"UTF8" => Self::Utf8,
            b"SQL_ASCII" => Self::SqlAscii,
            name if SINGLE_BYTE.contains(&name) => Self::SingleByte,
            _ => Self::Unknown,
        }
    }

    /// Whether the upstream reads this name, in quotes or without, as it is read here. A name of the
    /// protocol's counts as quoted.
    pub fn keeps(self, name: &[u8], quoted: bool) -> bool {
        if name.is_ascii() {
            return true;
        }
        let Ok(text) = str::from_utf8(name) else { return self == Self::Utf8 };
        // No character takes more bytes there than in UTF-8: what is not cut here is not cut there.
        let whole = name.len() <= NAME_BYTES;
        match self {
            Self::Utf8 => true,
            Self::SingleByte => whole && (quoted || !text.chars().any(|c| !c.is_ascii() && is_capital(c))),
            Self::SqlAscii => whole && quoted,
            Self::Unknown => false,
        }
    }
}

/// Whether a locale may fold this character to another.
fn is_capital(c: char) -> bool {
    c.is_uppercase() || !c.to_lowercase().eq([c])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_certain_only_where_the_upstream_neither_cuts_nor_folds_it_otherwise() {
        let (short, long) = ("é".repeat(31), "é".repeat(32));
        let check = |encoding: &[u8], name: &str, quoted, expect| {
            let keeps = Encoding::reported(encoding).keeps(name.as_bytes(), quoted);
            assert_eq!(keeps, expect, "{name} {quoted} in {}", encoding.escape_ascii());
        };
        for quoted in [true, false] {
            check(b"UTF8", &long, quoted, true);
            check(b"UTF8", "É", quoted, true);
            check(b"LATIN1", &short, quoted, true);
            check(b"LATIN1", &long, quoted, false);
            check(b"LATIN1", "É", quoted, quoted);
            check(b"SQL_ASCII", &short, quoted, quoted);
            check(b"SQL_ASCII", &long, quoted, false);
            check(b"EUC_JP", "é", quoted, false);
            check(b"", "é", quoted, false);
            for encoding in [&b"LATIN1"[..], b"SQL_ASCII", b"EUC_JP", b""] {
                check(encoding, &"a".repeat(100), quoted, true);
            }
        }
        assert!(!Encoding::SqlAscii.keeps(b"\xff", true));
    }
}
