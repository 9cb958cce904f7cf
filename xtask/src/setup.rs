//! `cargo xtask setup`: gives a Debian 12 machine what building and testing takes. It looks before it acts, says
//! what it installs and why, and starts no service.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::ensure;
use lineal_tests::paths;

use crate::{run, say, toolchain};

/// The linker's version, and the LLVM it is built with: that of Debian's `rustc-web`.
const LINKER_VERSION: &str = "0.13.0";
const LLVM: &str = "22";
/// The OpenID provider of the lab runs on Node.
const NODE_MAJOR_MIN: u32 = 18;
/// What the machine consults before a package starts its service.
const SERVICE_POLICY: &str = "/usr/sbin/policy-rc.d";
/// What decides whether installing PostgreSQL makes a cluster.
const CLUSTER_POLICY: &str = "/etc/postgresql-common/createcluster.conf";

/// What is going to be done, and so what is needed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
    /// Building alone.
    Build,
    /// Raising labs too.
    Lab,
    /// Comparing with other proxies too.
    Bench,
}

/// A Debian package and what it is for.
type Need = (&'static str, &'static str);

const BUILD: [Need; 4] = [
    ("gcc", "compiles PostgreSQL's own grammar"),
    ("make", "builds PostgreSQL's own grammar"),
    ("libclang-dev", "reads the grammar's C headers for Rust"),
    ("pkg-config", "finds libraries"),
];
const EBPF_COMPILER: [Need; 2] = [
    ("rustc-web", "compiles the eBPF programs; your rustup stays as it is"),
    ("libstd-rust-web-dev-bpf", "Rust's core library for eBPF"),
];
const EBPF_LINKER: [Need; 4] = [
    ("llvm-22-dev", "what the eBPF linker is built on"),
    ("libpolly-22-dev", "wanted by LLVM"),
    ("zlib1g-dev", "wanted by LLVM"),
    ("libzstd-dev", "wanted by LLVM"),
];
const LAB: [Need; 5] = [
    ("postgresql", "the server that jobs are after: the lab makes a cluster of its own with it"),
    ("postgresql-contrib", "pgbench"),
    ("python3", "the demo's job, and what cleans up after a lab"),
    ("python3-psycopg", "the demo's job talks to PostgreSQL with it"),
    ("util-linux", "setpriv, unshare"),
];
const NODE: [Need; 2] =
    [("nodejs", "runs the lab's OpenID provider"), ("npm", "installs the lab's OpenID provider")];
const BENCH: [Need; 3] = [
    ("pgbouncer", "what lineal is compared with"),
    ("haproxy", "what lineal is compared with"),
    ("bpftool", "reads the eBPF programs' run times"),
];

/// Makes sure that everything for a purpose is there.
pub(crate) fn setup(purpose: Purpose) -> anyhow::Result<()> {
    let mut needs = BUILD.to_vec();
    if toolchain::compiler().is_none() {
        needs.extend(EBPF_COMPILER);
    }
    if toolchain::linker().is_none() {
        needs.extend(EBPF_LINKER);
    }
    if purpose >= Purpose::Lab {
        needs.extend(LAB);
        if !has_node() {
            needs.extend(NODE);
        }
    }
    if purpose >= Purpose::Bench {
        needs.extend(BENCH);
    }
    install_packages(&needs)?;
    install_linker()?;
    let found = toolchain::find().map_err(|missing| anyhow::anyhow!("{missing}"))?;
    say(format_args!("eBPF: {}, {}", found.compiler, found.linker.display()));
    if purpose >= Purpose::Lab {
        install_provider()?;
    }
    Ok(())
}

fn install_packages(needs: &[Need]) -> anyhow::Result<()> {
    let missing: Vec<Need> = needs.iter().copied().filter(|(package, _)| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|(package, _)| *package).collect();
    say(format_args!("these Debian packages are missing:"));
    for (package, why) in &missing {
        say(format_args!("  {package:<26} {why}"));
    }
    ensure!(
        Path::new("/usr/bin/apt-get").exists(),
        "this is no Debian; install the like of these by hand: {}",
        names.join(" ")
    );
    ensure!(is_root(), "only root can install packages: run `sudo apt-get install {}`", names.join(" "));
    let known = names.iter().all(|package| is_known(package));
    if !known {
        say(format_args!("apt-get update: the package lists don't have all of them"));
        update()?;
    }
    say(format_args!("apt-get install (no service is started or enabled, no database cluster made)"));
    let quiet = Quiet::keep(&names)?;
    if let Err(error) = install(&names) {
        if !known {
            return Err(error);
        }
        // Old lists name versions that the servers have no more.
        say(format_args!("apt-get update: the package lists may be too old"));
        update()?;
        install(&names)?;
    }
    quiet.disable()
}

fn update() -> anyhow::Result<()> {
    run(Command::new("apt-get").args(["-q", "update"]))
}

fn install(names: &[&str]) -> anyhow::Result<()> {
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive");
    apt.args(["-qq", "-o", "Dpkg::Use-Pty=0", "install", "--yes", "--no-install-recommends"]);
    apt.args(["-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"]);
    run(apt.args(names))
}

/// Keeps the services of new packages from running, now and after the next boot.
struct Quiet {
    policy_is_ours: bool,
    services: Vec<&'static str>,
}

impl Quiet {
    fn keep(new_packages: &[&'static str]) -> anyhow::Result<Self> {
        let cluster_policy = Path::new(CLUSTER_POLICY);
        if new_packages.contains(&"postgresql") && !cluster_policy.exists() {
            fs::create_dir_all(cluster_policy.parent().unwrap_or(cluster_policy))?;
            fs::write(cluster_policy, "create_main_cluster = false\n")?;
        }
        let policy_is_ours = !Path::new(SERVICE_POLICY).exists();
        if policy_is_ours {
            // "101: action forbidden by policy": invoke-rc.d(8).
            fs::write(SERVICE_POLICY, "#!/bin/sh\nexit 101\n")?;
            fs::set_permissions(SERVICE_POLICY, fs::Permissions::from_mode(0o755))?;
        }
        let has_service = ["postgresql", "pgbouncer", "haproxy"];
        let services = has_service.into_iter().filter(|service| new_packages.contains(service)).collect();
        Ok(Self { policy_is_ours, services })
    }

    fn disable(self) -> anyhow::Result<()> {
        if !self.services.is_empty() && Path::new("/run/systemd/system").exists() {
            run(Command::new("systemctl").arg("disable").args(&self.services))?;
        }
        Ok(())
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if self.policy_is_ours {
            let _ = fs::remove_file(SERVICE_POLICY);
        }
    }
}

fn install_linker() -> anyhow::Result<()> {
    if toolchain::linker().is_some() {
        return Ok(());
    }
    say(format_args!("cargo install bpf-linker {LINKER_VERSION}, on Debian's LLVM {LLVM}: about a minute"));
    let mut install = cargo();
    install.env("LLVM_PREFIX", format!("/usr/lib/llvm-{LLVM}"));
    install.args(["install", "bpf-linker", "--version", LINKER_VERSION, "--locked", "--no-default-features"]);
    run(install.arg("--features").arg(format!("llvm-{LLVM}")))
}

/// The provider runs from the target directory: what npm fetches stays out of the sources.
fn install_provider() -> anyhow::Result<()> {
    let sources = paths::lab_sources().join("oidc");
    let place = paths::lab_tools()?.join("oidc");
    fs::create_dir_all(&place)?;
    let lock = fs::read(sources.join("package-lock.json"))?;
    let installed = place.join("installed.json");
    for file in fs::read_dir(&sources)? {
        let file = file?;
        if file.file_type()?.is_file() {
            fs::copy(file.path(), place.join(file.file_name()))?;
        }
    }
    if place.join("node_modules").is_dir() && fs::read(&installed).is_ok_and(|there| there == lock) {
        return Ok(());
    }
    say(format_args!("npm ci: the lab's OpenID provider, into {}", place.display()));
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&place);
    run(&mut npm)?;
    fs::write(installed, lock)?;
    Ok(())
}

fn has_node() -> bool {
    let version =
        Command::new("node").arg("--version").output().ok().filter(|output| output.status.success());
    let major = version.and_then(|output| {
        let text = String::from_utf8(output.stdout).ok()?;
        text.trim().strip_prefix('v')?.split('.').next()?.parse::<u32>().ok()
    });
    major.is_some_and(|major| major >= NODE_MAJOR_MIN) && succeeds(Command::new("npm").arg("--version"))
}

fn is_installed(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${db:Status-Status}", package]);
    query.output().is_ok_and(|output| output.status.success() && output.stdout == b"installed")
}

/// Whether the package lists offer a version of it.
fn is_known(package: &str) -> bool {
    let policy = Command::new("apt-cache").args(["policy", package]).env("LC_ALL", "C").output();
    policy.is_ok_and(|output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().any(|line| line.trim().starts_with("Candidate:") && !line.contains("(none)"))
    })
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// The cargo that runs this chore.
pub(crate) fn cargo() -> Command {
    Command::new(env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from))
}
