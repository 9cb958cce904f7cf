//! Credentials that the agent itself logs in with, so that no job needs to have them.
//!
//! `[[credential]]` in the configuration says where each comes from; what a policy bundle says is only its name. A
//! secret is read when it is needed, so that a new one is in force as soon as it is there, and is wiped from memory
//! after its use.

mod helper;
mod secret;

use std::{
    collections::HashMap,
    fs,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use thiserror::Error;

use crate::tls::Identity;
use helper::Helper;
pub use secret::Secret;

/// The longest password that is read: PostgreSQL takes none of more (`PG_MAX_AUTH_TOKEN_LENGTH`).
const SECRET_BYTES_MAX: u64 = 65_535;

/// `[[credential]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialConfig {
    /// What `upstreams.toml` calls it.
    pub name: Box<str>,
    /// The role to log in as; the one that the job's client names unless given.
    pub user: Option<Box<str>>,
    /// A file that holds the password.
    pub password_file: Option<PathBuf>,
    /// A systemd credential that holds it (`LoadCredential=`).
    pub systemd_credential: Option<Box<str>>,
    /// A program and its arguments that print it, as JSON: `user`, `password`, `expires` (RFC 3339).
    pub helper: Option<Vec<String>>,
    /// A client certificate, PEM.
    pub certificate: Option<PathBuf>,
    /// Its key, PEM.
    pub key: Option<PathBuf>,
}

/// Why there is no such credential.
#[derive(Debug, Error)]
pub enum CredentialError {
    /// The configuration can't be meant.
    #[error("the credential {name:?} {reason}")]
    Config {
        /// Its name.
        name: Box<str>,
        /// In words that follow it.
        reason: &'static str,
    },
    /// The configuration has none of this name.
    #[error("there is no credential {0:?} in the agent's configuration")]
    Unknown(Box<str>),
    /// A file can't be used.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// systemd has given the agent no credentials.
    #[error("the agent has no systemd credentials: its unit lacks LoadCredential=")]
    NoDirectory,
    /// The helper did not give one.
    #[error("the helper {program} {reason}")]
    Helper {
        /// Its path.
        program: String,
        /// In words that follow it.
        reason: String,
    },
}

/// What to log in with.
pub struct Login {
    /// As whom; as the job's client asks unless given.
    pub user: Option<Box<str>>,
    /// The password, where there is one.
    pub password: Option<Secret>,
    /// The client certificate, where there is one.
    pub identity: Option<Identity>,
}

/// All of them.
pub struct Credentials(HashMap<Box<str>, Entry>);

struct Entry {
    user: Option<Box<str>>,
    source: Option<Source>,
    identity: Option<Identity>,
}

enum Source {
    File(PathBuf),
    Systemd(Box<str>),
    Helper(Helper),
}

impl Credentials {
    /// Those of the configuration. Reads no secret.
    pub fn new(configs: &[CredentialConfig]) -> Result<Self, CredentialError> {
        let mut all = HashMap::new();
        for config in configs {
            let refuse = |reason| CredentialError::Config { name: config.name.clone(), reason };
            let entry = Entry::new(config).map_err(refuse)?;
            if all.insert(config.name.clone(), entry).is_some() {
                return Err(refuse("is there twice"));
            }
        }
        Ok(Self(all))
    }

    /// Whether there is one of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Gets it from where it is kept.
    pub async fn login(&self, name: &str) -> Result<Login, CredentialError> {
        let entry = self.0.get(name).ok_or_else(|| CredentialError::Unknown(name.into()))?;
        let (user, password) = match &entry.source {
            None => (None, None),
            Some(Source::File(path)) => (None, Some(read(path)?)),
            Some(Source::Systemd(name)) => {
                let directory =
                    std::env::var_os("CREDENTIALS_DIRECTORY").ok_or(CredentialError::NoDirectory)?;
                (None, Some(read(&Path::new(&directory).join(&**name))?))
            }
            Some(Source::Helper(helper)) => {
                let (user, password) = helper.ask().await?;
                (user, Some(password))
            }
        };
        Ok(Login { user: user.or_else(|| entry.user.clone()), password, identity: entry.identity.clone() })
    }
}

impl Entry {
    fn new(config: &CredentialConfig) -> Result<Self, &'static str> {
        let CredentialConfig { user, password_file, systemd_credential, helper, certificate, key, .. } =
            config;
        let identity = match (certificate, key) {
            (Some(certificate), Some(key)) => {
                Some(Identity { certificate: certificate.clone(), key: key.clone() })
            }
            (None, None) => None,
            _ => return Err("has a certificate without a key, or a key without a certificate"),
        };
        let source = match (password_file, systemd_credential, helper) {
            (None, None, None) if identity.is_some() => None,
            (Some(path), None, None) if path.is_absolute() => Some(Source::File(path.clone())),
            (Some(_), None, None) => return Err("has a password_file that is no absolute path"),
            (None, Some(name), None)
                if !name.is_empty() && !name.contains(['/', '\0']) && !name.starts_with('.') =>
            {
                Some(Source::Systemd(name.clone()))
            }
            (None, Some(_), None) => return Err("has a systemd_credential that is no name of one"),
            (None, None, Some(helper)) => {
                Some(Source::Helper(Helper::new(helper).ok_or("has a helper that is no absolute path")?))
            }
            (None, None, None) => {
                return Err("needs a password_file, a systemd_credential, a helper or a certificate");
            }
            _ => return Err("has more than one of password_file, systemd_credential and helper"),
        };
        Ok(Self { user: user.clone(), source, identity })
    }
}

/// Reads a password from a file; a line end behind it is the editor's.
fn read(path: &Path) -> Result<Secret, CredentialError> {
    let wrong = |reason: String| CredentialError::File { path: path.to_owned(), reason };
    let file = fs::File::open(path).map_err(|error| wrong(error.to_string()))?;
    let metadata = file.metadata().map_err(|error| wrong(error.to_string()))?;
    if metadata.permissions().mode() & 0o007 != 0 {
        return Err(wrong(
            "every user of this host can read it: chmod o= it, and change the password".into(),
        ));
    }
    if metadata.len() > SECRET_BYTES_MAX {
        return Err(wrong(format!("it has more than {SECRET_BYTES_MAX} bytes")));
    }
    // One byte more than a file of this size: a buffer that grew would leave its old copy behind.
    let mut bytes = Vec::with_capacity(metadata.len() as usize + 1);
    let read = file.take(metadata.len()).read_to_end(&mut bytes);
    let mut secret = Secret::new(bytes);
    read.map_err(|error| wrong(error.to_string()))?;
    secret.trim_line_end();
    if secret.reveal().is_empty() {
        return Err(wrong("it is empty".into()));
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<Credentials, String> {
        #[derive(Deserialize)]
        struct File {
            credential: Vec<CredentialConfig>,
        }
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        Credentials::new(&file.credential).map_err(|error| error.to_string())
    }

    #[test]
    fn a_credential_that_cannot_be_meant_is_refused() {
        let check = |more: &str, reason: &str| {
            let told = config(&format!("[[credential]]\nname = \"rw\"\n{more}")).err().unwrap_or_default();
            assert!(told.contains(reason), "{more}: {told}");
        };
        check("", "needs a password_file");
        check("password_file = \"a\"", "no absolute path");
        check("password_file = \"/a\"\nsystemd_credential = \"b\"", "more than one");
        check("systemd_credential = \"../b\"", "no name of one");
        check("helper = []", "no absolute path");
        check("helper = [\"vault\"]", "no absolute path");
        check("certificate = \"/a\"", "without a key");
        check("pasword_file = \"/a\"", "unknown field");
        check(
            "password_file = \"/a\"\n[[credential]]\nname = \"rw\"\npassword_file = \"/a\"",
            "is there twice",
        );
    }

    #[tokio::test]
    async fn a_password_is_read_anew_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        let put = |text: &str, mode: u32| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let text = format!("[[credential]]\nname = \"rw\"\nuser = \"app\"\npassword_file = {path:?}");
        let all = config(&text).unwrap();
        for (text, expect) in [("one\n", "one"), ("two\r\n", "two"), ("three \n\n", "three \n")] {
            put(text, 0o600);
            let login = all.login("rw").await.unwrap();
            assert_eq!(login.user.as_deref(), Some("app"));
            assert_eq!(login.password.unwrap().reveal(), expect.as_bytes());
        }
        put("\n", 0o600);
        assert!(all.login("rw").await.err().unwrap().to_string().contains("it is empty"));
        put("four", 0o604);
        assert!(all.login("rw").await.err().unwrap().to_string().contains("every user"));
        assert!(matches!(all.login("ro").await.err().unwrap(), CredentialError::Unknown(_)));
    }
}
