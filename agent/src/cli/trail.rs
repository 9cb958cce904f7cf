//! Finds the trail that a reading command is about: that of the agent that runs, unless the command line
//! names one.
//!
//! The order is `--dir`; `--config`; the agent at the control socket; where none tells, the default
//! configuration file, if there is one; the default directory. Nothing is printed on the way, unless an agent
//! was expected to tell where its trail is and did not: the reader must know that another trail may be meant.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use thiserror::Error;

use super::outcome::tell;
use crate::{
    audit::{AuditConfig, holds_a_trail},
    config::{self, Config, ConfigError},
    control::client::{ClientError, status_within},
};

/// How long the agent may take to tell. A stopped agent must not keep its trail from being read.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the command line names.
pub struct Named<'a> {
    /// `--dir`: the trail itself.
    pub dir: Option<&'a Path>,
    /// `--config`: an agent's configuration.
    pub config: Option<&'a Path>,
    /// `--control`, `LINEAL_CONTROL`, or the default socket.
    pub control: &'a Path,
}

/// Why no trail was found.
#[derive(Debug, Error)]
pub enum TrailError {
    /// A configuration cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// None of the places has one.
    #[error(
        "no audit trail was found: {}; name the trail's directory with --dir, or the agent's configuration \
         with --config",
        tried.join("; ")
    )]
    NotFound {
        /// The places, each with what is wrong with it.
        tried: Vec<String>,
    },
}

/// The directory of the trail to read.
pub fn find(named: &Named<'_>) -> Result<PathBuf, TrailError> {
    let defaults = Defaults {
        control: config::DEFAULT_CONTROL.into(),
        config: config::DEFAULT_PATH.into(),
        dir: AuditConfig::default().dir,
    };
    let ask = |socket: &Path| status_within(socket, PATIENCE).map(|status| status.audit_dir);
    let Located { dir, warning } = locate(named, &defaults, ask)?;
    if let Some(warning) = warning {
        tell(&warning);
    }
    Ok(dir)
}

/// Where a host's agent is expected when nothing is named.
struct Defaults {
    control: PathBuf,
    config: PathBuf,
    dir: PathBuf,
}

/// A trail's directory.
#[derive(Debug)]
struct Located {
    dir: PathBuf,
    /// Why this may be another trail than the one that is meant.
    warning: Option<String>,
}

/// The search itself. `ask` asks the agent at a socket for its trail's directory.
fn locate(
    named: &Named<'_>,
    defaults: &Defaults,
    ask: impl FnOnce(&Path) -> Result<Option<PathBuf>, ClientError>,
) -> Result<Located, TrailError> {
    if let Some(dir) = named.dir {
        return Ok(Located { dir: dir.to_owned(), warning: None });
    }
    if let Some(config) = named.config {
        return Ok(Located { dir: Config::read(config)?.audit.dir, warning: None });
    }
    let control = named.control.display();
    // An agent that does not run is nothing unusual, unless its socket was named.
    let (unusual, agent) = match ask(named.control) {
        Ok(Some(dir)) => return Ok(Located { dir, warning: None }),
        Ok(None) => (
            true,
            format!("the agent at {control} names no trail (auditing is off, or it is an older lineal)"),
        ),
        Err(ClientError::Unreachable { .. }) => {
            (named.control != defaults.control, format!("no agent answers at {control}"))
        }
        Err(error) => (true, format!("the agent at {control} does not tell where its trail is ({error})")),
    };
    let mut tried = vec![agent];
    let dir = if defaults.config.exists() {
        Config::read(&defaults.config)?.audit.dir
    } else {
        tried.push(format!("{} does not exist", defaults.config.display()));
        defaults.dir.clone()
    };
    match holds_a_trail(&dir) {
        Ok(true) => {
            let warning = unusual.then(|| format!("{}: reading {}", tried.join("; "), dir.display()));
            return Ok(Located { dir, warning });
        }
        Ok(false) => tried.push(format!("{} holds no trail", dir.display())),
        Err(error) => tried.push(format!("cannot list {}: {error}", dir.display())),
    }
    Err(TrailError::NotFound { tried })
}

#[cfg(test)]
mod tests {
    use std::{fs, io};

    use super::*;

    /// A host with directories that hold trails, and the configuration files that name them.
    struct Host {
        root: tempfile::TempDir,
        defaults: Defaults,
    }

    impl Host {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let path = |name: &str| root.path().join(name);
            let defaults =
                Defaults { control: path("control.sock"), config: path("agent.toml"), dir: path("default") };
            Self { defaults, root }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.root.path().join(name)
        }

        /// Makes a directory with a segment of a trail in it.
        fn trail(&self, name: &str) -> PathBuf {
            let dir = self.path(name);
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("audit-00000000000000000001.jsonl"), "").unwrap();
            dir
        }

        /// Writes a configuration that keeps its trail in `dir`.
        fn configure(&self, file: &str, dir: &Path) -> PathBuf {
            let path = self.path(file);
            fs::write(&path, format!("[audit]\ndir = {dir:?}\n")).unwrap();
            path
        }

        fn locate(
            &self,
            named: &Named<'_>,
            answer: Result<Option<PathBuf>, ClientError>,
        ) -> Result<Located, TrailError> {
            locate(named, &self.defaults, |socket| {
                assert_eq!(socket, named.control);
                answer
            })
        }

        /// Looks for the trail at the default socket, where the agent answers so.
        fn locate_by_default(
            &self,
            answer: Result<Option<PathBuf>, ClientError>,
        ) -> Result<Located, TrailError> {
            let control = self.defaults.control.clone();
            self.locate(&Named { dir: None, config: None, control: &control }, answer)
        }
    }

    fn nobody_listens() -> Result<Option<PathBuf>, ClientError> {
        let source = io::Error::from(io::ErrorKind::NotFound);
        Err(ClientError::Unreachable { path: "/x".into(), source })
    }

    fn refused() -> Result<Option<PathBuf>, ClientError> {
        Err(ClientError::Refused("only root may ask this".to_owned()))
    }

    #[test]
    fn a_named_directory_comes_before_a_named_configuration_and_nobody_is_asked() {
        let host = Host::new();
        let config = host.configure("other.toml", &host.path("configured"));
        let dir = host.path("named");
        let ask = |_: &Path| panic!("the agent is asked");
        let control = host.path("control.sock");
        let mut named = Named { dir: Some(&dir), config: Some(&config), control: &control };
        assert_eq!(locate(&named, &host.defaults, ask).unwrap().dir, dir);
        named.dir = None;
        assert_eq!(locate(&named, &host.defaults, ask).unwrap().dir, host.path("configured"));
    }

    #[test]
    fn a_named_configuration_that_cannot_be_read_is_an_error() {
        let host = Host::new();
        let config = host.path("absent.toml");
        host.trail("default");
        let named = Named { dir: None, config: Some(&config), control: &host.defaults.control };
        let error = host.locate(&named, nobody_listens()).unwrap_err().to_string();
        assert!(error.contains("absent.toml"), "{error}");
    }

    #[test]
    fn the_running_agent_comes_before_the_default_configuration() {
        let host = Host::new();
        host.configure("agent.toml", &host.trail("configured"));
        let told = host.path("told");
        let Located { dir, warning } = host.locate_by_default(Ok(Some(told.clone()))).unwrap();
        assert_eq!((dir, warning), (told, None));
    }

    #[test]
    fn without_an_agent_the_default_configuration_comes_before_the_default_directory() {
        let host = Host::new();
        let default = host.trail("default");
        let Located { dir, warning } = host.locate_by_default(nobody_listens()).unwrap();
        assert_eq!((dir, warning), (default, None));
        let configured = host.trail("configured");
        host.configure("agent.toml", &configured);
        let Located { dir, warning } = host.locate_by_default(nobody_listens()).unwrap();
        assert_eq!((dir, warning), (configured, None));
    }

    #[test]
    fn a_warning_tells_that_the_expected_agent_did_not_name_its_trail() {
        let host = Host::new();
        let default = host.trail("default");
        let elsewhere = host.path("elsewhere.sock");
        let named = Named { dir: None, config: None, control: &elsewhere };
        for (located, reason) in [
            (host.locate(&named, nobody_listens()), "no agent answers"),
            (host.locate_by_default(refused()), "only root may ask this"),
            (host.locate_by_default(Ok(None)), "names no trail"),
        ] {
            let Located { dir, warning } = located.unwrap();
            let warning = warning.unwrap();
            assert!(dir == default && warning.contains(reason), "{warning}");
            assert!(warning.ends_with(&format!("reading {}", default.display())), "{warning}");
        }
    }

    #[test]
    fn where_there_is_no_trail_the_error_names_what_was_tried_and_the_remedy() {
        let host = Host::new();
        fs::create_dir(host.path("default")).unwrap();
        let error = host.locate_by_default(refused()).unwrap_err().to_string();
        let [control, config, dir] = ["control.sock", "agent.toml", "default"].map(|name| host.path(name));
        let expect = format!(
            "no audit trail was found: the agent at {} does not tell where its trail is (only root may ask \
             this); {} does not exist; {} holds no trail; name the trail's directory with --dir, or the \
             agent's configuration with --config",
            control.display(),
            config.display(),
            dir.display()
        );
        assert_eq!(error, expect);
    }
}
