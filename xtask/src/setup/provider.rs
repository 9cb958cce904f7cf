//! The tests' OpenID provider: a copy of tests/lab/oidc in cargo's target directory, with what npm installs for it,
//! so that nothing is ever installed among the sources.

use std::{fs, path::Path, process::Command};

use anyhow::Context;
use lineal_tests::paths;

use super::{announce, run};

/// What npm reads.
const MANIFESTS: [&str; 2] = ["package.json", "package-lock.json"];
/// The provider itself.
const PROGRAM: &str = "provider.mjs";

/// Installs it where it is missing or was for other versions; whether it was.
pub(super) fn install() -> anyhow::Result<bool> {
    let sources = paths::lab_sources().join("oidc");
    let place = paths::lab_tools()?.join("oidc");
    fs::create_dir_all(&place).with_context(|| format!("cannot make {}", place.display()))?;
    copy(&sources, &place, PROGRAM)?;
    let finished = place.join("node_modules/.lineal-setup");
    let lock = fs::read(sources.join("package-lock.json"))
        .context("the OpenID provider has no package-lock.json")?;
    if fs::read(&finished).is_ok_and(|of| of == lock) {
        return Ok(false);
    }
    announce("oidc-provider (npm)", "issues the tokens that jobs in tests start under");
    for name in MANIFESTS {
        copy(&sources, &place, name)?;
    }
    run(Command::new("npm").args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&place))?;
    fs::write(finished, lock)?;
    Ok(true)
}

fn copy(from: &Path, to: &Path, name: &str) -> anyhow::Result<()> {
    let from = from.join(name);
    fs::copy(&from, to.join(name)).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}
