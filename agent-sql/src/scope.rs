//! Which names are common table expressions at a place in a statement, rather than tables.

/// How many names a look-up passes before it gives up and says "table": saying so too often is safe, and a text
/// full of nested `WITH` must not cost time in the square of its length.
const LOOKUP_STEPS_MAX: u32 = 128;

/// A place among the [`Scopes`]: the names it sees are its own and its parents'.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Scope(Option<u32>);

/// The common table expressions of a statement: each entry is one name and the scope it was added to.
#[derive(Default)]
pub(crate) struct Scopes<'a> {
    names: Vec<(&'a str, Scope)>,
}

impl Scope {
    /// Where no name is known.
    pub(crate) const NONE: Self = Self(None);
}

impl<'a> Scopes<'a> {
    /// The scope that sees `name` beside all that `parent` sees. A name too many is left out: it's a table then.
    pub(crate) fn with(&mut self, parent: Scope, name: &'a str) -> Scope {
        let Ok(at) = u32::try_from(self.names.len()) else { return parent };
        self.names.push((name, parent));
        Scope(Some(at))
    }

    /// Whether `name` is certainly a common table expression in `scope`.
    pub(crate) fn sees(&self, scope: Scope, name: &str) -> bool {
        let mut at = scope;
        for _ in 0..LOOKUP_STEPS_MAX {
            let Some((known, parent)) = at.0.and_then(|at| self.names.get(at as usize)) else { return false };
            if *known == name {
                return true;
            }
            at = *parent;
        }
        false
    }
}
