//! Programs that print credentials. What one printed is used until it expires; asked for by many at once, it is run
//! once.

use std::{
    process::Stdio,
    time::{Duration, SystemTime},
};

use serde::Deserialize;
use tokio::{io::AsyncReadExt, process::Command, sync::Mutex, time::timeout};

use super::{CredentialError, SECRET_BYTES_MAX, Secret};

/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long before its end a credential is not used any more: the server looks at its own clock.
const MARGIN: Duration = Duration::from_secs(10);

/// A program, and what it printed last.
pub struct Helper {
    program: String,
    arguments: Vec<String>,
    last: Mutex<Option<Printed>>,
}

#[derive(Clone)]
struct Printed {
    user: Option<Box<str>>,
    password: Secret,
    expires: Option<SystemTime>,
}

/// What one prints.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    user: Option<Box<str>>,
    password: String,
    expires: Option<jiff::Timestamp>,
}

impl Helper {
    /// One that is run by `command`, whose first word is an absolute path.
    pub fn new(command: &[String]) -> Option<Self> {
        let (program, arguments) = command.split_first()?;
        program.starts_with('/').then(|| Self {
            program: program.clone(),
            arguments: arguments.to_vec(),
            last: Mutex::new(None),
        })
    }

    /// The role, where it names one, and the password.
    pub async fn ask(&self) -> Result<(Option<Box<str>>, Secret), CredentialError> {
        let mut last = self.last.lock().await;
        let fresh =
            |printed: &Printed| printed.expires.is_some_and(|expires| SystemTime::now() + MARGIN < expires);
        if !last.as_ref().is_some_and(fresh) {
            *last = None;
            *last = Some(
                self.run()
                    .await
                    .map_err(|reason| CredentialError::Helper { program: self.program.clone(), reason })?,
            );
        }
        let Some(Printed { user, password, .. }) = last.clone() else {
            return Err(CredentialError::Helper {
                program: self.program.clone(),
                reason: "was not run".into(),
            });
        };
        Ok((user, password))
    }

    /// Runs it. Errors say what happened and never what it printed.
    async fn run(&self) -> Result<Printed, String> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| format!("cannot be started: {error}"))?;
        let printed = async {
            // Of one size: a buffer that grew would leave its old copy behind.
            let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(2 * SECRET_BYTES_MAX as usize));
            if let Some(stdout) = child.stdout.take() {
                let mut stdout = stdout.take(2 * SECRET_BYTES_MAX - 1);
                stdout.read_to_end(&mut bytes).await.map_err(|error| format!("cannot be read: {error}"))?;
            }
            let status = child.wait().await.map_err(|error| format!("cannot be awaited: {error}"))?;
            if status.success() { Ok(bytes) } else { Err(format!("failed ({status})")) }
        };
        let bytes =
            timeout(PATIENCE, printed).await.map_err(|_| format!("took more than {PATIENCE:?}"))??;
        let Answer { user, password, expires } = serde_json::from_slice(&bytes).map_err(|error| {
            format!("printed no such JSON (line {}, column {})", error.line(), error.column())
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

    async fn told(script: &str) -> String {
        shell(script).ask().await.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[tokio::test]
    async fn what_a_helper_prints_is_used_until_it_expires() {
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
    async fn a_failure_says_what_happened_and_nothing_that_was_printed() {
        assert!(told("echo s3cret; exit 3").await.contains("failed (exit status: 3)"));
        let told_of_text = told("echo '\"s3cret'").await;
        assert!(told_of_text.contains("printed no such JSON") && !told_of_text.contains("s3cret"));
        let odd = told("echo '{\"password\":\"p\",\"s3cret\":1}'").await;
        assert!(odd.contains("printed no such JSON") && !odd.contains("s3cret"));
        assert!(told("echo '{\"password\":\"\"}'").await.contains("empty password"));
        let absent = Helper::new(&["/nonexistent/helper".to_owned()]).unwrap();
        assert!(absent.ask().await.err().unwrap().to_string().contains("cannot be started"));
    }
}
