//! What the SQL grammar reads in a session's statements. A reading is cached and used again only for texts
//! that are certain to read the same.

use std::{borrow::Cow, collections::HashMap, hash::Hash, sync::Arc};

use agent_core::{
    audit::record::WholeText,
    facts::{Action, Facts},
    postgres::{Encoding, Statement},
};
use agent_sql::Analysis;
use prometheus::IntCounter;
use sha2::{Digest, Sha256};

use crate::audit::Literals;

/// How many readings of each sort a session caches.
const READINGS_MAX: usize = 1_024;
/// How many bytes of text the cached readings of one sort were read from, at most.
const READ_BYTES_MAX: usize = 256 << 10;
/// The longest text whose reading is cached for what it is. Of a longer one the size of the reading counts.
const TEXT_BYTES_MAX: usize = 32 << 10;
/// The longest text that is read on the session's thread. One of this length takes some milliseconds.
pub const SHORT_BYTES_MAX: usize = 64 << 10;
/// How many long texts may be read for one question; what else it runs by name is `sql:unparsed`.
const LONG_TEXTS_MAX: usize = 8;
/// Why a text is not read whose names the upstream may read as others.
const NAME_CHANGES: &str =
    "the text has a name that the database's encoding may change: use ASCII, or a database in UTF8";
/// How much of a text the trail keeps.
const SHOWN_BYTES_MAX: usize = 1 << 20;

/// What was read in a text; the same for all texts that differ only in the values of whole numbers.
pub struct Reading {
    /// Its facts, and the names it gives and uses.
    pub analysis: Analysis,
    /// Its fingerprint; empty for what has no text.
    pub fingerprint: String,
    /// The text as the trail keeps it; `None` where that is the text itself, or its beginning.
    redacted: Option<String>,
    /// What the trail's text is the beginning of, if it is not the whole.
    whole: Option<Whole>,
    /// The text may make cursors: the word `DECLARE` stands in it.
    pub declares: bool,
}

/// A text that the trail shows only the beginning of.
struct Whole {
    bytes: u64,
    sha256: String,
}

impl Whole {
    /// Of a text as the trail would show it; `None` if it shows all of it.
    fn of(text: &[u8]) -> Option<Self> {
        (text.len() > SHOWN_BYTES_MAX).then(|| Self {
            bytes: text.len() as u64,
            sha256: Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }
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
            exceeds: None,
        };
        Self { analysis, fingerprint: String::new(), redacted: None, whole: None, declares: false }
    }

    fn new(text: &[u8], how: How) -> Self {
        let How { prepared, literals, encoding } = how;
        let kept = encoding == Encoding::Utf8
            || agent_sql::keeps_names(text, |name, quoted| encoding.keeps(name, quoted));
        let analysis = match (kept, prepared) {
            (false, _) => Analysis::unparsed(NAME_CHANGES),
            (true, false) => agent_sql::analyze(text),
            (true, true) => agent_sql::analyze_prepared(text),
        };
        let (redacted, whole) = match literals {
            Literals::Keep => (None, Whole::of(text)),
            Literals::Redact => {
                let mut redacted = agent_sql::redact(text);
                let whole = Whole::of(redacted.as_bytes());
                redacted.truncate(beginning(redacted.as_bytes()).len());
                (Some(redacted), whole)
            }
        };
        Self {
            analysis,
            fingerprint: agent_sql::fingerprint(text),
            redacted,
            whole,
            declares: text.windows(7).any(|word| word.eq_ignore_ascii_case(b"declare")),
        }
    }

    /// The text that this was read from, as the trail keeps it.
    pub fn shown<'a>(&'a self, text: &'a [u8]) -> Cow<'a, str> {
        match &self.redacted {
            Some(redacted) => Cow::Borrowed(redacted),
            None => String::from_utf8_lossy(beginning(text)),
        }
    }

    /// What [`Reading::shown`] is the beginning of, if it is not the whole.
    pub fn whole(&self) -> Option<WholeText<'_>> {
        self.whole.as_ref().map(|whole| WholeText { bytes: whole.bytes, sha256: &whole.sha256 })
    }

    /// About how many bytes it takes.
    fn memory_bytes(&self) -> usize {
        let prepared = self.analysis.prepares.iter().map(|(_, facts)| facts.weight().memory_bytes());
        let names = self.analysis.executes.iter().chain(&self.analysis.fetches).map(|name| name.len() + 32);
        let facts = self.analysis.facts.weight().memory_bytes();
        facts + prepared.chain(names).sum::<usize>() + self.redacted.as_ref().map_or(0, String::len)
    }
}

/// As much of a text as the trail keeps, without a part of a character at its end.
fn beginning(text: &[u8]) -> &[u8] {
    let Some((beginning, rest)) = text.split_at_checked(SHOWN_BYTES_MAX) else { return text };
    let continues = |byte: &u8| byte & 0xc0 == 0x80;
    if !rest.first().is_some_and(continues) {
        return beginning;
    }
    let cut = beginning.iter().rev().take(3).take_while(|byte| continues(byte)).count() + 1;
    beginning.get(..beginning.len() - cut).unwrap_or(beginning)
}

/// How a text is read.
#[derive(Clone, Copy, PartialEq, Eq)]
struct How {
    /// It is a prepared statement's.
    prepared: bool,
    /// What the trail shows of literals.
    literals: Literals,
    /// What the upstream keeps names in; it is the same throughout a session.
    encoding: Encoding,
}

/// A text too long to be read on the session's thread.
pub struct Unread {
    text: Box<[u8]>,
    how: How,
}

/// A long text, and what was read in it.
#[derive(Clone)]
pub struct Read {
    text: Arc<[u8]>,
    how: How,
    reading: Arc<Reading>,
}

impl Unread {
    /// Reads it. Needs the stack that the SQL grammar does.
    pub fn read(self) -> Read {
        let Self { text, how } = self;
        let reading = Arc::new(Reading::new(&text, how));
        Read { text: text.into(), how, reading }
    }
}

/// Reads a session's texts.
pub struct Reader {
    literals: Literals,
    by_shape: Memory<Box<[u8]>>,
    by_statement: Memory<u64>,
    /// Where shapes are made.
    shape: Vec<u8>,
    /// The long texts that were read on another thread for the question at hand.
    read: Vec<Read>,
}

impl Reader {
    /// A reader with empty caches; `full` counts each time that one of them was full and was emptied.
    pub fn new(literals: Literals, full: IntCounter) -> Self {
        let (by_shape, by_statement) = (Memory::new(full.clone()), Memory::new(full));
        Self { literals, by_shape, by_statement, shape: Vec::new(), read: Vec::new() }
    }

    /// Takes the long texts that were read for the question at hand, in place of those of the one before.
    pub fn take(&mut self, read: Vec<Read>) {
        self.read = read;
    }

    /// Reads the text of a Query to an upstream that keeps names in `encoding`, which is the same throughout
    /// a session.
    ///
    /// # Errors
    /// It is too long: it must be read on another thread first, and given to [`Reader::take`].
    pub fn read(&mut self, text: &[u8], encoding: Encoding) -> Result<Arc<Reading>, Unread> {
        let how = How { prepared: false, literals: self.literals, encoding };
        if text.len() > SHORT_BYTES_MAX {
            return self.read_long(text, how);
        }
        let shaped = agent_sql::shape(text, &mut self.shape);
        if let Some(reading) = shaped.then(|| self.by_shape.readings.get(&*self.shape)).flatten() {
            return Ok(Arc::clone(reading));
        }
        let reading = Arc::new(Reading::new(text, how));
        // A text that the grammar refuses may be refused for one of its numbers: it says nothing of its
        // shape.
        if shaped && reading.analysis.unparsed.is_none() {
            self.by_shape.keep(self.shape.as_slice().into(), &reading, text.len());
        }
        Ok(reading)
    }

    /// Reads a prepared statement, likewise.
    ///
    /// # Errors
    /// As of [`Reader::read`].
    pub fn read_statement(
        &mut self,
        statement: &Statement,
        encoding: Encoding,
    ) -> Result<Arc<Reading>, Unread> {
        if let Some(reading) = self.by_statement.readings.get(&statement.id()) {
            return Ok(Arc::clone(reading));
        }
        let (text, how) = (statement.text(), How { prepared: true, literals: self.literals, encoding });
        let reading = if text.len() > SHORT_BYTES_MAX {
            self.read_long(text, how)?
        } else {
            Arc::new(Reading::new(text, how))
        };
        self.by_statement.keep(statement.id(), &reading, text.len());
        Ok(reading)
    }

    /// What was read in a long text on another thread. It must be the same text: what is asked about may have
    /// changed since.
    fn read_long(&self, text: &[u8], how: How) -> Result<Arc<Reading>, Unread> {
        match self.read.iter().find(|read| read.how == how && *read.text == *text) {
            Some(read) => Ok(Arc::clone(&read.reading)),
            None if self.read.len() >= LONG_TEXTS_MAX => {
                Ok(Arc::new(Reading::of(Facts::of_sql(Action::SqlUnparsed))))
            }
            None => Err(Unread { text: text.into(), how }),
        }
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

    /// Keeps the reading of a text of `bytes` bytes.
    fn keep(&mut self, key: K, reading: &Arc<Reading>, bytes: usize) {
        let bytes = if bytes > TEXT_BYTES_MAX { reading.memory_bytes() } else { bytes };
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
        let one = reader.read(b"SELECT 1 FROM t WHERE id = 5", Encoding::Utf8).ok().unwrap();
        let other = reader.read(b"SELECT 1 FROM t WHERE id = 77", Encoding::Utf8).ok().unwrap();
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
            let one = reader.read(one.as_bytes(), Encoding::Utf8).ok().unwrap();
            let other = reader.read(other.as_bytes(), Encoding::Utf8).ok().unwrap();
            assert_ne!(one.analysis, other.analysis);
        }
    }

    #[test]
    fn the_refusal_of_a_text_is_not_cached_for_its_shape() {
        let mut reader = reader();
        let mut unparsed =
            |text: &[u8]| reader.read(text, Encoding::Utf8).ok().unwrap().analysis.unparsed.clone();
        assert!(unparsed(b"SELECT CAST(x AS float(0))").is_some());
        assert!(unparsed(b"SELECT CAST(x AS float(9))").is_none());
    }

    #[test]
    fn the_caches_are_bounded_in_readings_and_in_bytes() {
        let mut reader = reader();
        for i in 0..3 * READINGS_MAX {
            drop(reader.read(format!("SELECT * FROM t{i}").as_bytes(), Encoding::Utf8));
            assert!(reader.by_shape.readings.len() <= READINGS_MAX);
        }
        assert_eq!(reader.by_shape.full.get(), 2);
        let long = format!("SELECT {}1", "1,".repeat(1_500));
        for i in 0..200 {
            drop(reader.read(format!("{long} FROM t{i}").as_bytes(), Encoding::Utf8));
            assert!(reader.by_shape.bytes <= READ_BYTES_MAX);
        }
        assert!(reader.by_shape.full.get() > 2);
    }

    #[test]
    fn a_long_text_is_read_on_another_thread_and_shown_by_its_beginning_and_hash() {
        let mut reader = reader();
        // The cut falls into a character of two bytes.
        let text = format!("SELECT '{}' FROM t", "é".repeat(SHOWN_BYTES_MAX));
        let unread = reader.read(text.as_bytes(), Encoding::Utf8).err().unwrap();
        let stack = std::thread::Builder::new().stack_size(agent_sql::STACK_BYTES_MIN);
        let reading = stack.spawn(move || unread.read()).unwrap().join().unwrap();
        reader.take(vec![reading]);
        let reading = reader.read(text.as_bytes(), Encoding::Utf8).ok().unwrap();
        let shown = reading.shown(text.as_bytes());
        assert!(text.starts_with(&*shown) && (SHOWN_BYTES_MAX - 1..=SHOWN_BYTES_MAX).contains(&shown.len()));
        let whole = reading.whole().unwrap();
        let sha256: String = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!((whole.bytes, whole.sha256), (text.len() as u64, &*sha256));
        reader.take(vec![]);
        assert!(reader.read(text.as_bytes(), Encoding::Utf8).is_err());
    }

    #[test]
    fn what_was_read_in_one_long_text_is_never_taken_for_what_is_in_another() {
        let mut reader = reader();
        let long = |table: char| format!("SELECT '{}' FROM {table}", "x".repeat(SHORT_BYTES_MAX));
        let stack = std::thread::Builder::new().stack_size(agent_sql::STACK_BYTES_MIN);
        let unread = reader.read(long('a').as_bytes(), Encoding::Utf8).err().unwrap();
        let read = stack.spawn(move || unread.read()).unwrap().join().unwrap();
        reader.take(vec![read.clone()]);
        assert!(reader.read(long('a').as_bytes(), Encoding::Utf8).is_ok());
        assert!(reader.read(long('b').as_bytes(), Encoding::Utf8).is_err());
        assert!(reader.read(long('a').as_bytes(), Encoding::SqlAscii).is_err());
        // Beyond the bound nothing more is read for a question.
        reader.take(vec![read; LONG_TEXTS_MAX]);
        let other = reader.read(long('b').as_bytes(), Encoding::Utf8).ok().unwrap();
        assert_eq!(other.analysis.facts, Facts::of_sql(Action::SqlUnparsed));
    }

    #[test]
    fn the_hash_of_a_long_text_tells_nothing_of_literals_that_the_trail_masks() {
        let whole = |literal: char| {
            let text = format!("SELECT '{literal}'{}", ", a".repeat(SHOWN_BYTES_MAX / 3));
            let (literals, encoding) = (Literals::Redact, Encoding::Utf8);
            let reading = Reading::new(text.as_bytes(), How { prepared: false, literals, encoding });
            assert_eq!(reading.shown(text.as_bytes()).len(), SHOWN_BYTES_MAX);
            reading.whole().unwrap().sha256.to_owned()
        };
        assert_eq!(whole('a'), whole('b'));
    }
}
