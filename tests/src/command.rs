//! Runs commands to their end, with a bound on how long that may take.

use std::{
    io::Read,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::server::wait;

/// How long a command may take unless its caller says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How a command ended, and its output. Bytes that are not UTF-8 are replaced by U+FFFD.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Finished {
    /// Its standard output; an error if it did not exit with 0.
    pub fn success(self) -> anyhow::Result<String> {
        if self.code == Some(0) {
            return Ok(self.stdout);
        }
        bail!("a command failed with {:?}:\n{}{}", self.code, self.stdout, self.stderr)
    }

    /// Its standard output as JSON values, one a line; an error if it did not exit with 0, or if a line is
    /// not JSON.
    pub fn json(self) -> anyhow::Result<Vec<Value>> {
        self.success()?
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("not a JSON object: {line}")))
            .collect()
    }
}

/// Runs a command without input, and waits for its end and for the end of its output, each for at most
/// [`PATIENCE`]. An exit code other than 0 is no error.
///
/// # Errors
/// The command cannot be started; it takes longer, and is killed; or a process that it started keeps its
/// output open for longer.
pub fn finish(command: &mut Command) -> anyhow::Result<Finished> {
    finish_within(command, PATIENCE)
}

/// Like [`finish`], but waits for the command's end for at most `patience`.
pub fn finish_within(command: &mut Command, patience: Duration) -> anyhow::Result<Finished> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    let stdout = read_all(child.stdout.take());
    let stderr = read_all(child.stderr.take());
    let Some(status) = wait(&mut child, patience)? else {
        let _ = child.kill();
        let _ = child.wait();
        bail!("{command:?} did not end within {patience:?}");
    };
    let text = |output: mpsc::Receiver<Vec<u8>>| {
        let bytes = output
            .recv_timeout(PATIENCE)
            .with_context(|| format!("a process that {command:?} started holds its output open"))?;
        anyhow::Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    Ok(Finished { code: status.code(), stdout: text(stdout)?, stderr: text(stderr)? })
}

/// Reads a pipe to its end on a thread of its own, so that a full pipe never stops the command; the receiver
/// gets everything at once.
fn read_all(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        let _ = sender.send(bytes);
    });
    receiver
}
