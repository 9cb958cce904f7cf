//! The command line's side of the control socket. It blocks, so that `lineal run` stays a small program.

use std::{
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::de::DeserializeOwned;
use serde_json::Value;
use thiserror::Error;

use super::{
    answer::Status,
    request::{End, Request},
};

/// How long an answer may take; to verify a token, the agent may have to fetch the issuer's keys first.
const ANSWER: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error(
        "cannot reach the agent at {path}: {source}; start it (`systemctl start lineal`), \
         or name its socket with --control or LINEAL_CONTROL"
    )]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the agent closed the connection without an answer: {0}; its log says why")]
    Broken(io::Error),
    /// No answer came in time.
    #[error("the agent does not answer: see whether it hangs or is stopped (`systemctl status lineal`)")]
    Silent,
    /// The agent refused.
    #[error("{0}")]
    Refused(String),
    /// The agent's answer is not what was asked for.
    #[error("the agent's answer can't be read: {0}; is the running agent of another version?")]
    Unreadable(#[from] serde_json::Error),
    /// The answer holds no object.
    #[error("the agent answered with nothing; is the running agent of another version?")]
    Nothing,
}

/// Asks, and returns the answer's objects.
pub fn ask<T: DeserializeOwned>(socket: &Path, request: &Request) -> Result<Vec<T>, ClientError> {
    ask_within(socket, request, ANSWER)
}

/// Asks for an answer of one object.
pub fn ask_one<T: DeserializeOwned>(socket: &Path, request: &Request) -> Result<T, ClientError> {
    ask(socket, request)?.pop().ok_or(ClientError::Nothing)
}

/// Asks for the agent's status, and waits for at most `patience`.
pub fn status_within(socket: &Path, patience: Duration) -> Result<Status, ClientError> {
    ask_within(socket, &Request::Status, patience)?.pop().ok_or(ClientError::Nothing)
}

fn ask_within<T: DeserializeOwned>(
    socket: &Path,
    request: &Request,
    patience: Duration,
) -> Result<Vec<T>, ClientError> {
    let mut stream = UnixStream::connect(socket)
        .map_err(|source| ClientError::Unreachable { path: socket.to_owned(), source })?;
    stream.set_read_timeout(Some(patience)).map_err(ClientError::Broken)?;
    stream.set_write_timeout(Some(patience)).map_err(ClientError::Broken)?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    // The agent may refuse a peer before it has read the request, which makes this fail. The answer says
    // more.
    let written = stream.write_all(&line);
    let mut answers = Vec::new();
    for line in BufReader::new(stream).lines() {
        let line = line.map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => ClientError::Silent,
            _ => ClientError::Broken(error),
        })?;
        let value: Value = serde_json::from_str(&line)?;
        match end(&value) {
            Some(End { error: Some(error), .. }) => return Err(ClientError::Refused(error)),
            Some(End { done: true, .. }) => return Ok(answers),
            _ => answers.push(serde_json::from_value(value)?),
        }
    }
    Err(ClientError::Broken(written.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into())))
}

/// The value as the last line of an answer, if it is that.
fn end(value: &Value) -> Option<End> {
    let object = value.as_object().filter(|object| object.len() == 1)?;
    (object.contains_key("done") || object.contains_key("error"))
        .then(|| serde_json::from_value(value.clone()).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use std::{io::Read, os::unix::net::UnixListener};

    use super::*;
    use crate::control::answer::Revoked;

    /// Asks an agent that answers with `text`, whatever it is asked.
    fn ask_agent_that_says(text: &'static str) -> Result<Vec<Revoked>, ClientError> {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let agent = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1];
            stream.read_exact(&mut request).unwrap();
            stream.write_all(text.as_bytes()).unwrap();
            // Closing with bytes unread would reset the connection.
            let mut rest = BufReader::new(stream);
            rest.read_line(&mut String::new()).unwrap();
        });
        let answer = ask(&socket, &Request::Jobs);
        agent.join().unwrap();
        answer
    }

    #[test]
    fn the_objects_before_the_last_line_are_the_answer() {
        let answer = ask_agent_that_says("{\"id\":\"a\"}\n{\"id\":\"b\"}\n{\"done\":true}\n").unwrap();
        assert_eq!(answer.iter().map(|job| job.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn a_refusal_is_the_agents_own_words() {
        let error = ask_agent_that_says("{\"error\":\"not you\"}\n").unwrap_err();
        assert_eq!(error.to_string(), "not you");
    }

    #[test]
    fn an_answer_without_an_end_is_an_error() {
        assert!(matches!(ask_agent_that_says("{\"id\":\"a\"}\n"), Err(ClientError::Broken(_))));
    }

    #[test]
    fn an_answer_of_another_shape_is_an_error() {
        assert!(matches!(ask_agent_that_says("{\"no\":1,\"id\":2}\n"), Err(ClientError::Unreadable(_))));
    }

    #[test]
    fn an_agent_that_is_not_there_is_named_with_its_socket_and_the_remedy() {
        let error = ask::<Value>(Path::new("/nonexistent/control.sock"), &Request::Jobs).unwrap_err();
        let told = error.to_string();
        assert!(told.contains("/nonexistent/control.sock") && told.contains("--control"), "{told}");
    }
}
