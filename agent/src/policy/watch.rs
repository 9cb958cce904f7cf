//! Reloads the policies when their directory changes. The whole directory is read again at each change.

use std::{io, sync::Arc};

use super::store::PolicyStore;
use crate::changes::Changes;

impl PolicyStore {
    /// Reloads the policies now and at every change, until the future is dropped. If watching fails, logs
    /// that and returns.
    pub(crate) async fn watch(self: Arc<Self>) {
        if let Err(error) = self.follow().await {
            tracing::error!(%error, "the policy directory can't be watched; it is only read again on SIGHUP");
        }
    }

    async fn follow(self: Arc<Self>) -> io::Result<()> {
        let changes = Changes::new()?;
        loop {
            // The directories are watched before they are read, so that no change is missed: one that comes
            // too late for this reload ends the wait below. Each round adds directories that are new.
            changes.watch(&self.watched())?;
            let store = Arc::clone(&self);
            // An error is dropped here: the store has logged and kept it.
            tokio::task::spawn_blocking(move || drop(store.reload())).await?;
            changes.next().await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, time::Duration};

    use tokio::sync::watch::Receiver;

    use super::{super::store::InForce, *};

    /// Long enough for any machine; a test that waits so long has failed.
    const PATIENCE: Duration = Duration::from_secs(60);

    fn policy(name: &str) -> String {
        format!("@id(\"{name}\") permit(principal, action, resource);")
    }

    /// Makes a change to a watched directory, and waits until `expect` is true of the bundle in force.
    async fn check(change: impl FnOnce(&Path), expect: impl FnMut(&InForce) -> bool) {
        let outer = tempfile::tempdir().unwrap();
        let dir = outer.path().join("policies");
        fs::create_dir_all(dir.join("default")).unwrap();
        let store = Arc::new(PolicyStore::open(&dir, "ci-7", Box::new(|_| Ok(()))).unwrap());
        let mut state = store.subscribe();
        let watching = tokio::spawn(Arc::clone(&store).watch());
        // Once `a` is in force, the directory has been read at least once, and is watched: what changes now
        // must be noticed by the watch.
        fs::write(dir.join("default/a.cedar"), policy("a")).unwrap();
        wait_for(&mut state, holds(&["a"])).await;
        change(&dir);
        wait_for(&mut state, expect).await;
        watching.abort();
    }

    async fn wait_for(state: &mut Receiver<InForce>, expect: impl FnMut(&InForce) -> bool) {
        tokio::time::timeout(PATIENCE, state.wait_for(expect)).await.unwrap().unwrap();
    }

    fn holds(names: &[&str]) -> impl FnMut(&InForce) -> bool {
        move |state| state.bundle.policies().map(|policy| &*policy.name).eq(names.iter().copied())
    }

    #[tokio::test]
    async fn a_new_file_comes_into_force() {
        check(|dir| fs::write(dir.join("default/b.cedar"), policy("b")).unwrap(), holds(&["a", "b"])).await;
    }

    #[tokio::test]
    async fn a_removed_file_goes_out_of_force() {
        check(|dir| fs::remove_file(dir.join("default/a.cedar")).unwrap(), holds(&[])).await;
    }

    #[tokio::test]
    async fn a_new_host_directory_comes_into_force() {
        let change = |dir: &Path| {
            fs::create_dir_all(dir.join("hosts/ci-7/team")).unwrap();
            fs::write(dir.join("hosts/ci-7/team/b.cedar"), policy("b")).unwrap();
        };
        check(change, holds(&["a", "b"])).await;
    }

    #[tokio::test]
    async fn a_replaced_directory_comes_into_force() {
        let change = |dir: &Path| {
            let next = dir.with_file_name("next");
            fs::create_dir_all(next.join("default")).unwrap();
            fs::write(next.join("default/b.cedar"), policy("b")).unwrap();
            fs::rename(dir, dir.with_file_name("last")).unwrap();
            fs::rename(&next, dir).unwrap();
        };
        check(change, holds(&["b"])).await;
    }

    #[tokio::test]
    async fn a_broken_file_is_refused_and_the_last_good_policies_stay() {
        let refused = |state: &InForce| state.refused.is_some() && holds(&["a"])(state);
        check(|dir| fs::write(dir.join("default/b.cedar"), "permit").unwrap(), refused).await;
    }
}
