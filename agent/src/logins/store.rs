//! All logins of the configuration, by name.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use super::{config::LoginConfig, error::LoginsError, file, helper::Helper, secret::Secret};
use crate::tls::Identity;

/// What to log in to a server with.
pub struct Login {
    /// The role; if none, the one that the job's client names.
    pub user: Option<Box<str>>,
    /// The password, if it has one.
    pub password: Option<Secret>,
    /// The client certificate, if it has one.
    pub identity: Option<Identity>,
}

/// All logins, and where each comes from.
pub struct Logins(HashMap<Box<str>, Entry>);

struct Entry {
    user: Option<Box<str>>,
    source: Option<Source>,
    identity: Option<Identity>,
}

/// Where a password comes from.
enum Source {
    File(PathBuf),
    /// The name of the credential in systemd's directory.
    Systemd(Box<str>),
    Helper(Helper),
}

impl Logins {
    /// The logins of the configuration. Reads no secret, and runs no helper.
    pub fn new(configs: &[LoginConfig]) -> Result<Self, LoginsError> {
        let mut all = HashMap::new();
        for config in configs {
            let refuse = |reason| LoginsError::Config { name: config.name.clone(), reason };
            let entry = Entry::new(config).map_err(refuse)?;
            if all.insert(config.name.clone(), entry).is_some() {
                return Err(refuse("is there twice: rename one of them"));
            }
        }
        Ok(Self(all))
    }

    /// Whether there is a login of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Fetches the login of this name. Reads the password from its file or systemd credential, or asks the
    /// helper, which runs its program unless the last password is still fresh. A role that the program prints
    /// takes precedence over the configuration's.
    pub async fn fetch(&self, name: &str) -> Result<Login, LoginsError> {
        let entry = self.0.get(name).ok_or_else(|| LoginsError::Unknown(name.into()))?;
        let (user, password) = match &entry.source {
            None => (None, None),
            Some(Source::File(path)) => (None, Some(file::read(path)?)),
            Some(Source::Systemd(name)) => {
                let directory = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or(LoginsError::NoDirectory)?;
                (None, Some(file::read(&Path::new(&directory).join(&**name))?))
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
    fn new(config: &LoginConfig) -> Result<Self, &'static str> {
        let LoginConfig { user, password_file, systemd_credential, helper, certificate, key, .. } = config;
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
            (Some(_), None, None) => return Err("has a password_file that is not an absolute path"),
            (None, Some(name), None)
                if !name.is_empty() && !name.contains(['/', '\0']) && !name.starts_with('.') =>
            {
                Some(Source::Systemd(name.clone()))
            }
            (None, Some(_), None) => return Err("has a systemd_credential that is not the name of one"),
            (None, None, Some(helper)) => {
                Some(Source::Helper(Helper::new(helper).ok_or("has a helper that is not an absolute path")?))
            }
            (None, None, None) => {
                return Err("needs a password_file, a systemd_credential, a helper or a certificate");
            }
            _ => return Err("has more than one of password_file, systemd_credential and helper: keep one"),
        };
        Ok(Self { user: user.clone(), source, identity })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use serde::Deserialize;

    use super::*;

    fn logins(text: &str) -> Result<Logins, String> {
        #[derive(Deserialize)]
        struct File {
            credential: Vec<LoginConfig>,
        }
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        Logins::new(&file.credential).map_err(|error| error.to_string())
    }

    #[test]
    fn an_unusable_credential_table_is_refused_with_the_reason() {
        let check = |more: &str, reason: &str| {
            let error = logins(&format!("[[credential]]\nname = \"rw\"\n{more}")).err().unwrap_or_default();
            assert!(error.contains(reason), "{more}: {error}");
        };
        check("", "needs a password_file");
        check("password_file = \"a\"", "absolute path");
        check("password_file = \"/a\"\nsystemd_credential = \"b\"", "more than one");
        check("systemd_credential = \"../b\"", "is not the name of one");
        check("helper = []", "absolute path");
        check("helper = [\"vault\"]", "absolute path");
        check("certificate = \"/a\"", "without a key");
        check("pasword_file = \"/a\"", "unknown field");
        check(
            "password_file = \"/a\"\n[[credential]]\nname = \"rw\"\npassword_file = \"/a\"",
            "is there twice",
        );
    }

    #[tokio::test]
    async fn a_password_file_is_read_anew_for_each_login() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        let put = |text: &str, mode: u32| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let text = format!("[[credential]]\nname = \"rw\"\nuser = \"app\"\npassword_file = {path:?}");
        let all = logins(&text).unwrap();
        for (text, expect) in [("one\n", "one"), ("two\r\n", "two"), ("three \n\n", "three \n")] {
            put(text, 0o600);
            let login = all.fetch("rw").await.unwrap();
            assert_eq!(login.user.as_deref(), Some("app"));
            assert_eq!(login.password.unwrap().reveal(), expect.as_bytes());
        }
        put("\n", 0o600);
        assert!(all.fetch("rw").await.err().unwrap().to_string().contains("it is empty"));
        put("four", 0o604);
        assert!(all.fetch("rw").await.err().unwrap().to_string().contains("every user"));
        assert!(matches!(all.fetch("ro").await.err().unwrap(), LoginsError::Unknown(_)));
    }
}
