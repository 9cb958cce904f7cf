//! Builds and installs `bpf-linker`, on the LLVM of the compiler whose code it links.

use crate::{
    shell::{cargo, run, step},
    toolchain::{self, Compiler},
};

/// The linker's version, and the LLVM it is built on: that of Debian's `rustc-web`.
const VERSION: &str = "0.13.0";
const LLVM: &str = "22";

/// Whether the eBPF programs are compiled by a nightly of rustup's. Its linker uses the nightly's own LLVM.
pub(super) fn is_for_nightly() -> bool {
    matches!(toolchain::compiler(), Some(Compiler::Nightly { .. }))
}

/// Installs it where `cargo install` puts programs.
pub(super) fn install() -> anyhow::Result<()> {
    let mut install = cargo();
    install.args(["install", "bpf-linker", "--version", VERSION, "--locked"]);
    if is_for_nightly() {
        return step("cargo install bpf-linker", "some minutes", || run(&mut install));
    }
    install.env("LLVM_PREFIX", format!("/usr/lib/llvm-{LLVM}"));
    install.args(["--no-default-features", "--features", &format!("llvm-{LLVM}")]);
    step("cargo install bpf-linker, on Debian's LLVM", "about a minute", || run(&mut install))
}
