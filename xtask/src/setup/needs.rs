//! Which Debian packages each purpose needs, and why.

use clap::ValueEnum;

use super::linker;
use crate::toolchain::Missing;

/// What is going to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Purpose {
    /// Building alone.
    Build,
    /// The demo, and raising a lab.
    Demo,
    /// The tests that raise labs.
    Test,
    /// Measuring, and comparing with other proxies.
    Bench,
    /// All of it.
    All,
}

impl Purpose {
    /// Whether labs are raised: PostgreSQL, an OpenID provider and an agent.
    pub(super) fn raises_labs(self) -> bool {
        self != Self::Build
    }

    /// Whether the tests are run, which also try PostgreSQL's drivers for other languages.
    pub(super) fn runs_tests(self) -> bool {
        matches!(self, Self::Test | Self::All)
    }

    fn runs_benches(self) -> bool {
        matches!(self, Self::Bench | Self::All)
    }
}

/// A Debian package and what it is for.
pub(super) type Need = (&'static str, &'static str);

/// The last two are named here instead of libclang-dev, which depends on both and installs 250 MB more.
const BUILD: [Need; 3] = [
    ("gcc", "compiles PostgreSQL's own grammar"),
    ("libclang1-14", "reads the grammar's C headers, to call it from Rust"),
    ("libclang-common-14-dev", "headers that every C header includes"),
];
const EBPF_COMPILER: [Need; 2] = [
    ("rustc-web", "compiles the eBPF programs; your rustup stays as it is"),
    ("libstd-rust-web-dev-bpf", "Rust's core library for eBPF"),
];
const EBPF_LINKER: [Need; 5] = [
    ("llvm-22-dev", "the library that the eBPF linker is built on"),
    ("libpolly-22-dev", "LLVM links with it"),
    ("zlib1g-dev", "LLVM links with it"),
    ("libzstd-dev", "LLVM links with it"),
    ("libstdc++-12-dev", "LLVM links with it"),
];
const LAB: [Need; 6] = [
    ("postgresql", "the server that jobs talk to; a lab makes its own cluster with it"),
    ("python3", "runs the demo's job, and the process that takes a lab down"),
    ("python3-psycopg", "the driver that the demo's job uses"),
    ("openssh-client", "the tunnel that the demo's job tries"),
    ("openssh-server", "the tunnel's other end; its service stays off"),
    ("util-linux", "setpriv and unshare: servers run as their own users"),
];
/// Node, where no recent one is installed.
pub(super) const NODE: Need = ("nodejs", "runs the lab's OpenID provider");
/// pip, for the tests and where no npm is installed.
pub(super) const PIP: Need = ("python3-pip", "fetches npm, which fetches the OpenID provider; frameworks");
const TEST: [Need; 8] = [
    ("iproute2", "devices and routes in the tests' own network namespaces"),
    ("python3-asyncpg", "a driver under test"),
    ("openjdk-17-jdk-headless", "runs a driver under test"),
    ("libpostgresql-jdbc-java", "a driver under test"),
    ("golang-go", "compiles a driver under test"),
    ("golang-github-jackc-pgx-v4-dev", "a driver under test"),
    ("systemd", "checks the Debian package's unit; no service of it is started"),
    ("bzip2", "unpacks PostgreSQL's own regression tests"),
];
/// What the shipped policies are tried with, beside what npm and PyPI have.
const FRAMEWORKS: [Need; 14] = [
    ("golang-github-lib-pq-dev", "a driver under test"),
    ("libdbd-pg-perl", "a driver under test"),
    ("odbc-postgresql", "a driver under test"),
    ("unixodbc", "loads the ODBC driver"),
    ("python3-pyodbc", "calls the ODBC driver"),
    ("php-cli", "runs the frameworks of PHP"),
    ("php-pgsql", "a driver under test, PDO"),
    ("php-illuminate-database", "a framework under test, Laravel's"),
    ("php-doctrine-dbal", "a framework under test"),
    ("ruby-activerecord", "a framework under test, Rails'"),
    ("ruby-sequel", "a migration tool under test"),
    ("sqitch", "a migration tool under test"),
    ("sql-migrate", "a migration tool under test"),
    ("ruby-pg", "a driver under test"),
];
const BENCH: [Need; 2] = [
    ("pgbouncer", "a proxy that lineal is compared with"),
    ("haproxy", "a proxy that lineal is compared with"),
];
/// Tests and benches ask the kernel about loaded programs.
const BPFTOOL: Need = ("bpftool", "reads the kernel's own account of the eBPF programs");

/// What a purpose needs on every machine.
pub(super) fn always(purpose: Purpose) -> Vec<Need> {
    let mut needs = BUILD.to_vec();
    if purpose.raises_labs() {
        needs.extend(LAB);
    }
    if purpose.runs_tests() {
        needs.extend(TEST);
        needs.extend(FRAMEWORKS);
    }
    if purpose.runs_benches() {
        needs.extend(BENCH);
    }
    if purpose.runs_tests() || purpose.runs_benches() {
        needs.push(BPFTOOL);
    }
    needs
}

/// What is needed on a machine that can't compile the eBPF programs yet.
pub(super) fn for_ebpf(missing: &Missing) -> Vec<Need> {
    let mut needs = Vec::new();
    if missing.compiler {
        needs.extend(EBPF_COMPILER);
    }
    // A nightly's linker is built on the nightly's own LLVM.
    if missing.linker && !linker::is_for_nightly() {
        needs.extend(EBPF_LINKER);
    }
    needs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_brings_nothing_that_only_tests_and_benches_use() {
        let demo = always(Purpose::Demo);
        for need in TEST.iter().chain(&FRAMEWORKS).chain(&BENCH).chain([&BPFTOOL]) {
            assert!(!demo.contains(need), "{need:?}");
        }
    }

    #[test]
    fn all_is_what_the_other_purposes_need() {
        let all = always(Purpose::All);
        for purpose in [Purpose::Build, Purpose::Demo, Purpose::Test, Purpose::Bench] {
            assert!(always(purpose).iter().all(|need| all.contains(need)), "{purpose:?}");
        }
    }
}
