//! Enrolment by token: verifies it, then puts the asking process, or a tree of processes that runs already,
//! into a new job.

use std::sync::Arc;

use agent_core::identity::token::Token;
use tokio::task::block_in_place;

use super::agent::Agent;
use crate::{
    clock::unix_now,
    control::{
        answer::{Enrolled, TrustFiles},
        peer::{Peer, Standpoint},
        server::Handler,
    },
    identity::uses::enroller,
    jobs::{Completeness, Enrolment, Job, Tree},
    tls::Trust,
};

/// Processes that are put into a job under one lock of the registry.
const TAKEN_AT_ONCE: usize = 256;

impl Agent {
    /// Puts `asking`, or the process `pid` with all its descendants, into a job under the credential of
    /// `token`. The tag is written last, after the token is verified, its use is admitted, and the network
    /// namespace has listeners.
    pub(super) async fn enrol(
        &self,
        token: Token,
        name: Option<String>,
        pid: Option<u32>,
        asking: &Peer,
    ) -> Result<Enrolled, String> {
        let other = pid.map(|pid| other_process(pid, asking)).transpose()?;
        let tree = other.is_some();
        let peer = other.as_ref().unwrap_or(asking);
        let now_unix = unix_now();
        let verified = self.verifier.verify(&token, now_unix).await.map_err(|error| error.to_string())?;
        drop(token);
        self.uses
            .admit(&verified, &enroller(peer.pid, peer.uid), now_unix)
            .map_err(|error| self.refusal(&error))?;
        let netns = self.listeners.ensure(peer.pid).map_err(|error| self.refusal(&error))?;
        let subject = verified.credential.subject.clone();
        let enrolment =
            Enrolment { pid: peer.pid, uid: peer.uid, name, credential: verified.credential, netns };
        // Waits for the disk; for a tree also until it has stopped.
        let (job, processes) = block_in_place(|| {
            if tree {
                return self.enrol_tree(enrolment, peer);
            }
            let enrolled = self.registry.enrol(enrolment, || peer.alive());
            let job = enrolled.map_err(|error| self.refusal(&error))?;
            self.cover([peer.pid]);
            Ok((job, 1))
        })?;
        tracing::info!(
            job = %job.id,
            pid = peer.pid,
            subject,
            issuer = verified.issuer_name,
            "enrolled"
        );
        let Trust { authority, all } = self.authority.trust();
        Ok(Enrolled {
            id: job.id.to_string(),
            processes,
            trust: TrustFiles { authority, all },
            relays_logins_over_tls: self.policy.current().relays_logins_over_tls(),
        })
    }

    /// Enrols a running tree while it is stopped. Returns its job and how many processes it has.
    fn enrol_tree(&self, enrolment: Enrolment, root: &Peer) -> Result<(Arc<Job>, usize), String> {
        let followed = |pid| self.standpoint(pid) == Standpoint::Inside;
        let mut tree = Tree::hold(root.pid, Completeness::Required, self.kernel.processes_max(), followed)
            .map_err(|error| self.refusal(&error))?;
        // If a rule may have begun a job in this tree, its processes must not be untagged when the enrolment
        // fails.
        let bound = !self.rules.is_empty() || self.registry.knows_unidentified();
        let job = self.registry.enrol(enrolment, || root.alive()).map_err(|error| self.refusal(&error))?;
        // The tree stays stopped until all of it is in the job, or none of it.
        match self.take_in(&job, &mut tree, followed) {
            Ok(processes) => Ok((job, processes)),
            // The processes stay in the job, which is granted nothing from here on.
            Err(error) if bound => {
                let why = format!("it could not be enrolled whole: {error}");
                self.registry.shut_off(&job, &why);
                Err(why)
            }
            Err(error) => {
                self.registry.abandon(&job);
                Err(error)
            }
        }
    }

    /// Puts the rest of a tree into its root's job, until no further process is found. Returns how many
    /// processes the tree has.
    pub(super) fn take_in(
        &self,
        job: &Arc<Job>,
        tree: &mut Tree,
        followed: impl Fn(u32) -> bool,
    ) -> Result<usize, String> {
        let mut taken = 0;
        loop {
            let found = tree.members().get(taken..).unwrap_or_default();
            // In pieces, so that others get the registry's lock in between.
            for piece in found.chunks(TAKEN_AT_ONCE) {
                self.registry.take_in(job, piece).map_err(|error| self.refusal(&error))?;
                self.cover(piece.iter().map(|member| member.pid));
            }
            taken += found.len();
            if !tree.grow(&followed).map_err(|error| self.refusal(&error))? {
                return Ok(tree.len());
            }
        }
    }
}

/// The process `pid`, if `asking` may enrol it: its own user's process, or as root any.
fn other_process(pid: u32, asking: &Peer) -> Result<Peer, String> {
    let other = Peer::at(pid).map_err(|error| format!("process {pid}: {error}"))?;
    if asking.uid != 0 && asking.uid != other.uid {
        return Err(format!("process {pid} is another user's: enrol it as that user, or as root"));
    }
    Ok(other)
}
