//! Python packages of the lab's programs, as pinned in a requirements.txt with the hashes of their files.
//! They go into the target directory, for Debian's own Python, and stay out of its packages.

use std::{fs, path::Path, process::Command};

use anyhow::Context;
use lineal_tests::{paths, script::PYTHON};

use crate::shell::{run, step};

/// Installs the packages of the programs in `name`, a directory of the lab's sources, as its
/// requirements.txt lists them.
pub(super) fn install_packages(name: &str, what: &str) -> anyhow::Result<()> {
    let requirements = paths::lab_sources().join(name).join("requirements.txt");
    let directory = paths::lab_tools()?.join(name).join("packages");
    // A copy of the list that the packages were installed from: a change of the list installs them again.
    let installed = directory.join("installed.txt");
    let list = fs::read(&requirements)?;
    if fs::read(&installed).is_ok_and(|done| done == list) {
        return Ok(());
    }
    let to = directory.display();
    step(&format!("pip install: {what}, into {to}"), "half a minute", || {
        fetch(&requirements, &directory)?;
        fs::write(installed, list)?;
        Ok(())
    })
}

/// Installs the packages that a list names, and no others, into a directory. Half an installation must not
/// pass for a whole one: it is made beside the directory, and renamed at the end.
pub(super) fn fetch(requirements: &Path, directory: &Path) -> anyhow::Result<()> {
    let partial = directory.with_extension("partial");
    let _ = fs::remove_dir_all(&partial);
    fs::create_dir_all(&partial)?;
    let mut pip = Command::new(PYTHON);
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes"]);
    run(pip.arg("--target").arg(&partial).arg("--requirement").arg(requirements))?;
    let _ = fs::remove_dir_all(directory);
    fs::rename(&partial, directory).with_context(|| format!("cannot make {}", directory.display()))
}
