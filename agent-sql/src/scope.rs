//! Which names in a statement are those of common table expressions rather than of tables.

/// How many names a look-up compares before it gives up and takes the name for a table's. Taking too many
/// names for tables is safe, and a text full of nested `WITH` must not cost time that grows with the square
/// of its length.
const LOOKUP_STEPS_MAX: u32 = 128;

/// One scope among [`Scopes`]. It sees one name of its own, and all those of its parents.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Scope(Option<u32>);

/// The common table expressions of a statement: each entry is one name and the scope it was added to.
#[derive(Default)]
pub(crate) struct Scopes<'a> {
    names: Vec<(&'a str, Scope)>,
}

impl Scope {
    /// The scope that sees no name.
    pub(crate) const NONE: Self = Self(None);
}

impl<'a> Scopes<'a> {
    /// The scope that sees `name` and all that `parent` sees. Beyond 2³² names, one more is left out, and so
    /// taken for a table's.
    pub(crate) fn with(&mut self, parent: Scope, name: &'a str) -> Scope {
        let Ok(at) = u32::try_from(self.names.len()) else { return parent };
        self.names.push((name, parent));
        Scope(Some(at))
    }

    /// Whether `name` is certainly a common table expression's in `scope`.
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
