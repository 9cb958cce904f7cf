//! `cargo xtask setup`: gives a Debian 12 machine what building and testing takes. It looks before it acts, says
//! what it installs and why, and starts no service.

use std::{
    env, fs,
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
/// Consulted by postgresql-common, which makes a cluster otherwise.
const CLUSTER_POLICY: &str = "/etc/postgresql-common/createcluster.d/lineal-setup.conf";
/// Runs apt with both policies in place. Arguments: their paths, then the packages. A shell's trap takes them
/// away whatever happens, Ctrl-C included: left behind, they would keep every later package's service from
/// starting. A policy of the administrator's own stays.
const INSTALL: &str = r#"set -eu
services=$1 clusters=$2
shift 2
mark='# lineal: for the time of an installation'
clean_up() {
    for file in "$services" "$clusters"; do
        if grep -qsF "$mark" "$file"; then rm -f "$file"; fi
    done
}
trap clean_up EXIT
trap 'exit 130' HUP INT TERM
# "101: action forbidden by policy": invoke-rc.d(8).
if [ ! -e "$services" ]; then
    printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$services"
    chmod 755 "$services"
fi
mkdir -p "${clusters%/*}"
printf '%s\ncreate_main_cluster = false\n' "$mark" >"$clusters"
export DEBIAN_FRONTEND=noninteractive
# Lists that are old name packages that the mirrors no longer have.
apt-get -q update
apt-get -q install --yes --no-install-recommends \
    -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold -- "$@"
for package; do
    case $package in
        haproxy | pgbouncer | postgresql) unit=$package.service ;;
        openssh-server) unit=ssh.service ;;
        *) continue ;;
    esac
    # Nor after the next boot. This works where systemd does not run, too; it asks for whom it works.
    if command -v deb-systemd-helper >/dev/null; then
        DPKG_MAINTSCRIPT_PACKAGE=$package deb-systemd-helper disable "$unit"
    fi
done
"#;

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
const LAB: [Need; 14] = [
    ("postgresql", "the server that jobs are after: the lab makes a cluster of its own with it"),
    ("postgresql-contrib", "pgbench"),
    ("python3", "the demo's job, and what cleans up after a lab"),
    ("python3-psycopg", "the demo's job talks to PostgreSQL with it"),
    ("python3-asyncpg", "a driver that is tested"),
    ("openjdk-17-jdk-headless", "runs a driver that is tested"),
    ("libpostgresql-jdbc-java", "a driver that is tested"),
    ("golang-go", "compiles a driver that is tested"),
    ("golang-github-jackc-pgx-v4-dev", "a driver that is tested"),
    ("openssh-client", "the tunnel that the demo's job tries"),
    ("openssh-server", "the tunnel's other end; its service stays off"),
    ("util-linux", "setpriv, unshare"),
    ("systemd", "checks the package's unit; it is not run"),
    ("bpftool", "looks into the kernel side from outside"),
];
const NODE: [Need; 2] = [("nodejs", "runs the lab's OpenID provider and a driver"), ("npm", "installs both")];
const BENCH: [Need; 2] =
    [("pgbouncer", "what lineal is compared with"), ("haproxy", "what lineal is compared with")];

/// Makes sure that everything for a purpose is there.
pub(crate) fn setup(purpose: Purpose) -> anyhow::Result<()> {
    let mut needs = BUILD.to_vec();
    if toolchain::compiler().is_none() {
        needs.extend(EBPF_COMPILER);
    }
    // A nightly's linker works with the nightly's own LLVM.
    if toolchain::linker().is_none() && !is_nightly() {
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
        install_modules("oidc", "the lab's OpenID provider")?;
        install_modules("clients/node", "a driver that is tested")?;
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
    say(format_args!("apt-get install (no service is started or enabled, no database cluster made)"));
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", INSTALL, "xtask-setup", SERVICE_POLICY, CLUSTER_POLICY]);
    run(shell.args(&names))
}

fn install_linker() -> anyhow::Result<()> {
    if toolchain::linker().is_some() {
        return Ok(());
    }
    let mut install = cargo();
    install.args(["install", "bpf-linker", "--version", LINKER_VERSION, "--locked"]);
    if is_nightly() {
        say(format_args!("cargo install bpf-linker {LINKER_VERSION}: some minutes"));
    } else {
        say(format_args!(
            "cargo install bpf-linker {LINKER_VERSION}, on Debian's LLVM {LLVM}: about a minute"
        ));
        install.env("LLVM_PREFIX", format!("/usr/lib/llvm-{LLVM}"));
        install.args(["--no-default-features", "--features", &format!("llvm-{LLVM}")]);
    }
    run(&mut install)
}

fn is_nightly() -> bool {
    matches!(toolchain::compiler(), Some(toolchain::Compiler::Nightly { .. }))
}

/// Programs for Node run from the target directory: what npm fetches stays out of the sources.
fn install_modules(name: &str, what: &str) -> anyhow::Result<()> {
    let sources = paths::lab_sources().join(name);
    let place = paths::lab_tools()?.join(name);
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
    say(format_args!("npm ci: {what}, into {}", place.display()));
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
