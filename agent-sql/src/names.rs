//! The names in a text that an encoding other than UTF-8 could change.

use crate::lexer::{Kind, Lexer};

/// Whether `keeps` holds for every name in `sql` that is not ASCII. It is given the name as it is written,
/// and whether that is in quotes. A name written with Unicode escapes (`U&"…"`) is never kept: what it
/// stands for is known only behind the grammar.
pub fn keeps_names(sql: &[u8], keeps: impl Fn(&[u8], bool) -> bool) -> bool {
    if sql.is_ascii() && !sql.windows(2).any(|bytes| bytes == b"&\"") {
        return true;
    }
    Lexer::new(sql).all(|token| match token.kind {
        Kind::String => true,
        Kind::Quoted => match token.text.strip_prefix(b"\"").and_then(|name| name.strip_suffix(b"\"")) {
            Some(name) => name.is_ascii() || keeps(name, true),
            None => false,
        },
        Kind::Word | Kind::Number | Kind::Parameter | Kind::Symbol => {
            token.text.is_ascii() || keeps(token.text, false)
        }
        Kind::Broken => token.text.is_ascii(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_beyond_ascii_are_asked_about() {
        let asked = |sql: &str| {
            let names = std::cell::RefCell::new(Vec::new());
            let kept = keeps_names(sql.as_bytes(), |name, quoted| {
                names.borrow_mut().push((String::from_utf8_lossy(name).into_owned(), quoted));
                true
            });
            (kept, names.into_inner())
        };
        let name = |name: &str, quoted| (name.to_owned(), quoted);
        assert_eq!(asked("SELECT 'é' -- é\n, $é$ x $é$, e'\\'é' FROM t"), (true, vec![]));
        assert_eq!(asked("SELECT é FROM \"ñ\"\"\""), (true, vec![name("é", false), name("ñ\"\"", true)]));
        assert_eq!(asked("SELECT 1é"), (true, vec![name("1é", false)]));
        assert!(!asked("SELECT U&\"\\00e9\"").0);
        assert!(asked("SELECT U&'\\00e9' FROM \"t\"").0);
        assert!(!asked("SELECT \"é").0);
        assert!(!keeps_names("SELECT é".as_bytes(), |_, _| false));
    }

    #[test]
    fn the_grammar_cuts_names_to_63_bytes_between_characters() {
        let name = |letters: usize| {
            let sql = format!("EXECUTE \"{}\"", "é".repeat(letters));
            crate::analyze(sql.as_bytes()).executes.remove(0).into_string()
        };
        assert_eq!(name(31), "é".repeat(31));
        assert_eq!(name(40), "é".repeat(31));
    }
}
