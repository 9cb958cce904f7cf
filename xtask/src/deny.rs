//! `cargo xtask deny`: licences, sources and known vulnerabilities of all dependencies, by cargo-deny and
//! `deny.toml`.

use crate::{
    shell::{cargo, run, step},
    toolchain,
};

/// The version of cargo-deny that `deny.toml` is written for.
const VERSION: &str = "0.20.2";
/// Each workspace, as arguments of cargo-deny.
const WORKSPACES: [&[&str]; 2] = [&[], &["--manifest-path", "agent-ebpf/Cargo.toml"]];

/// Runs cargo-deny; installs it first where it is missing.
pub(crate) fn deny() -> anyhow::Result<()> {
    if toolchain::tool("cargo-deny").is_none() {
        step("cargo install cargo-deny", "some minutes", || {
            run(cargo().args(["install", "cargo-deny", "--version", VERSION, "--locked"]))
        })?;
    }
    // Advisories are fetched over the network: the checks that need no network report first.
    for checks in [&["bans", "licenses", "sources"][..], &["advisories"]] {
        for workspace in WORKSPACES {
            run(cargo().arg("deny").args(workspace).arg("check").args(checks))?;
        }
    }
    Ok(())
}
