//! Finds a compiler and a linker for the eBPF programs, or says what is missing and how to install it.
//!
//! `agent/build.rs` uses what this finds, and `cargo xtask setup` installs what this doesn't find: both
//! include this file, so that they agree. It only looks; it must never install anything.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The target for little-endian hosts: a compiler that has it has the big-endian one, too.
const TARGET: &str = "bpfel-unknown-none";
/// Where Debian's `rustc-web` installs the compiler. rustup installs elsewhere.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// Command name of the linker.
const LINKER: &str = "bpf-linker";

/// Everything that compiling the eBPF programs takes.
#[derive(Debug)]
pub struct Toolchain {
    /// The compiler.
    pub compiler: Compiler,
    /// The linker, `bpf-linker`.
    pub linker: PathBuf,
}

/// A compiler for the BPF targets, with a `core` library for them.
#[derive(Debug)]
pub enum Compiler {
    /// Debian's `rustc-web`, with the prebuilt `core` of `libstd-rust-web-dev-bpf`.
    Debian {
        /// The compiler.
        rustc: PathBuf,
    },
    /// A nightly toolchain of rustup with the component `rust-src`: `core` is built from source.
    Nightly {
        /// The toolchain's name.
        name: String,
        /// The compiler.
        rustc: PathBuf,
        /// The cargo that belongs to it.
        cargo: PathBuf,
    },
}

impl Compiler {
    /// The compiler's path.
    pub fn rustc(&self) -> &Path {
        match self {
            Self::Debian { rustc } | Self::Nightly { rustc, .. } => rustc,
        }
    }
}

impl fmt::Display for Compiler {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Debian { rustc } => write!(out, "Debian's rustc-web ({})", rustc.display()),
            Self::Nightly { name, .. } => write!(out, "rustup's {name} with rust-src"),
        }
    }
}

/// What is missing.
#[derive(Debug)]
pub struct Missing {
    /// There is no compiler with a `core` for BPF.
    pub compiler: bool,
    /// There is no `bpf-linker`.
    pub linker: bool,
}

impl fmt::Display for Missing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "the eBPF programs can't be compiled on this machine:")?;
        if self.compiler {
            writeln!(
                out,
                "  - no compiler for {TARGET}: neither Debian's rustc-web with libstd-rust-web-dev-bpf,"
            )?;
            writeln!(out, "    nor a rustup nightly with the component rust-src")?;
        }
        if self.linker {
            writeln!(out, "  - no bpf-linker, neither on PATH nor in cargo's bin directory")?;
        }
        writeln!(out, "on Debian 12 this installs all of it, as root:")?;
        writeln!(out, "    cargo xtask setup")?;
        writeln!(out, "elsewhere:")?;
        if self.compiler {
            writeln!(out, "    rustup toolchain install nightly --component rust-src")?;
        }
        if self.linker {
            writeln!(out, "    cargo install bpf-linker")?;
        }
        Ok(())
    }
}

/// Finds a compiler and a linker.
pub fn find() -> Result<Toolchain, Missing> {
    match (compiler(), linker()) {
        (Some(compiler), Some(linker)) => Ok(Toolchain { compiler, linker }),
        (compiler, linker) => Err(Missing { compiler: compiler.is_none(), linker: linker.is_none() }),
    }
}

/// Finds a compiler. Debian's comes first: it and the linker that `cargo xtask setup` builds use the same
/// LLVM.
pub fn compiler() -> Option<Compiler> {
    debian().or_else(nightly)
}

/// Finds `bpf-linker`.
pub fn linker() -> Option<PathBuf> {
    tool(LINKER)
}

/// Finds a program on PATH or where `cargo install` puts it.
pub fn tool(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let home = env::var_os("HOME").map(PathBuf::from);
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from).or(home.map(|home| home.join(".cargo")));
    env::split_paths(&path)
        .chain(cargo_home.map(|home| home.join("bin")))
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

fn debian() -> Option<Compiler> {
    let rustc = PathBuf::from(DEBIAN_RUSTC);
    // The path alone proves nothing: Debian's older `rustc` has the same path, but no `core` for BPF.
    let libraries = stdout(Command::new(&rustc).args(["--print", "target-libdir", "--target", TARGET]))?;
    let has_core = fs::read_dir(libraries).ok()?.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libcore-") && name.ends_with(".rlib")
    });
    has_core.then_some(Compiler::Debian { rustc })
}

fn nightly() -> Option<Compiler> {
    let toolchains = stdout(Command::new("rustup").args(["toolchain", "list"]))?;
    toolchains.lines().filter_map(|line| line.split_whitespace().next()).find_map(|name| {
        if !name.starts_with("nightly") {
            return None;
        }
        let tool = |tool| {
            stdout(Command::new("rustup").args(["which", "--toolchain", name, tool])).map(PathBuf::from)
        };
        let (rustc, cargo) = (tool("rustc")?, tool("cargo")?);
        let source = rustc.parent()?.parent()?.join("lib/rustlib/src/rust/library/core/src/lib.rs");
        source.is_file().then(|| Compiler::Nightly { name: name.to_owned(), rustc, cargo })
    })
}

/// Output of a command, without the final newline; `None` if the command fails.
fn stdout(command: &mut Command) -> Option<String> {
    // The cargo that runs a build script sets this variable, and it would override `--toolchain`.
    let output = command.env_remove("RUSTUP_TOOLCHAIN").output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
