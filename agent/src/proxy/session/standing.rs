//! Whether a session's job may still act, and the signals that end a session.

use std::time::Duration;

use agent_core::standing::{Grounds, Standing};
use tokio::sync::watch;

use super::{
    Session,
    ended::{Ended, Refusal},
};
use crate::{clock::unix_now, proxy::Drain};

/// How often the clock is read at least while a job's time runs: somebody can set it.
const CLOCK_LOOK_S_MAX: u64 = 60;

impl Session {
    /// Why the job may begin nothing at this moment; `None` where it may. Every new session and every command
    /// asks.
    pub fn objection(&self) -> Option<Refusal> {
        objection(&self.grounds.borrow().at(unix_now()))
    }

    /// Why the session must be cut at this moment: its job's access was revoked. A job whose time is up keeps
    /// its sessions, and each of their commands is denied.
    pub fn revoked(&self) -> Option<Refusal> {
        self.objection().filter(|objection| objection.why == Ended::Revoked)
    }

    /// Waits until the job may begin nothing any more; returns how its sessions end then.
    pub async fn out_of_standing(mut grounds: watch::Receiver<Grounds>) -> Ended {
        loop {
            let (objection, until) = {
                let grounds = grounds.borrow_and_update();
                (objection(&grounds.at(unix_now())), grounds.acts_until_unix())
            };
            if let Some(objection) = objection {
                return objection.why;
            }
            let left = until.map_or(CLOCK_LOOK_S_MAX, |until| {
                until.saturating_sub(unix_now()).clamp(1, CLOCK_LOOK_S_MAX as i64) as u64
            });
            tokio::select! {
                () = changed(&mut grounds) => {}
                () = tokio::time::sleep(Duration::from_secs(left)) => {}
            }
        }
    }

    /// Waits until the agent ends every session.
    pub async fn stopped(mut drain: watch::Receiver<Drain>) {
        if drain.wait_for(|drain| *drain == Drain::All).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Waits for a change. One whose sender is gone never comes: a job outlives its sessions, and so does the
/// agent.
pub async fn changed<T>(watched: &mut watch::Receiver<T>) {
    if watched.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

pub fn objection(standing: &Standing) -> Option<Refusal> {
    let why = match standing {
        Standing::Unidentified | Standing::Valid | Standing::Expiring => return None,
        Standing::Expired => Ended::Expired,
        Standing::Revoked { .. } => Ended::Revoked,
    };
    Some(Refusal::new(why, standing.objection().unwrap_or_default()))
}
