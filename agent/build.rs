//! Compiles the eBPF programs of `../agent-ebpf` and leaves the object at `$OUT_DIR/lineal-ebpf`, from where
//! the agent embeds it.
//!
//! The programs are a workspace of their own, for another target and another compiler. So this build script
//! runs a second cargo inside the first, and must pass on nothing of the first one's choice of compiler.

#[path = "build/toolchain.rs"]
mod toolchain;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use toolchain::{Compiler, Toolchain};

/// Name of the object, as the binary of `agent-ebpf` and as the file in `OUT_DIR`.
const OBJECT: &str = "lineal-ebpf";

/// Beginnings of the cargo variables that the inner cargo inherits: where to fetch from, and with how many
/// jobs. All other variables of cargo and rustc describe the build of the agent.
const KEPT_VARIABLES: [&str; 7] = [
    "CARGO_HOME",
    "CARGO_HTTP_",
    "CARGO_MAKEFLAGS",
    "CARGO_NET_",
    "CARGO_REGISTR",
    "CARGO_SOURCE_",
    "CARGO_TERM_",
];

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            for line in reason.lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

/// Compiles the object and copies it to `OUT_DIR`; an error is text for the person who builds.
fn build() -> Result<(), String> {
    let sources = variable_path("CARGO_MANIFEST_DIR")?.join("../agent-ebpf");
    for changed in ["src", "Cargo.toml", "Cargo.lock", "../agent-abi/src", "../agent-abi/Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", sources.join(changed).display());
    }
    for changed in ["build.rs", "build/toolchain.rs"] {
        println!("cargo::rerun-if-changed={changed}");
    }
    println!("cargo::rerun-if-env-changed=PATH");

    let toolchain = toolchain::find().map_err(|missing| missing.to_string())?;
    // Another compiler or linker at the same path has to build the object again.
    println!("cargo::rerun-if-changed={}", toolchain.compiler.rustc().display());
    println!("cargo::rerun-if-changed={}", toolchain.linker.display());
    let out = variable_path("OUT_DIR")?;
    let target_dir = out.join("ebpf-target");
    let target = match variable("CARGO_CFG_TARGET_ENDIAN")?.as_str() {
        "big" => "bpfeb-unknown-none",
        _ => "bpfel-unknown-none",
    };
    compile(&toolchain, &sources, target, &target_dir)?;
    let object = target_dir.join(target).join("release").join(OBJECT);
    fs::copy(&object, out.join(OBJECT))
        .map_err(|error| format!("cannot copy {}: {error}", object.display()))?;
    Ok(())
}

/// Runs the inner cargo.
fn compile(toolchain: &Toolchain, sources: &Path, target: &str, target_dir: &Path) -> Result<(), String> {
    let flags = [
        // aya-ebpf chooses the layout of `pt_regs` by it.
        format!("--cfg=bpf_target_arch=\"{}\"", variable("CARGO_CFG_TARGET_ARCH")?),
        // The linker makes the BTF from debug information.
        "-Cdebuginfo=2".to_owned(),
        format!("-Clinker={}", toolchain.linker.display()),
        "-Clink-arg=--btf".to_owned(),
    ];
    let mut cargo = match &toolchain.compiler {
        Compiler::Debian { .. } => Command::new(variable_path("CARGO")?),
        Compiler::Nightly { cargo, .. } => Command::new(cargo),
    };
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let of_cargo = text.starts_with("CARGO") || text.starts_with("RUSTC") || text == "RUSTFLAGS";
        if of_cargo && !KEPT_VARIABLES.iter().any(|kept| text.starts_with(kept)) {
            cargo.env_remove(&name);
        }
    }
    cargo
        .current_dir(sources)
        .args(["build", "--locked", "--release", "--bin", OBJECT, "--target", target, "--target-dir"])
        .arg(target_dir)
        .env("RUSTC", toolchain.compiler.rustc())
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    match &toolchain.compiler {
        // aya-ebpf uses unstable features, and this is a release compiler.
        Compiler::Debian { .. } => cargo.env("RUSTC_BOOTSTRAP", "1"),
        Compiler::Nightly { .. } => cargo.args(["-Z", "build-std=core"]),
    };
    let status = cargo.status().map_err(|error| format!("cannot run {:?}: {error}", cargo.get_program()))?;
    if status.success() {
        return Ok(());
    }
    Err(format!(
        "the eBPF programs in agent-ebpf did not compile with {}; the compiler's messages are above",
        toolchain.compiler
    ))
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("cargo did not set {name}: {error}"))
}

fn variable_path(name: &str) -> Result<PathBuf, String> {
    variable(name).map(PathBuf::from)
}
