//! The bundle in force. While the directory holds a bundle that can't be used, the last good one stays in
//! force: the agent never decides by a part of a bundle, or without one.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use agent_policy::{Bundle, BundleError};
use tokio::sync::watch;

use super::directory::{self, DirectoryError};

/// Why a bundle can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PolicyError {
    /// Its directory can't be read, or holds files that no bundle may have.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// Its content is not valid.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// It needs something that this host lacks.
    #[error("{0}")]
    Unusable(String),
}

/// Checks that this host has what a bundle needs; the error says what it lacks.
pub(crate) type Check = Box<dyn Fn(&Bundle) -> Result<(), String> + Send + Sync>;

/// The bundle in force, and whether the directory holds a newer one that was refused.
#[derive(Clone, Debug)]
pub(crate) struct InForce {
    /// The last good bundle.
    pub(crate) bundle: Arc<Bundle>,
    /// Why the directory's present content was refused, if it was.
    pub(crate) refused: Option<Arc<str>>,
}

/// The policy directory, and the bundle in force.
pub(crate) struct PolicyStore {
    dir: PathBuf,
    hostname: String,
    check: Check,
    state: watch::Sender<InForce>,
    /// Held from reading to publishing: of two concurrent reloads, the one that reads last must publish last.
    reloading: Mutex<()>,
}

impl PolicyStore {
    /// Loads the bundle in `dir` for the host `hostname`. Without a good bundle there is no store, and the
    /// agent does not start.
    pub(crate) fn open(dir: &Path, hostname: &str, check: Check) -> Result<Self, PolicyError> {
        let bundle = Arc::new(load(dir, hostname, &check)?);
        tracing::info!(
            bundle = bundle.version(),
            policies = bundle.policies().count(),
            "policies are in force"
        );
        let (state, _) = watch::channel(InForce { bundle, refused: None });
        Ok(Self {
            dir: dir.to_owned(),
            hostname: hostname.to_owned(),
            check,
            state,
            reloading: Mutex::new(()),
        })
    }

    /// The bundle in force.
    pub(crate) fn current(&self) -> Arc<Bundle> {
        Arc::clone(&self.state.borrow().bundle)
    }

    /// Why the directory's present content was refused, if it was.
    pub(crate) fn last_error(&self) -> Option<String> {
        self.state.borrow().refused.as_deref().map(str::to_owned)
    }

    /// Notifies of every change of the bundle in force, and of every refusal. Sessions subscribe before they
    /// look at the bundle, so that they miss no change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<InForce> {
        self.state.subscribe()
    }

    /// Reads the directory again. True if another bundle is in force now. On an error the last good one stays
    /// in force; the reason is logged and kept.
    ///
    /// Reads files: call it where blocking is allowed.
    pub(crate) fn reload(&self) -> Result<bool, PolicyError> {
        // A panic while it was held left nothing half done: a bundle is published as a whole.
        let _reloading = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        match load(&self.dir, &self.hostname, &self.check) {
            Ok(bundle) => Ok(self.publish(bundle)),
            Err(error) => {
                let reason: Arc<str> = error.to_string().into();
                self.state.send_if_modified(|state| {
                    let is_new = state.refused.as_ref() != Some(&reason);
                    if is_new {
                        tracing::error!(
                            bundle = state.bundle.version(),
                            %reason,
                            "policies are refused; the last good ones stay in force"
                        );
                        state.refused = Some(reason);
                    }
                    is_new
                });
                Err(error)
            }
        }
    }

    fn publish(&self, bundle: Bundle) -> bool {
        let mut changed = false;
        self.state.send_if_modified(|state| {
            changed = state.bundle.version() != bundle.version();
            let was_refused = state.refused.take().is_some();
            if changed {
                let policies = bundle.policies().count();
                tracing::info!(bundle = bundle.version(), policies, "other policies are in force");
                state.bundle = Arc::new(bundle);
            }
            changed || was_refused
        });
        changed
    }

    /// The directories whose changes can change the bundle.
    pub(super) fn watched(&self) -> Vec<PathBuf> {
        directory::watched(&self.dir, &self.hostname)
    }
}

fn load(dir: &Path, hostname: &str, check: &Check) -> Result<Bundle, PolicyError> {
    let bundle = Bundle::load(&directory::read(dir, hostname)?)?;
    check(&bundle).map_err(PolicyError::Unusable)?;
    Ok(bundle)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const GOOD: &str = "@id(\"a\") permit(principal, action, resource);";

    fn directory() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("default")).unwrap();
        fs::write(dir.path().join("default/a.cedar"), GOOD).unwrap();
        dir
    }

    fn open(dir: &Path) -> Result<PolicyStore, PolicyError> {
        PolicyStore::open(dir, "ci-7", Box::new(|_| Ok(())))
    }

    #[test]
    fn a_bundle_that_needs_what_the_host_lacks_is_refused() {
        let dir = directory();
        let check: Check = Box::new(|bundle| match bundle.policies().count() {
            1 => Ok(()),
            _ => Err("it needs more than there is".to_owned()),
        });
        let store = PolicyStore::open(dir.path(), "ci-7", check).unwrap();
        fs::write(dir.path().join("default/b.cedar"), GOOD.replace("\"a\"", "\"b\"")).unwrap();
        assert_eq!(store.reload().unwrap_err().to_string(), "it needs more than there is");
        assert_eq!(store.current().policies().count(), 1);
    }

    #[test]
    fn a_store_cannot_be_opened_without_a_good_bundle() {
        let dir = directory();
        fs::write(dir.path().join("default/a.cedar"), "permit;").unwrap();
        let error = open(dir.path()).map(drop).unwrap_err().to_string();
        assert!(error.contains("default/a.cedar:1: "), "{error}");
    }

    #[test]
    fn a_bad_bundle_leaves_the_last_good_one_in_force_and_is_announced_once() {
        let dir = directory();
        let store = open(dir.path()).unwrap();
        let version = store.current().version().to_owned();
        let mut changes = store.subscribe();

        fs::write(dir.path().join("default/b.cedar"), "\npermit(principal, action, resource);").unwrap();
        assert!(store.reload().unwrap_err().to_string().contains("b.cedar:2: the policy has no name"));
        assert_eq!(store.current().version(), version);
        assert!(store.last_error().unwrap().contains("b.cedar:2"));
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        assert!(store.reload().is_err());
        assert!(!changes.has_changed().unwrap());

        fs::remove_file(dir.path().join("default/b.cedar")).unwrap();
        assert!(!store.reload().unwrap());
        assert_eq!(store.last_error(), None);
        assert!(changes.has_changed().unwrap());
    }

    #[test]
    fn a_reload_is_announced_only_if_it_changed_something() {
        let dir = directory();
        let store = open(dir.path()).unwrap();
        let mut changes = store.subscribe();
        assert!(!store.reload().unwrap());
        assert!(!changes.has_changed().unwrap());
        let before = store.current();
        fs::create_dir_all(dir.path().join("hosts/ci-7")).unwrap();
        fs::write(dir.path().join("hosts/ci-7/b.cedar"), GOOD.replace("\"a\"", "\"b\"")).unwrap();
        assert!(store.reload().unwrap());
        assert_ne!(changes.borrow_and_update().bundle.version(), before.version());
        assert_eq!(store.current().policies().count(), 2);
    }
}
