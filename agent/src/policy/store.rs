//! The bundle in force. A bundle that does not load leaves the last good one where it is: the agent never
//! decides by half a bundle, nor by none.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use agent_policy::{Bundle, BundleError};
use tokio::sync::watch;

use super::directory::{self, DirectoryError};

/// Why a bundle is not in force.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PolicyError {
    /// Its directory can't be read.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// It says something that can't be.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// It needs something that this host does not have.
    #[error("{0}")]
    Unusable(String),
}

/// Says what a bundle needs that this host does not have.
pub(crate) type Check = Box<dyn Fn(&Bundle) -> Result<(), String> + Send + Sync>;

/// What decides now, and what would not.
#[derive(Clone, Debug)]
pub(crate) struct InForce {
    /// The last good bundle.
    pub(crate) bundle: Arc<Bundle>,
    /// Why what the directory holds now is not in force, if it isn't.
    pub(crate) refused: Option<Arc<str>>,
}

/// The policy directory of one host, and the bundle read from it.
pub(crate) struct PolicyStore {
    dir: PathBuf,
    hostname: String,
    check: Check,
    state: watch::Sender<InForce>,
    /// Held from reading to publishing: of two reloads, the one that read last must publish last.
    reloading: Mutex<()>,
}

impl PolicyStore {
    /// Loads the bundle of `dir` for this host. Without a good bundle there is no store, and no agent.
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

    /// Why the directory's present content is not in force, if it isn't.
    pub(crate) fn last_error(&self) -> Option<String> {
        self.state.borrow().refused.as_deref().map(str::to_owned)
    }

    /// Tells of every change: of the bundle in force, and of a refusal. Sessions subscribe first and look at
    /// the bundle then, so that no change falls between.
    pub(crate) fn subscribe(&self) -> watch::Receiver<InForce> {
        self.state.subscribe()
    }

    /// Reads the directory again. True when another bundle is in force now; on an error the last good one is.
    ///
    /// Reads files: call it where blocking is allowed.
    pub(crate) fn reload(&self) -> Result<bool, PolicyError> {
        // A panic while holding it left nothing half done: what is published is published whole.
        let _reloading = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        match load(&self.dir, &self.hostname, &self.check) {
            Ok(bundle) => Ok(self.publish(bundle)),
            Err(error) => {
                let reason: Arc<str> = error.to_string().into();
                self.state.send_if_modified(|state| {
                    let news = state.refused.as_ref() != Some(&reason);
                    if news {
                        tracing::error!(
                            bundle = state.bundle.version(),
                            %reason,
                            "policies are refused; the last good ones stay in force"
                        );
                        state.refused = Some(reason);
                    }
                    news
                });
                Err(error)
            }
        }
    }

    fn publish(&self, bundle: Bundle) -> bool {
        let mut changed = false;
        self.state.send_if_modified(|state| {
            changed = state.bundle.version() != bundle.version();
            let mended = state.refused.take().is_some();
            if changed {
                let policies = bundle.policies().count();
                tracing::info!(bundle = bundle.version(), policies, "other policies are in force");
                state.bundle = Arc::new(bundle);
            }
            changed || mended
        });
        changed
    }

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
    fn there_is_no_store_without_a_good_bundle() {
        let dir = directory();
        fs::write(dir.path().join("default/a.cedar"), "permit;").unwrap();
        let told = open(dir.path()).map(drop).unwrap_err().to_string();
        assert!(told.contains("default/a.cedar:1: "), "{told}");
    }

    #[test]
    fn a_bad_bundle_leaves_the_last_good_one_in_force_and_is_told_once() {
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
    fn a_change_is_told_and_its_absence_is_not() {
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
