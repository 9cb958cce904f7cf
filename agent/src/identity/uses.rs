//! Tokens that were used, kept over restarts: a token's second use is judged by its first, whoever was
//! running then.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use agent_core::identity::replay::{Admitted, Enroller, Refusal, UnknownVersion, UseTable};

use super::verify::VerifiedToken;
use crate::{
    bounds::{Bound, Bounded},
    files,
};

/// Unexpired tokens that are remembered.
const USES_MAX: usize = 65_536;

/// Why a token may not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UseError {
    /// The rule says so.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The use can't be kept, so it doesn't happen.
    #[error("the token's use cannot be stored in {path}: {reason}")]
    Unstored { path: PathBuf, reason: String },
    /// The stored table can't be read: tokens used before would be let in again.
    #[error("the used tokens in {path} cannot be read: {reason}")]
    Unreadable { path: PathBuf, reason: String },
    /// It was stored by another version.
    #[error(transparent)]
    Version(#[from] UnknownVersion),
}

impl Bounded for UseError {
    fn bound(&self) -> Option<Bound> {
        matches!(self, Self::Refused(Refusal::Full { .. })).then_some(Bound::UsedTokens)
    }
}

/// The stored table.
pub(crate) struct UseStore {
    path: PathBuf,
    table: Mutex<UseTable>,
}

impl UseStore {
    /// Opens `used-tokens.json` in the state directory.
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

    /// Lets a token in for an enroller or says why not; a first use is on disk when this returns.
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

/// The context that a token is used in, as the kernel shows it.
pub(crate) fn enroller(pid: u32, uid: u32) -> Enroller {
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    Enroller { uid, pod_uid: pod_of(&cgroup) }
}

/// The UID of the Kubernetes pod in a cgroup path: the kubelet names pods `…pod<uid>`, with `_` for `-` under
/// systemd.
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
    fn a_pods_uid_is_found_under_both_cgroup_drivers() {
        let uid = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";
        let systemd = "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0f1e2d3c_4b5a_6978_8796_a5b4c3d2e1f0.slice/cri-containerd-aa.scope";
        assert_eq!(pod_of(systemd).as_deref(), Some(uid));
        assert_eq!(pod_of(&format!("0::/kubepods/burstable/pod{uid}/abc")).as_deref(), Some(uid));
        assert_eq!(pod_of("0::/user.slice/podman-1.scope"), None);
    }
}
