//! What the SQL grammar reads in a session's statements. A reading is cached and used again only for texts
//! that are certain to read the same.

use std::{borrow::Cow, collections::HashMap, hash::Hash, sync::Arc};

use agent_core::{
    facts::Facts,
    postgres::{Encoding, Statement},
};
use agent_sql::Analysis;
use prometheus::IntCounter;

use crate::audit::Literals;

/// How many readings of each sort a session caches.
const READINGS_MAX: usize = 1_024;
/// How many bytes of text the cached readings of one sort were read from, at most.
const READ_BYTES_MAX: usize = 256 << 10;
/// The longest text whose reading is cached.
const TEXT_BYTES_MAX: usize = 32 << 10;

/// Why a text is not read whose names the upstream may read as others.
const NAME_CHANGES: &str =
    "the text has a name that the database's encoding may change: use ASCII, or a database in UTF8";

/// What was read in a text; the same for all texts that differ only in the values of whole numbers.
pub struct Reading {
    /// Its facts, and the names it gives and uses.
    pub analysis: Analysis,
    /// Its fingerprint; empty for what has no text.
    pub fingerprint: String,
    /// The text as the trail keeps it; `None` where that is the text itself.
    redacted: Option<String>,
    /// The text may make cursors: the word `DECLARE` stands in it.
    pub declares: bool,
}

impl Reading {
    /// The reading of a command that has no text of its own.
    pub fn of(facts: Facts) -> Self {
        let analysis = Analysis {
            facts,
            parameters: None,
            prepares: vec![],
            executes: vec![],
            fetches: vec![],
            deallocates: vec![],
            unparsed: None,
        };
        Self { analysis, fingerprint: String::new(), redacted: None, declares: false }
    }

    fn new(text: &[u8], literals: Literals, encoding: Encoding) -> Self {
        let kept = encoding == Encoding::Utf8
            || agent_sql::keeps_names(text, |name, quoted| encoding.keeps(name, quoted));
        Self {
            analysis: if kept { agent_sql::analyze(text) } else { Analysis::unparsed(NAME_CHANGES) },
            fingerprint: agent_sql::fingerprint(text),
            redacted: match literals {
                Literals::Keep => None,
                Literals::Redact => Some(agent_sql::redact(text)),
            },
            declares: text.windows(7).any(|word| word.eq_ignore_ascii_case(b"declare")),
        }
    }

    /// The text that this was read from, as the trail keeps it.
    pub fn shown<'a>(&'a self, text: &'a [u8]) -> Cow<'a, str> {
        match &self.redacted {
            Some(redacted) => Cow::Borrowed(redacted),
            None => String::from_utf8_lossy(text),
        }
    }
}

/// Reads a session's texts.
pub struct Reader {
    literals: Literals,
    by_shape: Memory<Box<[u8]>>,
    by_statement: Memory<u64>,
    /// Where shapes are made.
    shape: Vec<u8>,
}

impl Reader {
    /// A reader with empty caches; `full` counts each time that one of them was full and was emptied.
    pub fn new(literals: Literals, full: IntCounter) -> Self {
        let (by_shape, by_statement) = (Memory::new(full.clone()), Memory::new(full));
        Self { literals, by_shape, by_statement, shape: Vec::new() }
    }

    /// Reads the text of a Query to an upstream that keeps names in `encoding`, which is the same throughout
    /// a session.
    pub fn read(&mut self, text: &[u8], encoding: Encoding) -> Arc<Reading> {
        let shaped = agent_sql::shape(text, &mut self.shape);
        if let Some(reading) = shaped.then(|| self.by_shape.readings.get(&*self.shape)).flatten() {
            return Arc::clone(reading);
        }
        let reading = Arc::new(Reading::new(text, self.literals, encoding));
        // A text that the grammar refuses may be refused for one of its numbers: it says nothing of its
        // shape.
        if shaped && reading.analysis.unparsed.is_none() {
            self.by_shape.keep(self.shape.as_slice().into(), &reading, text.len());
        }
        reading
    }

    /// Reads a prepared statement, likewise.
    pub fn read_statement(&mut self, statement: &Statement, encoding: Encoding) -> Arc<Reading> {
        if let Some(reading) = self.by_statement.readings.get(&statement.id()) {
            return Arc::clone(reading);
        }
        let reading = Arc::new(Reading::new(statement.text(), self.literals, encoding));
        self.by_statement.keep(statement.id(), &reading, statement.text().len());
        reading
    }
}

/// Cached readings, within bounds. A reading that was dropped is made again when it is needed.
struct Memory<K> {
    readings: HashMap<K, Arc<Reading>>,
    bytes: usize,
    full: IntCounter,
}

impl<K: Eq + Hash> Memory<K> {
    fn new(full: IntCounter) -> Self {
        Self { readings: HashMap::new(), bytes: 0, full }
    }

    fn keep(&mut self, key: K, reading: &Arc<Reading>, bytes: usize) {
        if bytes > TEXT_BYTES_MAX {
            return;
        }
        if self.readings.len() >= READINGS_MAX || self.bytes + bytes > READ_BYTES_MAX {
            self.full.inc();
            self.readings.clear();
            self.bytes = 0;
        }
        self.bytes += bytes;
        self.readings.insert(key, Arc::clone(reading));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader() -> Reader {
        Reader::new(Literals::Keep, IntCounter::new("full", "full").unwrap())
    }

    #[test]
    fn texts_that_differ_only_in_numbers_share_a_reading() {
        let mut reader = reader();
        let one = reader.read(b"SELECT 1 FROM t WHERE id = 5", Encoding::Utf8);
        let other = reader.read(b"SELECT 1 FROM t WHERE id = 77", Encoding::Utf8);
        assert!(Arc::ptr_eq(&one, &other));
        assert_eq!(other.shown(b"SELECT 1 FROM t WHERE id = 77"), "SELECT 1 FROM t WHERE id = 77");
    }

    #[test]
    fn texts_that_differ_in_names_or_strings_are_read_separately() {
        let mut reader = reader();
        for (one, other) in [
            ("SELECT * FROM t1", "SELECT * FROM t2"),
            ("SELECT * FROM \"t 1\"", "SELECT * FROM \"t 2\""),
            ("SELECT set_config('a 1', '', true)", "SELECT set_config('a 2', '', true)"),
        ] {
            let one = reader.read(one.as_bytes(), Encoding::Utf8);
            assert_ne!(one.analysis, reader.read(other.as_bytes(), Encoding::Utf8).analysis);
        }
    }

    #[test]
    fn the_refusal_of_a_text_is_not_cached_for_its_shape() {
        let mut reader = reader();
        assert!(reader.read(b"SELECT CAST(x AS float(0))", Encoding::Utf8).analysis.unparsed.is_some());
        assert!(reader.read(b"SELECT CAST(x AS float(9))", Encoding::Utf8).analysis.unparsed.is_none());
    }

    #[test]
    fn the_caches_are_bounded_in_readings_and_in_bytes() {
        let mut reader = reader();
        for i in 0..3 * READINGS_MAX {
            reader.read(format!("SELECT * FROM t{i}").as_bytes(), Encoding::Utf8);
            assert!(reader.by_shape.readings.len() <= READINGS_MAX);
        }
        assert_eq!(reader.by_shape.full.get(), 2);
        let long = format!("SELECT {}1", "1,".repeat(1_500));
        for i in 0..200 {
            reader.read(format!("{long} FROM t{i}").as_bytes(), Encoding::Utf8);
            assert!(reader.by_shape.bytes <= READ_BYTES_MAX);
        }
        assert!(reader.by_shape.full.get() > 2);
    }
}
