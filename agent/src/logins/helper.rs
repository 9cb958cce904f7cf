//! Programs that print a password. What a program printed is used by the login that ran it, and by later
//! ones until it expires; if it names no expiry, the next login runs the program again. One [`Helper`] never
//! runs its program twice at the same time: whoever asks meanwhile waits.

use std::{
    process::Stdio,
    time::{Duration, SystemTime},
};

use serde::Deserialize;
use tokio::{io::AsyncReadExt, process::Command, sync::Mutex, time::timeout};

use super::{
    error::LoginsError,
    secret::{SECRET_BYTES_MAX, Secret},
};

/// How long a program may take.
const RUN_MAX: Duration = Duration::from_secs(10);
/// How long before its expiry a password is no longer used: the server's clock may be ahead.
const MARGIN: Duration = Duration::from_secs(10);

/// A program, and what it printed last.
pub(super) struct Helper {
    program: String,
    arguments: Vec<String>,
    last: Mutex<Option<Printed>>,
}

/// What a program printed, as it is kept.
#[derive(Clone)]
struct Printed {
    user: Option<Box<str>>,
    password: Secret,
    expires: Option<SystemTime>,
}

/// What a program prints.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    user: Option<Box<str>>,
    password: String,
    expires: Option<jiff::Timestamp>,
}

impl Helper {
    /// A helper that is run by `command`, a program and its arguments; `None` if `command` is empty or the
    /// program is not given by an absolute path.
    pub(super) fn new(command: &[String]) -> Option<Self> {
        let (program, arguments) = command.split_first()?;
        program.starts_with('/').then(|| Self {
            program: program.clone(),
            arguments: arguments.to_vec(),
            last: Mutex::new(None),
        })
    }

    /// The role, if the program names one, and the password: those kept if they are fresh, otherwise those
    /// that a new run prints.
    pub(super) async fn ask(&self) -> Result<(Option<Box<str>>, Secret), LoginsError> {
        let mut last = self.last.lock().await;
        let fresh =
            |printed: &Printed| printed.expires.is_some_and(|expires| SystemTime::now() + MARGIN < expires);
        let printed = match last.take().filter(fresh) {
            Some(printed) => printed,
            None => {
                let failed = |reason| LoginsError::Helper { program: self.program.clone(), reason };
                self.run().await.map_err(failed)?
            }
        };
        let Printed { user, password, .. } = last.insert(printed).clone();
        Ok((user, password))
    }

    /// Runs the program. An error says what happened, and nothing that was printed.
    async fn run(&self) -> Result<Printed, String> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| format!("cannot be started: {error}"))?;
        let printed = async {
            // Large enough for all that is read: a buffer that grew would leave a copy in freed memory.
            let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(2 * SECRET_BYTES_MAX as usize));
            if let Some(stdout) = child.stdout.take() {
                let mut stdout = stdout.take(2 * SECRET_BYTES_MAX - 1);
                stdout.read_to_end(&mut bytes).await.map_err(|error| format!("cannot be read: {error}"))?;
            }
            let status = child.wait().await.map_err(|error| format!("cannot be awaited: {error}"))?;
            if status.success() { Ok(bytes) } else { Err(format!("failed ({status})")) }
        };
        let bytes = timeout(RUN_MAX, printed)
            .await
            .map_err(|_| format!("took more than {RUN_MAX:?} and was stopped"))??;
        let Answer { user, password, expires } = serde_json::from_slice(&bytes).map_err(|error| {
            format!(
                "did not print JSON with `password`, `user` and `expires` alone (line {}, column {})",
                error.line(),
                error.column()
            )
        })?;
        let password = Secret::new(password.into_bytes());
        if password.reveal().is_empty() {
            return Err("printed an empty password".to_owned());
        }
        Ok(Printed { user, password, expires: expires.map(Into::into) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Helper {
        Helper::new(&["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()]).unwrap()
    }

    async fn error_of(script: &str) -> String {
        shell(script).ask().await.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[tokio::test]
    async fn a_helper_is_run_again_only_when_what_it_printed_has_expired() {
        let dir = tempfile::tempdir().unwrap();
        let runs = dir.path().join("runs");
        let count = || std::fs::read_to_string(&runs).map_or(0, |text| text.len());
        let script = |expires: &str| {
            format!("printf x >> {}; echo '{{\"user\":\"u\",\"password\":\"p\"{expires}}}'", runs.display())
        };
        let lasting = shell(&script(",\"expires\":\"2999-01-01T00:00:00Z\""));
        for _ in 0..3 {
            let (user, password) = lasting.ask().await.unwrap();
            assert_eq!((user.as_deref(), password.reveal()), (Some("u"), &b"p"[..]));
        }
        assert_eq!(count(), 1);
        let ended = shell(&script(",\"expires\":\"2001-01-01T00:00:00Z\""));
        let without = shell(&script(""));
        for helper in [&ended, &without] {
            let before = count();
            helper.ask().await.unwrap();
            helper.ask().await.unwrap();
            assert_eq!(count(), before + 2);
        }
    }

    #[tokio::test]
    async fn an_error_says_what_happened_and_nothing_that_was_printed() {
        assert!(error_of("echo s3cret; exit 3").await.contains("failed (exit status: 3)"));
        let text = error_of("echo '\"s3cret'").await;
        assert!(text.contains("did not print JSON") && !text.contains("s3cret"));
        let odd = error_of("echo '{\"password\":\"p\",\"s3cret\":1}'").await;
        assert!(odd.contains("did not print JSON") && !odd.contains("s3cret"));
        assert!(error_of("echo '{\"password\":\"\"}'").await.contains("empty password"));
        let absent = Helper::new(&["/nonexistent/helper".to_owned()]).unwrap();
        assert!(absent.ask().await.err().unwrap().to_string().contains("cannot be started"));
    }
}
