//! Paths of the sources, of the binary under test, and of what `cargo xtask setup` installed.

use std::{
    env,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use anyhow::{Context, ensure};

/// Names the `lineal` binary to use instead of the one built beside the running program.
pub const LINEAL_VARIABLE: &str = "LINEAL_BIN";

static CHOSEN: OnceLock<PathBuf> = OnceLock::new();

/// Makes every lab of this process use this `lineal` binary. Only the first call has an effect.
pub fn use_lineal(path: PathBuf) {
    let _ = CHOSEN.set(path);
}

/// The project's root directory.
pub fn repository() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}

/// The scripts and programs that only the lab uses.
pub fn lab_sources() -> PathBuf {
    repository().join("tests/lab")
}

/// Cargo's directory for the profile that the running program was built with.
pub fn profile_dir() -> anyhow::Result<PathBuf> {
    let running = env::current_exe().context("the running program's path is unknown")?;
    let holder = running.parent().context("the running program has no directory")?;
    let test = holder.file_name().is_some_and(|name| name == "deps");
    Ok(if test { holder.parent().unwrap_or(holder) } else { holder }.to_owned())
}

/// The directory of what `cargo xtask setup` installed for the lab.
pub fn lab_tools() -> anyhow::Result<PathBuf> {
    let profile = profile_dir()?;
    Ok(profile.parent().context("the running program is in no target directory")?.join("lab"))
}

/// The directory of PostgreSQL's own regression tests, which `cargo xtask test` fetches.
pub fn regression_tests() -> anyhow::Result<PathBuf> {
    Ok(lab_tools()?.join("regress"))
}

/// The `lineal` binary under test: the one that [`use_lineal`] chose, or [`LINEAL_VARIABLE`] names, or that
/// was built beside the running program.
pub fn lineal() -> anyhow::Result<PathBuf> {
    let path = match (CHOSEN.get(), env::var_os(LINEAL_VARIABLE)) {
        (Some(path), _) => path.clone(),
        (None, Some(path)) => PathBuf::from(path),
        (None, None) => profile_dir()?.join("lineal"),
    };
    ensure!(
        path.is_file(),
        "there is no {}: `cargo build` makes it, and `cargo xtask test` does all that tests need",
        path.display()
    );
    Ok(path)
}
