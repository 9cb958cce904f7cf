//! How a command ends: its exit code, and its error as one line on standard error.

use std::{
    io::{self, Write},
    process::ExitCode,
};

/// The answer is no: a policy test fails, the trail is broken.
pub const EXIT_NO: u8 = 1;
/// The arguments make no sense.
pub const EXIT_USAGE: u8 = 2;
/// lineal itself failed.
const EXIT_FAILURE: u8 = 125;

/// A command's result.
pub type Outcome = anyhow::Result<ExitCode>;

/// The exit code of a command's result, after its error was printed.
pub fn exit_code(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(code) => code,
        // The output's reader has seen enough: `lineal audit query | head`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&one_line(&error));
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

/// Writes one line to standard error.
pub fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "lineal: {line}");
}

/// An error with its causes, as one line.
fn one_line(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // Many errors include their cause in their own text.
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn an_error_is_one_line_that_names_each_cause_once() {
        let cause = io::Error::other("disk\nfull");
        let error = Err::<(), _>(cause).context("cannot write: disk\nfull").context("no trail");
        assert_eq!(one_line(&error.unwrap_err()), "no trail: cannot write: disk full");
    }
}
