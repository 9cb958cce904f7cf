//! Reads what a Rust file imports: the modules that it declares, and the paths that it names. It goes by
//! tokens, without a grammar, and leaves out what is compiled only for tests.

use super::tokens::{Token, tokens};

/// What one file declares and names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// Modules with a file of their own: `mod name;`.
    pub(super) modules: Vec<Module>,
    /// Paths in `use` declarations and in code, in the file's order.
    pub(super) paths: Vec<Named>,
    /// How many lines are compiled only for tests.
    pub(super) test_lines: usize,
}

/// A module whose content is in another file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Module {
    pub(super) name: String,
    /// The value of its `#[path]`, relative to the directory of the declaring file; `None` without one.
    pub(super) path: Option<String>,
}

/// A path of at least two names, or one in a `use` declaration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) line: usize,
    pub(super) names: Vec<String>,
    /// The name by which a `use` declaration makes it known in this file; `None` for a path in code, and for
    /// a path that ends in `*`.
    pub(super) known_as: Option<String>,
    /// How many inline modules (`mod name { … }`) of this file enclose it.
    pub(super) inline_depth: usize,
}

/// Scans a file's text.
pub(super) fn scan(text: &str) -> Scan {
    let mut scanner =
        Scanner { tokens: tokens(text), at: 0, inline: Vec::new(), depth: 0, found: Scan::default() };
    while scanner.at < scanner.tokens.len() {
        scanner.item();
    }
    scanner.found
}

struct Scanner<'a> {
    /// Each with its line, from 1.
    tokens: Vec<(usize, Token<'a>)>,
    /// The index of the next token.
    at: usize,
    /// For each inline module around the next token, how many braces were open in front of its own.
    inline: Vec<usize>,
    /// How many braces are open.
    depth: usize,
    found: Scan,
}

impl<'a> Scanner<'a> {
    /// The token `ahead` places behind the next one; `None` at the end of the file.
    fn token(&self, ahead: usize) -> Option<Token<'a>> {
        self.tokens.get(self.at + ahead).map(|(_, token)| *token)
    }

    /// The word at that place; `None` if another token is there.
    fn word(&self, ahead: usize) -> Option<&'a str> {
        match self.token(ahead) {
            Some(Token::Word(word)) => Some(word),
            _ => None,
        }
    }

    fn line(&self) -> usize {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(0, |(line, _)| *line)
    }

    /// Takes the next token, and what belongs to it if it begins something that imports.
    fn item(&mut self) {
        match self.token(0) {
            Some(Token::Other('#')) if self.token(1) == Some(Token::Other('[')) => self.attribute(None),
            // `pub(in super::super)` says who may import, and imports nothing.
            Some(Token::Word("pub")) if self.token(1) == Some(Token::Other('(')) => {
                self.at += 1;
                self.bracketed();
            }
            Some(Token::Word("mod")) => self.module(None),
            Some(Token::Word("use")) => {
                self.at += 1;
                self.tree(&[]);
            }
            Some(Token::Word(_)) => self.path(),
            Some(Token::Other('{')) => {
                self.depth += 1;
                self.at += 1;
            }
            Some(Token::Other('}')) => {
                self.depth = self.depth.saturating_sub(1);
                if self.inline.last() == Some(&self.depth) {
                    self.inline.pop();
                }
                self.at += 1;
            }
            _ => self.at += 1,
        }
    }

    /// Takes an attribute. After `#[cfg(test)]` it skips the item; after `#[path]` it takes the module that
    /// the attribute puts into another file. `path` is what a `#[path]` in front of this attribute said.
    fn attribute(&mut self, mut path: Option<String>) {
        let (begin, first_line) = (self.at, self.line());
        self.at += 1;
        self.bracketed();
        let tokens = self.tokens.get(begin..self.at).unwrap_or_default();
        let has = |word| tokens.iter().any(|(_, token)| *token == Token::Word(word));
        if has("cfg") && has("test") && !has("not") {
            self.skip_item();
            let last_line = self.tokens.get(self.at.wrapping_sub(1)).map_or(first_line, |(line, _)| *line);
            self.found.test_lines += last_line + 1 - first_line;
            return;
        }
        if let [_, _, (_, Token::Word("path")), _, (_, Token::Text(text)), ..] = tokens {
            path = Some((*text).to_owned());
        }
        match self.token(0) {
            Some(Token::Other('#')) => self.attribute(path),
            Some(Token::Word("mod")) => self.module(path),
            Some(Token::Word("pub")) if path.is_some() && self.word(1) == Some("mod") => {
                self.at += 1;
                self.module(path);
            }
            _ => {}
        }
    }

    /// Skips from an opening bracket past its closing one.
    fn bracketed(&mut self) {
        let mut open = 0_usize;
        while let Some(token) = self.token(0) {
            self.at += 1;
            match token {
                Token::Other('(' | '[' | '{') => open += 1,
                Token::Other(')' | ']' | '}') => open = open.saturating_sub(1),
                _ => {}
            }
            if open == 0 {
                return;
            }
        }
    }

    /// Skips an item, up to and including its `;` or its braces, or a field of a struct.
    fn skip_item(&mut self) {
        if self.word(0) == Some("pub") {
            self.at += 1;
            if self.token(0) == Some(Token::Other('(')) {
                self.bracketed();
            }
        }
        let is_field = matches!(self.token(1), Some(Token::Other(':' | ',' | '}')));
        while let Some(token) = self.token(0) {
            match token {
                Token::Other('}') if is_field => return,
                Token::Other(',') if is_field => {
                    self.at += 1;
                    return;
                }
                Token::Other('{') => return self.bracketed(),
                Token::Other('(' | '[') => self.bracketed(),
                Token::Other(';') => {
                    self.at += 1;
                    return;
                }
                _ => self.at += 1,
            }
        }
    }

    /// Takes `mod name;`, or the beginning of `mod name { … }`.
    fn module(&mut self, path: Option<String>) {
        self.at += 1;
        let Some(name) = self.word(0) else { return };
        self.at += 1;
        match self.token(0) {
            Some(Token::Other(';')) => self.found.modules.push(Module { name: name.to_owned(), path }),
            Some(Token::Other('{')) => self.inline.push(self.depth),
            _ => {}
        }
    }

    /// Takes one tree of a `use` declaration; `above` are the names in front of the braces that it stands in.
    fn tree(&mut self, above: &[String]) {
        let mut names = above.to_vec();
        let line = self.line();
        loop {
            match self.token(0) {
                Some(Token::Path) => self.at += 1,
                Some(Token::Word(word)) if word != "as" => {
                    names.push(word.to_owned());
                    self.at += 1;
                }
                Some(Token::Other('{')) => {
                    self.at += 1;
                    while self.token(0).is_some_and(|token| token != Token::Other('}')) {
                        self.tree(&names);
                        if self.token(0) == Some(Token::Other(',')) {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    return;
                }
                _ => break,
            }
        }
        if names.len() > 1 && names.last().is_some_and(|name| name == "self") {
            names.pop();
        }
        let mut known_as = names.last().cloned();
        match (self.token(0), self.word(1)) {
            (Some(Token::Word("as")), renamed) => {
                known_as = renamed.map(str::to_owned);
                self.at += 2;
            }
            (Some(Token::Other('*')), _) => {
                known_as = None;
                self.at += 1;
            }
            (None | Some(Token::Other(',' | '}' | ';')), _) => {}
            // No `use` declaration after all. The token is skipped, or the callers' loops would never end.
            _ => self.at += 1,
        }
        if !names.is_empty() {
            self.found.paths.push(Named { line, names, known_as, inline_depth: self.inline.len() });
        }
    }

    /// Takes a path in code.
    fn path(&mut self) {
        let line = self.line();
        let before = self.at.checked_sub(1).and_then(|at| self.tokens.get(at)).map(|(_, token)| *token);
        let mut names = Vec::new();
        while let Some(word) = self.word(0) {
            names.push(word.to_owned());
            self.at += 1;
            if self.token(0) != Some(Token::Path) || self.word(1).is_none() {
                break;
            }
            self.at += 1;
        }
        // What follows a dot is a field or a method, and what follows `>::`, as in `<T as Trait>::f`, is the
        // end of a longer path: neither is a path of its own.
        if names.len() > 1 && !matches!(before, Some(Token::Path | Token::Other('.'))) {
            self.found.paths.push(Named { line, names, known_as: None, inline_depth: self.inline.len() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        scan(text).paths.into_iter().map(|path| path.names.join("::")).collect()
    }

    #[test]
    fn a_use_declaration_is_read_into_its_last_branch() {
        assert_eq!(
            paths("use crate::{a, b::{self, C as D}, e::*};"),
            ["crate::a", "crate::b", "crate::b::C", "crate::e"]
        );
        let known = scan("use a::{b, c as d, e::*};").paths.into_iter().map(|path| path.known_as);
        assert_eq!(known.collect::<Vec<_>>(), [Some("b".to_owned()), Some("d".to_owned()), None]);
    }

    #[test]
    fn a_path_in_code_counts_and_a_method_does_not() {
        assert_eq!(paths("fn f() { super::g(a.b(), Vec::<crate::T>::new(), x) }"), ["super::g", "crate::T"]);
    }

    #[test]
    fn a_visibility_is_no_import() {
        assert_eq!(paths("pub(in crate::a) use super::b; pub(in super::super) fn f() {}"), ["super::b"]);
    }

    #[test]
    fn what_only_tests_compile_is_left_out() {
        assert_eq!(paths("#[cfg(test)] mod tests { use a::b; } use c::d;"), ["c::d"]);
        assert_eq!(paths("#[cfg(test)] use a::{b, c}; use c::d;"), ["c::d"]);
        assert_eq!(paths("#[cfg(test)]\n#[path = \"x\"] mod t; use c::d;"), ["c::d"]);
        assert_eq!(paths("#[cfg(not(test))] use a::b;"), ["a::b"]);
        let fields =
            "struct S { #[cfg(test)] pub(crate) x: a::B } fn f(s: S) { S { #[cfg(test)] x, y: c::d() }; }";
        assert_eq!(paths(fields), ["c::d"]);
        assert_eq!(scan("a\n#[cfg(test)]\nmod tests {\n}\nb").test_lines, 3);
    }

    #[test]
    fn a_module_in_a_file_of_its_own_is_told_from_an_inline_one() {
        let module =
            |name: &str, path: Option<&str>| Module { name: name.into(), path: path.map(str::to_owned) };
        let found = scan(
            "mod a; pub(crate) mod b; #[path = \"../c.rs\"] mod c; mod d { use super::X; } use super::Y;",
        );
        assert_eq!(found.modules, [module("a", None), module("b", None), module("c", Some("../c.rs"))]);
        let depths: Vec<usize> = found.paths.iter().map(|path| path.inline_depth).collect();
        assert_eq!(depths, [1, 0]);
    }
}
