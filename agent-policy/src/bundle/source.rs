//! The files that a bundle is made of, as text, and the one error that refuses a bundle.

use std::fmt;

/// One file of a bundle.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its path as errors and decisions name it: `policies/default/sql-read.cedar`.
    pub path: String,
    /// Its whole text.
    pub text: String,
}

impl Source {
    /// A source from anything that converts to strings.
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self { path: path.into(), text: text.into() }
    }

    /// The last component of the path. It alone says what the file is for.
    pub(crate) fn file_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// The kind of file, or `None` for a name that no file of a bundle has.
    pub(crate) fn kind(&self) -> Option<Kind> {
        match self.file_name() {
            "upstreams.toml" => Some(Kind::Upstreams),
            "resources.toml" => Some(Kind::Resources),
            name if name.ends_with(".cases.toml") => Some(Kind::Cases),
            name if name.ends_with(".cedar") => Some(Kind::Policies),
            _ => None,
        }
    }

    /// The error that refuses this file, at a byte offset of its text.
    pub(crate) fn refuse_at(&self, offset: usize, reason: impl fmt::Display) -> BundleError {
        self.refuse_line(line_of(&self.text, offset), reason)
    }

    /// The error that refuses this file, at a line.
    pub(crate) fn refuse_line(&self, line: usize, reason: impl fmt::Display) -> BundleError {
        BundleError { file: self.path.clone(), line, reason: one_line(&reason.to_string()) }
    }

    /// The error that refuses this file as TOML that does not parse, or that has wrong keys or values.
    pub(crate) fn refuse_toml(&self, error: &toml::de::Error) -> BundleError {
        self.refuse_at(error.span().map_or(0, |span| span.start), error.message())
    }
}

/// What a file of a bundle is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `*.cedar`
    Policies,
    /// `upstreams.toml`
    Upstreams,
    /// `resources.toml`
    Resources,
    /// `*.cases.toml`: not part of what decides.
    Cases,
}

/// Why a bundle is refused. An error in one file refuses the whole bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {reason}")]
pub struct BundleError {
    /// The file, as its [`Source`] names it.
    pub file: String,
    /// The line in it, from 1.
    pub line: usize,
    /// What is wrong and what to do, in one line.
    pub reason: String,
}

/// The line, from 1, of a byte offset.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|&byte| byte == b'\n').count() + 1
}

/// The text on one line. Errors of the libraries span several, and a refusal must be one line in a log.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_converted_to_its_line() {
        let check = |offset, expect| assert_eq!(line_of("a\nbc\n\nd", offset), expect, "offset {offset}");
        check(0, 1);
        check(1, 1);
        check(2, 2);
        check(5, 3);
        check(6, 4);
        check(600, 4);
    }

    #[test]
    fn a_file_is_recognised_by_its_name() {
        let check = |path: &str, expect| assert_eq!(Source::new(path, "").kind(), expect, "{path}");
        check("default/sql-read.cedar", Some(Kind::Policies));
        check("default/sql-read.cases.toml", Some(Kind::Cases));
        check("hosts/a/upstreams.toml", Some(Kind::Upstreams));
        check("resources.toml", Some(Kind::Resources));
        check("default/upstream.toml", None);
        check("default/cedar", None);
    }
}
