//! The house style as far as a program can check it: line and file lengths, file names, circles of imports.
//! It reads what git tracks, and must know no file by its content.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail, ensure};
use lineal_tests::paths;

use super::{circles, imports};
use crate::shell::{in_repository, say};

/// The longest line, in characters.
const COLUMNS_MAX: usize = 110;
/// Which files' lines are measured.
const MEASURED: [&str; 7] = ["rs", "md", "toml", "py", "mjs", "sh", "cedar"];
/// The longest file of production code, in lines. Its unit tests don't count.
const PRODUCTION_LINES_MAX: usize = 500;
/// The one file that two crates share by `#[path]`.
const SHARED: &str = "toolchain.rs";

/// Checks every tracked file. All that is wrong is listed before this fails.
pub(crate) fn check() -> anyhow::Result<()> {
    let files = tracked()?;
    let mut wrong = Vec::new();
    for (path, text) in &files {
        wrong.extend(long_lines(path, text));
        wrong.extend(in_rust(path, text));
    }
    wrong.extend(beside_folders(&files));
    let rust = files.into_iter().filter(|(path, _)| is_rust(path)).collect();
    wrong.extend(circles::find(&rust));
    for line in &wrong {
        say(format_args!("{line}"));
    }
    if wrong.is_empty() { Ok(()) } else { bail!("{} things are not in the house style", wrong.len()) }
}

/// The measured files that git tracks, by their paths from the root directory.
fn tracked() -> anyhow::Result<BTreeMap<PathBuf, String>> {
    let mut list = in_repository(Command::new("git"));
    let output = list.args(["ls-files", "-z"]).output().context("cannot start git")?;
    ensure!(output.status.success(), "git can't list its files: {}", String::from_utf8_lossy(&output.stderr));
    let list = String::from_utf8(output.stdout).context("a file's name is no text")?;
    let mut files = BTreeMap::new();
    for name in list.split('\0') {
        let path = Path::new(name);
        let measured = path.extension().is_some_and(|extension| MEASURED.iter().any(|one| extension == *one));
        // A file that was deleted and not yet staged is tracked, too.
        if measured && let Ok(text) = fs::read_to_string(paths::repository().join(path)) {
            files.insert(path.to_owned(), text);
        }
    }
    Ok(files)
}

fn long_lines(path: &Path, text: &str) -> Vec<String> {
    let markdown = path.extension().is_some_and(|extension| extension == "md");
    // A table's row can't be broken, and neither can a link.
    let excepted = |line: &str| markdown && (line.starts_with('|') || line.contains("]("));
    let long = |(index, line): (usize, &str)| {
        let columns = line.chars().count();
        let wrong = columns > COLUMNS_MAX && !excepted(line);
        wrong.then(|| format!("{}:{}: {columns} columns, at most {COLUMNS_MAX}", path.display(), index + 1))
    };
    text.lines().enumerate().filter_map(long).collect()
}

/// What is wrong with a Rust file by itself.
fn in_rust(path: &Path, text: &str) -> Vec<String> {
    if !is_rust(path) {
        return Vec::new();
    }
    let shown = path.display();
    let mut wrong = Vec::new();
    let lines = text.lines().count() - imports::scan(text).test_lines;
    if is_production(path) && lines > PRODUCTION_LINES_MAX {
        wrong.push(format!(
            "{shown}: {lines} lines without its tests, at most {PRODUCTION_LINES_MAX}: split it"
        ));
    }
    if path.to_string_lossy().ends_with("_tests.rs") {
        wrong.push(format!(
            "{shown}: unit tests are `mod tests` in their file, or name/tests.rs beside name/mod.rs"
        ));
    }
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("#[path") && !line.contains(SHARED) {
            wrong.push(format!("{shown}:{}: no `#[path]`: a module stands where its name says", index + 1));
        }
    }
    wrong
}

/// Files whose children are in a folder of the same name: such a file is the folder's mod.rs.
fn beside_folders(files: &BTreeMap<PathBuf, String>) -> Vec<String> {
    let folders: BTreeSet<&Path> =
        files.keys().filter(|path| is_rust(path)).filter_map(|path| path.parent()).collect();
    let wrong = |path: &&PathBuf| {
        // Cargo wants a build script to be called so.
        is_rust(path) && !path.ends_with("build.rs") && folders.contains(path.with_extension("").as_path())
    };
    let text = |path: &PathBuf| {
        format!("{}: stands beside the folder of its name: make it the folder's mod.rs", path.display())
    };
    files.keys().filter(wrong).map(text).collect()
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

/// Whether a file is more than tests: its unit tests have `tests` in their path, below a `src`.
fn is_production(path: &Path) -> bool {
    let mut parts = path.iter().skip_while(|part| *part != "src");
    parts.next().is_some() && !parts.any(|part| part == "tests" || part == "tests.rs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_told_by_its_number_and_a_markdown_table_may_have_some() {
        let long = "ü".repeat(111);
        let check = |path: &str, text: &str, expect: usize| {
            assert_eq!(long_lines(Path::new(path), text).len(), expect, "{path}");
        };
        assert_eq!(
            long_lines(Path::new("a.rs"), &format!("x\n{long}\n")),
            ["a.rs:2: 111 columns, at most 110"]
        );
        check("a.rs", &"ü".repeat(110), 0);
        check("a.md", &long, 1);
        check("a.md", &format!("| {long} |"), 0);
        check("a.md", &format!("see [{long}](https://example.com)"), 0);
        check("a.rs", &format!("| {long} |"), 1);
    }

    #[test]
    fn a_file_over_500_lines_is_wrong_unless_the_rest_is_tests() {
        let check = |path: &str, text: String, expect: usize| {
            assert_eq!(in_rust(Path::new(path), &text).len(), expect, "{path}");
        };
        let lines = "\n".repeat(501);
        check("a/src/b.rs", lines.clone(), 1);
        check("a/src/b.rs", "\n".repeat(500), 0);
        check("a/src/b.rs", format!("#[cfg(test)]\nmod tests {{{lines}}}\n"), 0);
        check("a/src/b/tests.rs", lines.clone(), 0);
        check("a/src/b/tests/big.rs", lines.clone(), 0);
        check("tests/e2e/big.rs", lines, 0);
    }

    #[test]
    fn names_that_the_house_does_not_use_are_told() {
        let check = |path: &str, text: &str, expect: usize| {
            assert_eq!(in_rust(Path::new(path), text).len(), expect, "{path}");
        };
        check("a/src/b_tests.rs", "", 1);
        check("a/src/b.rs", "#[cfg(test)]\n#[path = \"b/c.rs\"]\nmod c;", 1);
        check("a/src/b.rs", "#[path = \"../../agent/build/toolchain.rs\"]\nmod toolchain;", 0);
        let files =
            ["a/build.rs", "a/build/x.rs", "a/src/b.rs", "a/src/b/c.rs", "a/src/d/mod.rs", "a/src/d/e.rs"];
        let files = files.map(|path| (PathBuf::from(path), String::new())).into();
        let wrong = beside_folders(&files);
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        assert!(wrong.iter().all(|text| text.starts_with("a/src/b.rs:")), "{wrong:?}");
    }
}
