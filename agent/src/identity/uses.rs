//! The tokens used on this host, kept in a file: a token's second use is judged by its first, also after a
//! restart.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use agent_core::identity::replay::{Admitted, Enroller, Refusal, USES_MAX, UnknownVersion, UseTable};

use super::verify::VerifiedToken;
use crate::{
    bounds::{Bound, Bounded},
    files,
};

/// Why a token may not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UseError {
    /// The rule for replays refuses it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The use can't be stored, so the token is not accepted.
    #[error("the token is refused, because its use cannot be stored in {path}: {reason}")]
    Unstored { path: PathBuf, reason: String },
    /// The stored table can't be read. Without it, used tokens would be accepted again.
    #[error(
        "the table of used tokens in {path} cannot be read: {reason}; restore it: without it, used tokens \
         would be accepted again"
    )]
    Unreadable { path: PathBuf, reason: String },
    /// It was stored by another version of lineal.
    #[error(transparent)]
    Version(#[from] UnknownVersion),
}

impl Bounded for UseError {
    fn bound(&self) -> Option<Bound> {
        matches!(self, Self::Refused(Refusal::Full { .. })).then_some(Bound::UsedTokens)
    }
}

/// The table of used tokens, and its file.
pub(crate) struct UseStore {
    path: PathBuf,
    table: Mutex<UseTable>,
}

impl UseStore {
    /// Reads `used-tokens.json` in the state directory, if it exists.
    pub(crate) fn open(state_dir: &Path) -> Result<Self, UseError> {
        let path = state_dir.join("used-tokens.json");
        let unreadable = |reason: String| UseError::Unreadable { path: path.clone(), reason };
        let table = match fs::read(&path) {
            Ok(bytes) => {
                let saved = serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))?;
                UseTable::restore(saved, USES_MAX)?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => UseTable::new(USES_MAX),
            Err(error) => return Err(unreadable(error.to_string())),
        };
        Ok(Self { path, table: Mutex::new(table) })
    }

    /// Admits a token for an enroller, or says why not. A first use is on disk when this returns.
    pub(crate) fn admit(
        &self,
        token: &VerifiedToken,
        enroller: &Enroller,
        now_unix: i64,
    ) -> Result<(), UseError> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        match table.admit(token.as_use(), enroller, now_unix)? {
            Admitted::First => self
                .store(&table)
                .map_err(|error| UseError::Unstored { path: self.path.clone(), reason: error.to_string() }),
            Admitted::Again => Ok(()),
        }
    }

    fn store(&self, table: &UseTable) -> std::io::Result<()> {
        files::replace(&self.path, &serde_json::to_vec(&table.save())?, 0o600)
    }
}

/// The context in which a process uses a token, as the kernel shows it.
pub(crate) fn enroller(pid: u32, uid: u32) -> Enroller {
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    Enroller { uid, pod_uid: pod_of(&cgroup) }
}

/// The UID of the Kubernetes pod in a cgroup path. The kubelet names a pod's cgroup `…pod<uid>`; the systemd
/// driver writes `_` for `-`.
fn pod_of(cgroup: &str) -> Option<String> {
    cgroup.split(['/', '\n']).rev().find_map(|component| {
        let (_, uid) = component.trim_end_matches(".slice").rsplit_once("pod")?;
        let uid = uid.replace('_', "-");
        let hex = uid.chars().filter(|character| character.is_ascii_hexdigit()).count();
        (uid.len() == 36 && hex == 32).then_some(uid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_s_uid_is_found_under_both_cgroup_drivers() {
        let uid = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";
        let systemd = "0::/kubepods.slice/kubepods-burstable.slice/\
                       kubepods-burstable-pod0f1e2d3c_4b5a_6978_8796_a5b4c3d2e1f0.slice/\
                       cri-containerd-aa.scope";
        assert_eq!(pod_of(systemd).as_deref(), Some(uid));
        assert_eq!(pod_of(&format!("0::/kubepods/burstable/pod{uid}/abc")).as_deref(), Some(uid));
        assert_eq!(pod_of("0::/user.slice/podman-1.scope"), None);
    }
}
