//! The process at the other end of a control connection, and what it may ask.
//!
//! | verb | root, `admins` | any other user | a process inside a job |
//! | --- | --- | --- | --- |
//! | `enroll` (itself) | yes | yes | once, if its job is unidentified |
//! | `enroll` (another process) | root: any; admin: its own user's | its own user's | never |
//! | `jobs`, `status`, `revoke`, `reload`, `rotate` | yes | never | never, root included |

use std::{
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
};

use tokio::net::UnixStream;

use super::request::Request;
use crate::jobs::user_of;

/// A process, held by a pidfd, so that reuse of its PID by another process is noticed.
pub struct Peer {
    /// Host PID.
    pub pid: u32,
    /// Effective user id in the host's user namespace; root's in the case that [`Self::at`] describes.
    pub uid: u32,
    pidfd: OwnedFd,
}

impl Peer {
    /// The process that opened the connection.
    pub fn of(stream: &UnixStream) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        let pid =
            credentials.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0).ok_or_else(
                || {
                    io::Error::other(
                        "the peer is in a PID namespace that the agent cannot see: connect from the host's",
                    )
                },
            )?;
        let pidfd = peer_pidfd(stream)?;
        let peer = Self { pid, uid: credentials.uid(), pidfd };
        if !peer.alive() {
            return Err(io::Error::other("the peer is gone"));
        }
        Ok(peer)
    }

    /// The process `pid`, held in the same way. If its real, effective and saved user ids differ, its `uid`
    /// is root's: as it may become another user, its own user alone must not enrol it.
    pub fn at(pid: u32) -> io::Result<Self> {
        let number = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
        let number = number.ok_or_else(|| io::Error::other("there is no such process"))?;
        let pidfd = rustix::process::pidfd_open(number, rustix::process::PidfdFlags::empty())?;
        let [real, effective, saved, _] = user_of(pid)?;
        let peer = Self { pid, uid: effective, pidfd };
        if !peer.alive() {
            return Err(io::Error::other("the process is gone"));
        }
        if real != effective || saved != effective {
            return Ok(Self { uid: 0, ..peer });
        }
        Ok(peer)
    }

    /// Whether the process still runs; while it does, its PID is its own.
    pub fn alive(&self) -> bool {
        let mut polled =
            [rustix::event::PollFd::from_borrowed_fd(self.pidfd.as_fd(), rustix::event::PollFlags::IN)];
        // A pidfd becomes readable when its process ends.
        let at_once = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(rustix::event::poll(&mut polled, Some(&at_once)), Ok(0))
    }
}

/// The pidfd of the process that called `connect`. Since Linux 6.5 the socket itself gives it. An older
/// kernel gives only the PID, which another process may have by now.
fn peer_pidfd(stream: &UnixStream) -> io::Result<OwnedFd> {
    const SO_PEERPIDFD: libc::c_int = 77;
    let mut fd: libc::c_int = -1;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    #[allow(unsafe_code, reason = "no safe wrapper has this socket option")]
    // SAFETY: the kernel writes one int, a fresh descriptor that nobody else owns.
    let pidfd = unsafe {
        let answer = libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PEERPIDFD,
            (&raw mut fd).cast(),
            &raw mut len,
        );
        (answer == 0 && fd >= 0).then(|| OwnedFd::from_raw_fd(fd))
    };
    if let Some(pidfd) = pidfd {
        return Ok(pidfd);
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() != Some(libc::ENOPROTOOPT) {
        return Err(error);
    }
    let pid = stream.peer_cred()?.pid().and_then(rustix::process::Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("the peer has no PID here"))?;
    Ok(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?)
}

/// The answer to a process inside a job, unless it may still enrol itself.
pub const FOLLOWED: &str = "a process inside a job may ask nothing of the agent: ask from outside the job";

/// Whether a peer is inside a job, by its kernel tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standpoint {
    /// Outside every job.
    Outside,
    /// In a job that a rule began and that has no credential yet.
    Unidentified,
    /// In any other job.
    Inside,
}

/// Why a process of user `uid` at standpoint `at` may not make a request; `None` if it may. Not checked here:
/// whether it may enrol the particular other process that an `enroll` names.
pub fn refusal(request: &Request, uid: u32, at: Standpoint, admins: &[u32]) -> Option<&'static str> {
    match request {
        Request::Enroll { pid: None, .. } if at == Standpoint::Unidentified => None,
        _ if at != Standpoint::Outside => Some(FOLLOWED),
        Request::Enroll { .. } => None,
        Request::Jobs | Request::Status | Request::Revoke { .. } | Request::Reload | Request::Rotate => (uid
            != 0
            && !admins.contains(&uid))
        .then_some(
            "only root and the configured admins may ask this: ask as root, or add your user id to admins",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests() -> [Request; 6] {
        [
            Request::Enroll { token: "t".into(), name: None, pid: None },
            Request::Jobs,
            Request::Status,
            Request::Revoke {
                selector: crate::jobs::Selector::Job("x".into()),
                reason: String::new(),
                kill: false,
            },
            Request::Reload,
            Request::Rotate,
        ]
    }

    #[test]
    fn a_process_inside_a_job_may_ask_nothing_root_included() {
        for request in requests() {
            assert!(refusal(&request, 0, Standpoint::Inside, &[1000]).is_some(), "{}", request.verb());
        }
    }

    #[test]
    fn a_process_of_an_unidentified_job_may_enrol_itself_and_nothing_else() {
        for request in requests() {
            let may = refusal(&request, 0, Standpoint::Unidentified, &[0]).is_none();
            assert_eq!(may, request.verb() == "enroll");
        }
        let other = Request::Enroll { token: "t".into(), name: None, pid: Some(7) };
        assert!(refusal(&other, 0, Standpoint::Unidentified, &[0]).is_some());
    }

    #[test]
    fn any_user_may_enrol_itself_and_nothing_else() {
        for request in requests() {
            assert_eq!(
                refusal(&request, 1000, Standpoint::Outside, &[]).is_none(),
                request.verb() == "enroll"
            );
        }
    }

    #[test]
    fn root_and_admins_may_ask_everything() {
        for request in requests() {
            assert!(refusal(&request, 0, Standpoint::Outside, &[]).is_none());
            assert!(refusal(&request, 7, Standpoint::Outside, &[7]).is_none());
        }
    }
}
