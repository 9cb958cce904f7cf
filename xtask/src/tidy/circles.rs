//! Finds files that import each other in a circle, over however many steps: none of them can be understood,
//! or moved, without all the others.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path, PathBuf},
};

use super::imports::{Module, Named, Scan, scan};

/// Files that have their children beside them. Any other `name.rs` has them in `name/`.
const OWNERS: [&str; 4] = ["mod.rs", "lib.rs", "main.rs", "build.rs"];

/// An import of one file by another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Import {
    to: PathBuf,
    line: usize,
    path: String,
}

/// What each file imports, one import for each other file.
type Imports = BTreeMap<PathBuf, Vec<Import>>;

/// Describes every circle among these files, a text each.
pub(super) fn find(files: &BTreeMap<PathBuf, String>) -> Vec<String> {
    let imports = imports(files);
    let reached: BTreeMap<&Path, BTreeSet<&Path>> =
        imports.keys().map(|file| (file.as_path(), reached(&imports, file))).collect();
    let mut told = BTreeSet::new();
    let mut circles = Vec::new();
    for (file, targets) in &reached {
        if !targets.contains(file) || !told.insert(*file) {
            continue;
        }
        let in_circle = |other: &Path| reached.get(other).is_some_and(|back| back.contains(file));
        let members: BTreeSet<&Path> = targets.iter().copied().filter(|other| in_circle(other)).collect();
        told.extend(&members);
        circles.push(describe(&imports, &members));
    }
    circles
}

fn describe(imports: &Imports, members: &BTreeSet<&Path>) -> String {
    let mut text = format!("{} files import each other in a circle:", members.len());
    for member in members {
        for Import { to, line, path } in imports.get(*member).into_iter().flatten() {
            if members.contains(to.as_path()) {
                text += &format!("\n    {}:{line} imports {} ({path})", member.display(), to.display());
            }
        }
    }
    text
}

/// All files that one imports, over however many steps.
fn reached<'a>(imports: &'a Imports, from: &Path) -> BTreeSet<&'a Path> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&Path> = vec![from];
    while let Some(file) = open.pop() {
        for import in imports.get(file).into_iter().flatten() {
            if found.insert(import.to.as_path()) {
                open.push(&import.to);
            }
        }
    }
    found
}

fn imports(files: &BTreeMap<PathBuf, String>) -> Imports {
    let scans: BTreeMap<&Path, Scan> =
        files.iter().map(|(path, text)| (path.as_path(), scan(text))).collect();
    let tree = Tree::of(&scans);
    let of = |(file, scan): (&&Path, &Scan)| {
        let aliases = tree.aliases(file, scan);
        let mut found = BTreeMap::new();
        for named in &scan.paths {
            if let Some(to) = tree.resolve(file, named, &aliases).filter(|to| to != file) {
                let import = Import { to: to.clone(), line: named.line, path: named.names.join("::") };
                found.entry(to).or_insert(import);
            }
        }
        (file.to_path_buf(), found.into_values().collect())
    };
    scans.iter().map(of).collect()
}

/// Which file declares which.
struct Tree {
    children: BTreeMap<PathBuf, BTreeMap<String, PathBuf>>,
    parents: BTreeMap<PathBuf, PathBuf>,
}

impl Tree {
    fn of(scans: &BTreeMap<&Path, Scan>) -> Self {
        let mut tree = Self { children: BTreeMap::new(), parents: BTreeMap::new() };
        for (file, scan) in scans {
            for module in &scan.modules {
                let child =
                    candidates(file, module).into_iter().find(|path| scans.contains_key(path.as_path()));
                if let Some(child) = child {
                    tree.parents.insert(child.clone(), file.to_path_buf());
                    tree.children.entry(file.to_path_buf()).or_default().insert(module.name.clone(), child);
                }
            }
        }
        tree
    }

    fn child(&self, file: &Path, name: &str) -> Option<&PathBuf> {
        self.children.get(file)?.get(name)
    }

    fn root<'a>(&'a self, mut file: &'a Path) -> &'a Path {
        while let Some(parent) = self.parents.get(file) {
            file = parent;
        }
        file
    }

    /// The modules that a file's `use` declarations make known by a name.
    fn aliases(&self, file: &Path, scan: &Scan) -> BTreeMap<String, PathBuf> {
        let mut aliases = BTreeMap::new();
        for named in &scan.paths {
            let Some(name) = &named.known_as else { continue };
            if let Some((module, [])) = self.walk(file, named, &BTreeMap::new()) {
                aliases.insert(name.clone(), module);
            }
        }
        aliases
    }

    /// The file that a path leads to by the modules in it; `None` if it leads out of this project.
    fn resolve(&self, file: &Path, named: &Named, aliases: &BTreeMap<String, PathBuf>) -> Option<PathBuf> {
        self.walk(file, named, aliases).map(|(module, _)| module)
    }

    /// The file that [`Self::resolve`] returns, and the path's names that are left.
    fn walk<'a>(
        &self,
        file: &Path,
        named: &'a Named,
        aliases: &BTreeMap<String, PathBuf>,
    ) -> Option<(PathBuf, &'a [String])> {
        let (first, mut rest) = named.names.split_first()?;
        let mut module = match first.as_str() {
            "crate" => self.root(file).to_path_buf(),
            "self" => file.to_path_buf(),
            "super" => {
                let more = rest.iter().take_while(|name| *name == "super").count();
                rest = rest.get(more..)?;
                let mut module = file;
                for _ in named.inline_depth..=more {
                    module = self.parents.get(module)?;
                }
                module.to_path_buf()
            }
            name => self.child(file, name).or_else(|| aliases.get(name))?.clone(),
        };
        while let Some((name, left)) = rest.split_first() {
            let Some(child) = self.child(&module, name) else { break };
            (module, rest) = (child.clone(), left);
        }
        Some((module, rest))
    }
}

/// Where the file of a declared module may be.
fn candidates(file: &Path, module: &Module) -> Vec<PathBuf> {
    let directory = file.parent().unwrap_or(Path::new(""));
    let name = &module.name;
    if let Some(path) = &module.path {
        return vec![without_dots(&directory.join(path))];
    }
    let is_owner = file.file_name().is_some_and(|name| OWNERS.iter().any(|owner| name == *owner));
    let own = if is_owner { directory.to_owned() } else { file.with_extension("") };
    // The root of a test or an example has its children beside it, whatever it is called.
    [own.as_path(), directory]
        .iter()
        .flat_map(|place| [place.join(format!("{name}.rs")), place.join(name).join("mod.rs")])
        .collect()
}

/// A path without its `..` and `.`.
fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The circles among files given as name and text, each by the names of its files.
    fn check(files: &[(&str, &str)], expect: &[&[&str]]) {
        let files = files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect();
        let found = find(&files);
        assert_eq!(found.len(), expect.len(), "{found:?}");
        for (circle, members) in found.iter().zip(expect) {
            assert!(circle.starts_with(&format!("{} files", members.len())), "{circle}");
            assert!(members.iter().all(|member| circle.contains(member)), "{circle}");
        }
    }

    #[test]
    fn files_that_import_one_way_are_in_no_circle() {
        check(
            &[
                ("a/src/main.rs", "mod x; mod y; fn main() { x::run() }"),
                ("a/src/x.rs", "use crate::y::Y; use serde::Serialize;"),
                ("a/src/y.rs", "use std::fmt; use self::fmt::Display;"),
            ],
            &[],
        );
    }

    #[test]
    fn two_files_that_import_each_other_are_a_circle() {
        check(
            &[
                ("a/src/lib.rs", "mod x; mod y;"),
                ("a/src/x.rs", "use crate::y::Y;"),
                ("a/src/y.rs", "use super::x::{X};"),
            ],
            &[&["a/src/x.rs", "a/src/y.rs"]],
        );
    }

    #[test]
    fn a_circle_over_three_files_and_a_folder_is_found() {
        check(
            &[
                ("a/src/lib.rs", "mod x; mod y; mod z;"),
                ("a/src/x/mod.rs", "mod deep;"),
                ("a/src/x/deep.rs", "use crate::y; fn f() { y::g() }"),
                ("a/src/y.rs", "use crate::z::Z;"),
                ("a/src/z.rs", "fn z() { crate::x::deep::f() }"),
            ],
            &[&["a/src/x/deep.rs", "a/src/y.rs", "a/src/z.rs"]],
        );
    }

    #[test]
    fn a_module_that_hands_on_a_child_which_uses_it_is_a_circle() {
        check(
            &[
                ("a/src/lib.rs", "mod x;"),
                ("a/src/x/mod.rs", "mod child; pub use child::Child; pub struct Shared;"),
                ("a/src/x/child.rs", "use super::Shared;"),
            ],
            &[&["a/src/x/child.rs", "a/src/x/mod.rs"]],
        );
    }

    #[test]
    fn a_module_known_by_another_name_is_followed() {
        check(
            &[
                ("a/src/lib.rs", "mod x; mod y;"),
                ("a/src/x.rs", "use crate::y as other; fn f() -> other::Y {}"),
                ("a/src/y/mod.rs", "mod inner;"),
                ("a/src/y/inner.rs", "use crate::x;"),
            ],
            &[],
        );
    }

    #[test]
    fn unit_tests_import_what_they_like() {
        check(
            &[
                ("a/src/lib.rs", "mod x; mod y;"),
                ("a/src/x.rs", "use crate::y::Y;"),
                ("a/src/y.rs", "#[cfg(test)] mod tests { use crate::x::X; }"),
            ],
            &[],
        );
    }

    #[test]
    fn super_in_an_inline_module_is_the_file_itself() {
        check(&[("a/src/lib.rs", "mod x; use x::X;"), ("a/src/x.rs", "mod inner { use super::Y; }")], &[]);
    }
}
