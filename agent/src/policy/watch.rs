//! Reloading when the directory changes: what is in force afterwards is what the whole directory then says.

use std::io;
use std::sync::Arc;

use super::store::PolicyStore;
use crate::changes::Changes;

impl PolicyStore {
    /// Reloads on every change, for as long as it is polled.
    pub(crate) async fn watch(self: Arc<Self>) {
        if let Err(error) = self.follow().await {
            tracing::error!(%error, "the policy directory can't be watched; it is read again on SIGHUP alone");
        }
    }

    async fn follow(self: Arc<Self>) -> io::Result<()> {
        let changes = Changes::new()?;
        loop {
            // Watched before it is read: what changes in between wakes the next round. Directories that came
            // since are watched from here on, and were read by this round or wake the next.
            changes.watch(&self.watched())?;
            let store = Arc::clone(&self);
            // The store tells and keeps the reason itself.
            tokio::task::spawn_blocking(move || drop(store.reload())).await?;
            changes.next().await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::Duration;

    use tokio::sync::watch::Receiver;

    use super::super::store::InForce;
    use super::*;

    /// Long enough for any machine; a test that waits so long has failed.
    const PATIENCE: Duration = Duration::from_secs(60);

    fn policy(name: &str) -> String {
        format!("@id(\"{name}\") permit(principal, action, resource);")
    }

    /// Runs `change` on a watched directory and waits until what is in force is as `expect` says.
    async fn check(change: impl FnOnce(&Path), expect: impl FnMut(&InForce) -> bool) {
        let outer = tempfile::tempdir().unwrap();
        let dir = outer.path().join("policies");
        fs::create_dir_all(dir.join("default")).unwrap();
        let store = Arc::new(PolicyStore::open(&dir, "ci-7", Box::new(|_| Ok(()))).unwrap());
        let mut state = store.subscribe();
        let watching = tokio::spawn(Arc::clone(&store).watch());
        // Seen by the watch's first reading: whatever comes after it is seen by its events alone.
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
    async fn a_new_file_is_in_force() {
        check(|dir| fs::write(dir.join("default/b.cedar"), policy("b")).unwrap(), holds(&["a", "b"])).await;
    }

    #[tokio::test]
    async fn a_removed_file_is_not() {
        check(|dir| fs::remove_file(dir.join("default/a.cedar")).unwrap(), holds(&[])).await;
    }

    #[tokio::test]
    async fn a_host_directory_that_comes_later_is_in_force() {
        let change = |dir: &Path| {
            fs::create_dir_all(dir.join("hosts/ci-7/team")).unwrap();
            fs::write(dir.join("hosts/ci-7/team/b.cedar"), policy("b")).unwrap();
        };
        check(change, holds(&["a", "b"])).await;
    }

    #[tokio::test]
    async fn a_directory_swapped_whole_is_in_force() {
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
    async fn a_broken_file_is_told_and_mended() {
        let outer = |state: &InForce| state.refused.is_some() && holds(&["a"])(state);
        check(|dir| fs::write(dir.join("default/b.cedar"), "permit").unwrap(), outer).await;
    }
}
