//! Runs commands and says what is going on, and for how long. All of it goes to standard error: standard
//! output belongs to a chore's result, which a program may read.

use std::{
    env, fmt,
    io::{self, Write},
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use lineal_tests::paths;

/// How the variables begin in which `cargo run` describes the package that it runs.
const ABOUT_XTASK: [&str; 2] = ["CARGO_MANIFEST_", "CARGO_PKG_"];

/// Prints one line on standard error.
pub(crate) fn say(what: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "xtask: {what}");
}

/// Does something that takes a while: says about how long beforehand, and how long it took afterwards.
pub(crate) fn step<T>(
    what: &str,
    about: &str,
    work: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    say(format_args!("{what}: {about}"));
    let begun = Instant::now();
    let done = work()?;
    say(format_args!("{what}: took {}", Took(begun.elapsed())));
    Ok(done)
}

/// A duration as people say it: `0.4 s`, `3 min 20 s`.
pub(crate) struct Took(pub(crate) Duration);

impl fmt::Display for Took {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        if seconds < 60 {
            write!(out, "{:.1} s", self.0.as_secs_f64())
        } else {
            write!(out, "{} min {} s", seconds / 60, seconds % 60)
        }
    }
}

/// Runs a command that must succeed; its output goes to standard error.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .stdin(Stdio::null())
        .stdout(io::stderr())
        .status()
        .with_context(|| format!("cannot start {:?}", command.get_program()))?;
    if status.success() { Ok(()) } else { bail!("failed ({status}): {command:?}") }
}

/// Whether a command can be started and succeeds. Its output is thrown away.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// The cargo that runs this chore, in the project's root directory.
///
/// It must not inherit what `cargo run` says of xtask itself: build scripts (ring's) depend on these
/// variables, and the next `cargo xtask` would compile again what such scripts are for, and the build after
/// it once more.
pub(crate) fn cargo() -> Command {
    let program = env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
    let mut command = in_repository(Command::new(program));
    for (name, _) in env::vars_os() {
        if ABOUT_XTASK.iter().any(|prefix| name.as_encoded_bytes().starts_with(prefix.as_bytes())) {
            command.env_remove(name);
        }
    }
    command
}

/// Makes a command run in the project's root directory.
pub(crate) fn in_repository(mut command: Command) -> Command {
    command.current_dir(paths::repository());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_told_in_seconds_and_from_a_minute_on_in_minutes() {
        let check = |milliseconds, expect| {
            assert_eq!(Took(Duration::from_millis(milliseconds)).to_string(), expect);
        };
        check(420, "0.4 s");
        check(59_900, "59.9 s");
        check(200_000, "3 min 20 s");
    }
}
