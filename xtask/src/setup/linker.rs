//! `bpf-linker`, which cargo builds from source: against Debian's LLVM where Debian's compiler is used, against
//! its own otherwise.

use std::process::Command;

use anyhow::Context;

use super::{announce, run, toolchain};

/// The release that was tried with Debian's LLVM.
const VERSION: &str = "0.13.0";
/// The feature of `bpf-linker` that fits it.
const LLVM_FEATURE: &str = "llvm-22";
/// Where Debian has it.
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";
/// Variables that describe somebody else's build.
const FOREIGN_VARIABLES: [&str; 5] =
    ["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET", "RUSTC_WRAPPER", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"];

/// Installs it where it is missing; whether it was.
pub(super) fn install() -> anyhow::Result<bool> {
    if toolchain::linker().is_some() {
        return Ok(false);
    }
    announce("bpf-linker", "links the eBPF programs; cargo compiles it, which takes a few minutes");
    let compiler = toolchain::compiler().context("there is no compiler for eBPF to link for")?;
    let mut cargo = Command::new("cargo");
    for name in FOREIGN_VARIABLES {
        cargo.env_remove(name);
    }
    cargo.args(["install", "bpf-linker", "--version", VERSION, "--locked"]);
    if let toolchain::Compiler::Debian { .. } = compiler {
        cargo.args(["--no-default-features", "--features", LLVM_FEATURE]).env("LLVM_PREFIX", LLVM_PREFIX);
    }
    run(&mut cargo)?;
    Ok(true)
}
