//! Installs Debian packages without letting them start a service or make a database cluster.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};

use super::needs::Need;
use crate::shell::{run, say, step};

/// invoke-rc.d(8) asks this program before a package starts its service.
const SERVICE_POLICY: &str = "/usr/sbin/policy-rc.d";
/// postgresql-common reads this file, and without it makes a cluster.
const CLUSTER_POLICY: &str = "/etc/postgresql-common/createcluster.d/lineal-setup.conf";
/// Runs apt with both policies in place. Arguments: their paths, then the packages. A shell's trap removes
/// the policies whatever happens, Ctrl-C included: left behind, they would keep every later package's service
/// from starting. A policy that the administrator wrote stays.
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
# Old lists name package versions that the mirrors no longer have.
apt-get -q update
apt-get -q install --yes --no-install-recommends \
    -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold -- "$@"
for package; do
    case $package in
        haproxy | pgbouncer | postgresql) unit=$package.service ;;
        openssh-server) unit=ssh.service ;;
        *) continue ;;
    esac
    # The services must not start at the next boot either. Unlike systemctl, this works where systemd does not
    # run; it reads from the environment which package it acts for.
    if command -v deb-systemd-helper >/dev/null; then
        DPKG_MAINTSCRIPT_PACKAGE=$package deb-systemd-helper disable "$unit"
    fi
done
"#;

/// Installs what is missing of `needs`, after saying what it is and what each package is for.
pub(super) fn install(needs: &[Need]) -> anyhow::Result<()> {
    let installed = installed(needs)?;
    let missing: Vec<Need> = needs.iter().copied().filter(|(name, _)| !installed.contains(*name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|(name, _)| *name).collect();
    say(format_args!("these Debian packages are missing:"));
    for (name, reason) in &missing {
        say(format_args!("  {name:<30} {reason}"));
    }
    ensure!(
        Path::new("/usr/bin/apt-get").exists(),
        "this is not Debian: install the equivalents of these packages yourself: {}",
        names.join(" ")
    );
    ensure!(is_root(), "only root can install packages: run `sudo apt-get install {}`", names.join(" "));
    let about = "about a minute for all packages; no service is started or enabled, no database cluster made";
    step("apt-get install", about, || {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", INSTALL, "xtask-setup", SERVICE_POLICY, CLUSTER_POLICY]);
        run(shell.args(&names))
    })
}

/// The names among `needs` that are installed; none where there is no dpkg.
fn installed(needs: &[Need]) -> anyhow::Result<BTreeSet<String>> {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${Package} ${db:Status-Status}\n"]);
    query.args(needs.iter().map(|(name, _)| name)).stderr(Stdio::null());
    // It fails if it does not know one of them, and still lists the others.
    let Ok(output) = query.output() else { return Ok(BTreeSet::new()) };
    let listing = String::from_utf8(output.stdout).context("dpkg-query printed no text")?;
    Ok(listing.lines().filter_map(|line| line.strip_suffix(" installed")).map(str::to_owned).collect())
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}
