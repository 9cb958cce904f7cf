//! Masks secrets in program arguments before they reach the trail.
//!
//! In doubt it masks: a masked file name makes a record harder to read, a recorded password is a leaked
//! password. It can only be a second line of defence, because no rule knows every program's options.
//! Arguments are never reordered, dropped or added, and text that is not a secret is never changed.

mod names;
mod programs;
#[cfg(test)]
mod tests;
mod text;

pub use text::MASK;

use names::is_secret;
use programs::{SecretOption, Shape, options_of};

/// How deep scripts inside scripts (`sh -c 'sh -c "…"'`) are read word by word; a deeper one is masked whole.
const SCRIPT_DEPTH_MAX: u8 = 4;

/// A process's arguments with their secrets masked, as many as were given.
pub fn argv<T: AsRef<str>>(arguments: &[T]) -> Vec<String> {
    let mut words = Words::new(0);
    arguments.iter().map(|argument| words.redact(argument.as_ref())).collect()
}

/// Free text, such as a shell command line, with secrets masked.
pub fn command_line(text: &str) -> String {
    Words::new(0).script(text)
}

/// What the words so far tell about the next one.
enum Next {
    /// Nothing.
    Plain,
    /// It is the value of a secret option.
    Secret,
    /// It is `user:password`.
    Pair,
    /// It may be a script.
    Script,
}

/// Reads a command line word by word.
struct Words {
    options: &'static [SecretOption],
    next: Next,
    depth: u8,
}

impl Words {
    fn new(depth: u8) -> Self {
        Self { options: &[], next: Next::Plain, depth }
    }

    fn redact(&mut self, word: &str) -> String {
        match std::mem::replace(&mut self.next, Next::Plain) {
            Next::Secret => return MASK.to_owned(),
            Next::Pair => return pair(word),
            Next::Script if word.contains(char::is_whitespace) => return self.script(word),
            Next::Script | Next::Plain => {}
        }
        if let Some(options) = options_of(word) {
            self.options = options;
            return word.to_owned();
        }
        if word.starts_with('-') { self.option(word) } else { self.operand(word) }
    }

    fn option(&mut self, word: &str) -> String {
        for SecretOption { name, shape } in self.options {
            let Some(rest) = word.strip_prefix(name) else { continue };
            let is_long = name.starts_with("--");
            let value = match rest.strip_prefix('=') {
                _ if rest.is_empty() => None,
                Some(value) if is_long => Some(value),
                // A longer name that begins as this one does.
                None if is_long => continue,
                _ => Some(rest),
            };
            let equals = if is_long { "=" } else { "" };
            match (shape, value) {
                (Shape::Attached, None) => {}
                (Shape::Secret, None) => {
                    self.next = Next::Secret;
                    return word.to_owned();
                }
                (Shape::Pair, None) => {
                    self.next = Next::Pair;
                    return word.to_owned();
                }
                (Shape::Attached | Shape::Secret, Some(_)) => return format!("{name}{equals}{MASK}"),
                (Shape::Pair, Some(value)) => return format!("{name}{equals}{}", pair(value)),
            }
        }
        match word.split_once('=') {
            Some((name, _)) if is_secret(name) => return format!("{name}={MASK}"),
            Some(_) => {}
            // The value may begin with a dash, so the next word is masked whatever it looks like.
            None if is_secret(word) => self.next = Next::Secret,
            // `sh -c`, `bash -lc`, `psql -c`, `python3 -c`: the next argument is a text of several words.
            None if is_script_option(word) => self.next = Next::Script,
            None => {}
        }
        text::redact(word)
    }

    fn operand(&self, word: &str) -> String {
        // `PGPASSWORD=…`, as env(1) takes it, is masked to its end. A connection string that begins with its
        // password has further settings, so it is read as text, value by value.
        match word.split_once('=') {
            Some((name, value)) if names::is_name(name) && is_secret(name) && !text::has_setting(value) => {
                format!("{name}={MASK}")
            }
            _ => text::redact(word),
        }
    }

    fn script(&self, script: &str) -> String {
        if self.depth >= SCRIPT_DEPTH_MAX {
            return MASK.to_owned();
        }
        let mut words = Self::new(self.depth + 1);
        let mut out = String::with_capacity(script.len());
        for piece in text::shell_words(script) {
            match piece {
                text::Piece::Space(space) => out.push_str(space),
                text::Piece::Word(word) => {
                    let bare = text::unquoted(word);
                    let quote = word.get(..(word.len() - bare.len()) / 2).unwrap_or("");
                    out.extend([quote, &words.redact(bare), quote]);
                }
            }
        }
        // Once more as a whole, because SQL's PASSWORD '…' and headers span several words.
        text::redact(&out)
    }
}

/// `user:password` with the password masked; without a colon there is no password.
fn pair(word: &str) -> String {
    match word.split_once(':') {
        Some((user, _)) => format!("{user}:{MASK}"),
        None => word.to_owned(),
    }
}

fn is_script_option(word: &str) -> bool {
    match word.strip_prefix('-') {
        Some(letters) => letters.ends_with('c') && letters.bytes().all(|byte| byte.is_ascii_lowercase()),
        None => false,
    }
}
