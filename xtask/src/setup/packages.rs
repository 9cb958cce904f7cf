//! Debian's packages: which are needed for what, and how they come without starting any service.

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt, process::Command};

use anyhow::{Context, bail};

use super::{Part, announce, run, stdout, toolchain};

/// The oldest Node.js that the OpenID provider runs on.
const NODE_MAJOR_MIN: u32 = 18;

/// A package, and what it is for.
struct Package {
    name: &'static str,
    part: Part,
    why: &'static str,
}

const fn package(name: &'static str, part: Part, why: &'static str) -> Package {
    Package { name, part, why }
}

/// What is needed whatever else is there.
const ALWAYS: [Package; 12] = [
    package("gcc", Part::Build, "compiles PostgreSQL's grammar, which lineal embeds"),
    package("libc6-dev", Part::Build, "C headers for the same"),
    package("make", Part::Build, "builds the same"),
    package("libclang-dev", Part::Build, "reads C headers to bind PostgreSQL's grammar"),
    package("postgresql", Part::Lab, "the server that jobs query, and psql"),
    package("postgresql-contrib", Part::Lab, "pgbench, a client of its own kind"),
    package("python3", Part::Lab, "part of the story's job, and the lab's clean-up"),
    package("python3-psycopg", Part::Lab, "a client with pipelines"),
    package("openssh-client", Part::Lab, "the tunnel that a job tries"),
    package("openssh-server", Part::Lab, "the tunnel's other end"),
    package("iproute2", Part::Lab, "network namespaces for tests"),
    package("util-linux", Part::Lab, "setpriv and unshare"),
];

/// What the eBPF programs take where no rustup nightly with rust-src is there.
const DEBIAN_TOOLCHAIN: [Package; 6] = [
    package("rustc-web", Part::Build, "a Rust compiler with the BPF target; rustup's own stays as it is"),
    package("libstd-rust-web-dev-bpf", Part::Build, "Rust's core library for BPF"),
    package("llvm-22-dev", Part::Build, "the LLVM that bpf-linker is built with"),
    package("libpolly-22-dev", Part::Build, "a part of the same"),
    package("zlib1g-dev", Part::Build, "LLVM links to it"),
    package("libzstd-dev", Part::Build, "LLVM links to it"),
];

const BENCH: [Package; 3] = [
    package("pgbouncer", Part::Bench, "a pooler to compare with"),
    package("haproxy", Part::Bench, "a TCP proxy to compare with"),
    package("bpftool", Part::Bench, "reads what the eBPF programs cost"),
];

const NODE: Package = package("nodejs", Part::Lab, "runs the tests' OpenID provider");
const NPM: Package = package("npm", Part::Lab, "installs the tests' OpenID provider");

/// Runs apt so that no service starts, now or when the machine does, no PostgreSQL cluster is made, and both locks are gone afterwards, however
/// it ends. Arguments: the packages. A rule or setting of the administrator's own is left in place.
const INSTALL: &str = r#"set -eu
policy=/usr/sbin/policy-rc.d
clusters=/etc/postgresql-common/createcluster.d/lineal-setup.conf
ours='# made by lineal, for the time of an installation'
clean_up() {
    for file in "$policy" "$clusters"; do
        if grep -qsF "$ours" "$file"; then rm -f "$file"; fi
    done
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\n%s\nexit 101\n' "$ours" >"$policy"
    chmod 755 "$policy"
fi
mkdir -p "$(dirname "$clusters")"
printf '%s\ncreate_main_cluster = false\n' "$ours" >"$clusters"
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q --yes --no-install-recommends --no-upgrade -- "$@"
for package in "$@"; do
    case $package in
        openssh-server) unit=ssh.service ;;
        haproxy | pgbouncer | postgresql) unit=$package.service ;;
        *) continue ;;
    esac
    # Works where systemd does not run, too.
    if command -v deb-systemd-helper >/dev/null; then deb-systemd-helper disable "$unit"; fi
done
"#;

/// Installs what is missing; whether anything was.
pub(super) fn install(parts: &BTreeSet<Part>) -> anyhow::Result<bool> {
    let wanted: Vec<Package> = wanted().into_iter().filter(|package| parts.contains(&package.part)).collect();
    let installed = installed(&wanted);
    let missing: Vec<Package> =
        wanted.into_iter().filter(|package| !installed.contains(package.name)).collect();
    if missing.is_empty() {
        return Ok(false);
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    if stdout(Command::new("apt-get").arg("--version")).is_none() {
        bail!(
            "this machine has no apt-get; install by other means what Debian 12 calls {}",
            names.join(", ")
        );
    }
    if !is_root()? {
        bail!(
            "only root can install packages; run `cargo xtask setup` as root, or: apt-get install {}",
            names.join(" ")
        );
    }
    for package in &missing {
        announce(package.name, package.why);
    }
    run(Command::new("/bin/sh").args(["-c", INSTALL, "lineal-setup"]).args(names))?;
    Ok(true)
}

fn wanted() -> Vec<Package> {
    let mut wanted = Vec::from(ALWAYS);
    // Debian's toolchain may be half there; a complete one of any kind needs nothing.
    if !matches!(toolchain::compiler(), Some(toolchain::Compiler::Nightly { .. })) {
        wanted.extend(DEBIAN_TOOLCHAIN);
    }
    wanted.extend(BENCH);
    if !has_node() {
        wanted.push(NODE);
    }
    // A Node.js from elsewhere brings its own npm, and Debian's would replace it.
    if stdout(Command::new("npm").arg("--version")).is_none() {
        wanted.push(NPM);
    }
    wanted
}

fn has_node() -> bool {
    let version = stdout(Command::new("node").arg("--version")).unwrap_or_default();
    let major = version.trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
    major.is_some_and(|major| major >= NODE_MAJOR_MIN)
}

/// Which of these are installed. dpkg-query fails where one is unknown, and answers for the others all the same.
fn installed(packages: &[Package]) -> BTreeSet<String> {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat", "${Package} ${db:Status-Status}\n"]);
    query.args(packages.iter().map(|package| package.name));
    let output = query.output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output)
        .lines()
        .filter_map(|line| line.strip_suffix(" installed"))
        .map(str::to_owned)
        .collect()
}

fn is_root() -> anyhow::Result<bool> {
    // /proc/self belongs to the effective user of who looks at it.
    Ok(fs::metadata("/proc/self").context("cannot read /proc/self")?.uid() == 0)
}
