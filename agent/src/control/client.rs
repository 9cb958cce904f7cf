//! The command line's side of the control socket: blocking, so that `lineal run` stays a small program.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use thiserror::Error;

use super::{End, Request};

/// How long an answer may take; verifying a token may have to fetch the issuer's keys first.
const ANSWER: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("cannot reach the agent at {path}: {source}; is `lineal agent` running?")]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The connection broke.
    #[error("the agent hung up: {0}")]
    Broken(std::io::Error),
    /// It says nothing.
    #[error("the agent does not answer: is it stopped?")]
    Silent,
    /// The agent refused.
    #[error("{0}")]
    Refused(String),
    /// The agent's answer makes no sense.
    #[error("the agent's answer can't be read: {0}")]
    Unreadable(serde_json::Error),
}

/// Asks, and answers the objects before the last line.
pub fn ask(socket: &Path, request: &Request) -> Result<Vec<Value>, ClientError> {
    let mut stream = UnixStream::connect(socket)
        .map_err(|source| ClientError::Unreachable { path: socket.to_owned(), source })?;
    stream.set_read_timeout(Some(ANSWER)).map_err(ClientError::Broken)?;
    stream.set_write_timeout(Some(ANSWER)).map_err(ClientError::Broken)?;
    let mut line = serde_json::to_vec(request).map_err(ClientError::Unreadable)?;
    line.push(b'\n');
    // Whom the agent won't hear it answers before it has read anything: the answer is worth more than this failure.
    let written = stream.write_all(&line);
    let mut answers = Vec::new();
    for line in BufReader::new(stream).lines() {
        let line = line.map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => ClientError::Silent,
            _ => ClientError::Broken(error),
        })?;
        let value: Value = serde_json::from_str(&line).map_err(ClientError::Unreadable)?;
        match End::deserialize_end(&value) {
            Some(End { error: Some(error), .. }) => return Err(ClientError::Refused(error)),
            Some(End { done: true, .. }) => return Ok(answers),
            _ => answers.push(value),
        }
    }
    Err(ClientError::Broken(written.err().unwrap_or_else(|| std::io::ErrorKind::UnexpectedEof.into())))
}

impl End {
    /// The last line, if this is it.
    fn deserialize_end(value: &Value) -> Option<Self> {
        let object = value.as_object().filter(|object| object.len() == 1)?;
        (object.contains_key("done") || object.contains_key("error"))
            .then(|| serde_json::from_value(value.clone()).ok())
            .flatten()
    }
}
