//! Fetches PostgreSQL's own regression tests for the lab: their SQL from Debian's source package, and the C
//! functions that they call, compiled against Debian's headers. Everything goes into the target directory;
//! nothing is installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};
use lineal_tests::{paths, postgres};

use crate::shell::{run, say};

/// What a regression run uses of the source tree, below `src/test/regress`.
const PARTS: [&str; 4] = ["sql", "expected", "data", "parallel_schedule"];
/// The keys of both Debian archives.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Makes sure that the tests are in [`paths::regression_tests`]. Silent and quick when they are.
pub(crate) fn fetch() -> anyhow::Result<()> {
    let directory = paths::regression_tests()?;
    let stamp = directory.join("complete");
    if stamp.is_file() {
        return Ok(());
    }
    let server = postgres::program("postgres")?;
    let major = server
        .ancestors()
        .nth(2)
        .and_then(Path::file_name)
        .and_then(|name| name.to_str())
        .context("the server's path names no version")?;
    say(format_args!(
        "apt-get source: PostgreSQL {major}'s own regression tests, into {}",
        directory.display()
    ));
    let _ = fs::remove_dir_all(&directory);
    let work = directory.join("work");
    fs::create_dir_all(&work)?;
    let apt = Apt::new(&work)?;
    run(apt.get().args(["--quiet", "update"]))?;
    // Their minor versions may differ: what the functions use of the server is the same within a major
    // version.
    let version = apt.newest(&["source", "--download-only"], &format!("postgresql-{major}"))?;
    apt.newest(&["download"], &format!("postgresql-server-dev-{major}"))?;

    let archive = the_one(&work, ".orig.tar.bz2")?;
    let mut tar = Command::new("tar");
    tar.arg("--extract").arg("--file").arg(&archive).arg("--directory").arg(&work).arg("--wildcards");
    run(tar.args(["--strip-components=4", "*/src/test/regress/*"]))?;
    run(Command::new("dpkg-deb").arg("--extract").arg(the_one(&work, ".deb")?).arg(work.join("headers")))?;
    let mut compile = Command::new("gcc");
    compile.args(["-O1", "-fPIC", "-shared", "-w", "-o"]).arg(directory.join("regress.so"));
    compile.arg("-I").arg(work.join(format!("headers/usr/include/postgresql/{major}/server")));
    run(compile.arg(work.join("regress.c")))?;
    for part in PARTS {
        fs::rename(work.join(part), directory.join(part))
            .with_context(|| format!("the source has no {part}"))?;
    }
    fs::remove_dir_all(&work)?;
    fs::write(stamp, version)?;
    Ok(())
}

/// apt with package lists of its own, source packages included. The machine's own lists stay as they are.
struct Apt {
    directory: PathBuf,
}

impl Apt {
    fn new(directory: &Path) -> anyhow::Result<Self> {
        let release =
            fs::read_to_string("/etc/os-release").context("/etc/os-release names no Debian version")?;
        let suite = release
            .lines()
            .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
            .context("/etc/os-release names no Debian version")?;
        let apt = Self { directory: directory.to_owned() };
        fs::create_dir_all(directory.join("sources"))?;
        fs::create_dir_all(directory.join("lists/partial"))?;
        let entry = |uri: &str, suites: String| {
            format!(
                "Types: deb deb-src\nURIs: {uri}\nSuites: {suites}\nComponents: main\n\
                 Signed-By: {KEYRING}\n\n"
            )
        };
        let sources = entry("http://deb.debian.org/debian", format!("{suite} {suite}-updates"))
            + &entry("http://deb.debian.org/debian-security", format!("{suite}-security"));
        fs::write(directory.join("sources/debian.sources"), sources)?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let at = |name: &str| self.directory.join(name).display().to_string();
        for option in [
            "Dir::Etc::SourceList=/dev/null".to_owned(),
            format!("Dir::Etc::SourceParts={}", at("sources")),
            format!("Dir::State::Lists={}", at("lists")),
            format!("Dir::Cache={}", at("cache")),
            // apt's own user may not be able to enter the directory that downloads go to.
            "APT::Sandbox::User=root".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command.current_dir(&self.directory);
        command
    }

    fn get(&self) -> Command {
        self.command("apt-get")
    }

    /// Downloads the newest version of a package that the mirror still has: it lists some that it no longer
    /// has.
    fn newest(&self, verb: &[&str], package: &str) -> anyhow::Result<String> {
        let output = self.command("apt-cache").args(["madison", package]).output()?;
        let text = String::from_utf8(output.stdout).context("apt-cache printed no text")?;
        // Newest first: "package | version | where".
        for version in text.lines().filter_map(|line| line.split(" | ").nth(1)).map(str::trim) {
            let mut get = self.get();
            get.args(verb).args(["--quiet", &format!("{package}={version}")]);
            if get.status()?.success() {
                return Ok(version.to_owned());
            }
            say(format_args!(
                "{package} {version} is listed but can't be downloaded; trying the next version"
            ));
        }
        anyhow::bail!("no version of {package} can be downloaded")
    }
}

fn the_one(directory: &Path, suffix: &str) -> anyhow::Result<PathBuf> {
    let mut found = Vec::new();
    for file in fs::read_dir(directory)? {
        let path = file?.path();
        if path.to_string_lossy().ends_with(suffix) {
            found.push(path);
        }
    }
    ensure!(
        found.len() == 1,
        "{} has {} files that end with {suffix}, instead of one",
        directory.display(),
        found.len()
    );
    Ok(found.remove(0))
}
