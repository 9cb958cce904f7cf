//! Builds the agent for the chores that run it.

use std::{
    io::{self, BufRead, BufReader, IsTerminal},
    process::{Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use lineal_tests::paths;
use serde_json::Value;

use crate::{
    setup::{self, Purpose},
    shell::{Took, cargo, run, say, step},
};

/// How often a log gets a line of progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(15);

/// How the agent is built.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// With all checks, and soonest.
    Dev,
    /// As it ships.
    Release,
}

/// Sets up, builds the agent, and makes labs use it.
pub(crate) fn agent(purpose: Purpose, profile: Profile) -> anyhow::Result<()> {
    setup::setup(purpose)?;
    build(profile)
}

/// Builds the agent, and makes labs use it.
pub(crate) fn build(profile: Profile) -> anyhow::Result<()> {
    let mut binary = paths::profile_dir()?.join("lineal");
    let mut compile = cargo();
    compile.args(["build", "--package", "agent"]);
    if profile == Profile::Release {
        binary = paths::profile_dir()?.with_file_name("release").join("lineal");
        compile.arg("--release");
    }
    let about = match (binary.is_file(), profile) {
        (true, _) => "what has changed",
        (false, Profile::Dev) => "about 3 minutes on two cores, the first time",
        (false, Profile::Release) => "some minutes more than the unoptimised build, the first time",
    };
    step("compiling lineal", about, || {
        // On a terminal cargo draws its own progress.
        if io::stderr().is_terminal() { run(&mut compile) } else { run_telling_progress(&mut compile) }
    })?;
    if profile == Profile::Release {
        paths::use_lineal(binary);
    }
    Ok(())
}

/// Runs `cargo build` for a log: a line now and then in place of one for each of hundreds of crates.
fn run_telling_progress(compile: &mut Command) -> anyhow::Result<()> {
    compile.args(["--quiet", "--message-format=json-render-diagnostics"]);
    let mut cargo =
        compile.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let output = cargo.stdout.take().context("cargo has no standard output")?;
    let (sender, names) = mpsc::channel();
    // Ends with cargo, whose end of the pipe closes.
    let reader = thread::spawn(move || {
        let lines = BufReader::new(output).lines().map_while(Result::ok);
        lines.filter_map(|line| newly_compiled(&line)).try_for_each(|name| sender.send(name))
    });
    let (begun, mut compiled, mut last) = (Instant::now(), 0, String::new());
    let mut next = begun + PROGRESS_EVERY;
    loop {
        match names.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(name) => (compiled, last) = (compiled + 1, format!(", the last one {name}")),
            Err(RecvTimeoutError::Timeout) => {
                next += PROGRESS_EVERY;
                say(format_args!("  {compiled} crates after {}{last}", Took(begun.elapsed())));
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let _ = reader.join();
    let status = cargo.wait()?;
    if status.success() { Ok(()) } else { bail!("failed ({status}): {compile:?}") }
}

/// The crate that a message of cargo's reports, if it had to be compiled. Build scripts don't count.
fn newly_compiled(message: &str) -> Option<String> {
    let message: Value = serde_json::from_str(message).ok()?;
    let is = |pointer: &str, value: Value| message.pointer(pointer) == Some(&value);
    let counts = is("/reason", "compiler-artifact".into())
        && is("/fresh", false.into())
        && !is("/target/kind/0", "custom-build".into());
    counts.then(|| message.pointer("/target/name")?.as_str().map(str::to_owned)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_crate_that_had_to_be_compiled_is_progress() {
        let artifact = |kind: &str, fresh: bool| {
            let target = format!(r#"{{"name":"serde","kind":["{kind}"]}}"#);
            format!(r#"{{"reason":"compiler-artifact","target":{target},"fresh":{fresh}}}"#)
        };
        assert_eq!(newly_compiled(&artifact("lib", false)).as_deref(), Some("serde"));
        assert_eq!(newly_compiled(&artifact("lib", true)), None);
        assert_eq!(newly_compiled(&artifact("custom-build", false)), None);
        assert_eq!(newly_compiled(r#"{"reason":"build-finished","success":true}"#), None);
        assert_eq!(newly_compiled("no JSON"), None);
    }
}
