//! Carries out what is asked on the control socket. [`crate::control::server`] has checked by then that the
//! peer may ask it.

use std::sync::{Arc, atomic::Ordering};

use agent_core::{audit::record::AgentState, identity::token::Token};
use tokio::task::block_in_place;

use super::agent::Agent;
use crate::{
    bounds::Bound,
    control::{
        Request,
        answer::{Answer, JobCredential, LiveJob, Reloaded, Revoked, Rotated, Status},
        peer::{Peer, Standpoint},
        server::Handler,
    },
    jobs::{Job, Selector},
};

impl Handler for Agent {
    fn standpoint(&self, pid: u32) -> Standpoint {
        match self.kernel.tag_of(pid) {
            None => Standpoint::Outside,
            Some(tag) if self.registry.is_unidentified(tag.job) => Standpoint::Unidentified,
            Some(_) => Standpoint::Inside,
        }
    }

    fn admins(&self) -> &[u32] {
        &self.admins
    }

    fn on_full(&self) {
        self.metrics.bound(Bound::ControlConnections).inc();
    }

    async fn handle(&self, request: Request, peer: &Peer) -> Result<Vec<Answer>, String> {
        match request {
            Request::Enroll { token, name, pid } => {
                let enrolled = self.enrol(Token::new(token), name, pid, peer).await;
                let result = if enrolled.is_ok() { "enrolled" } else { "refused" };
                self.metrics.enrolments.with_label_values(&[result]).inc();
                if let Err(reason) = &enrolled {
                    tracing::warn!(pid = peer.pid, uid = peer.uid, reason, "an enrolment was refused");
                }
                enrolled.map(|enrolled| vec![Answer::Enrolled(enrolled)])
            }
            // These wait for locks and disks.
            Request::Jobs => Ok(block_in_place(|| self.jobs())),
            Request::Status => Ok(vec![Answer::Status(Box::new(block_in_place(|| self.status())))]),
            Request::Revoke { selector, reason, kill } => {
                block_in_place(|| self.revoke(selector, reason, kill, peer))
            }
            Request::Rotate => block_in_place(|| self.rotate(peer)).map(|done| vec![Answer::Rotated(done)]),
            Request::Reload => {
                let bundle = block_in_place(|| self.reload())?;
                Ok(vec![Answer::Reloaded(Reloaded { bundle })])
            }
        }
    }
}

impl Agent {
    fn jobs(&self) -> Vec<Answer> {
        let listed = |(job, processes): &(Arc<Job>, usize)| Answer::Job(live_job(job, *processes));
        self.registry.list().iter().map(listed).collect()
    }

    fn revoke(
        &self,
        selector: Selector,
        reason: String,
        kill: bool,
        peer: &Peer,
    ) -> Result<Vec<Answer>, String> {
        let ended =
            self.registry.revoke(selector, reason, kill, peer.uid).map_err(|error| self.refusal(&error))?;
        self.metrics.revocations.inc();
        Ok(ended.iter().map(|id| Answer::Revoked(Revoked { id: id.to_string() })).collect())
    }

    fn rotate(&self, peer: &Peer) -> Result<Rotated, String> {
        self.authority.rotate().map_err(|error| error.to_string())?;
        self.record(AgentState::Rotate, "the host's certificate authority was replaced")
            .map_err(|error| error.to_string())?;
        tracing::info!(uid = peer.uid, "the host's certificate authority was replaced");
        Ok(Rotated { authority: self.authority.trust().authority })
    }

    fn status(&self) -> Status {
        let (jobs, processes, places) = self.registry.sizes();
        let kernel = self.kernel.statistics();
        let audit = self.trail.metrics();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: self.host.clone(),
            uptime_s: self.started.elapsed().as_secs(),
            bundle: self.policy.current().version().to_owned(),
            bundle_error: self.policy.last_error(),
            revocations_error: self.list.as_ref().and_then(|list| list.last_error()),
            jobs,
            processes,
            places,
            sessions: self.proxy.sessions(),
            cgroup: self.kernel.cgroup().display().to_string(),
            metrics: self.metrics_address.clone(),
            events_lost: kernel.events_lost,
            redirected: kernel.redirected,
            audit_dir: self.trail.dir(),
            audit_records: audit.records.load(Ordering::Relaxed),
            audit_errors: audit.errors.load(Ordering::Relaxed),
            audit_error: self.trail.failure(),
        }
    }
}

/// A job as `lineal jobs` shows it.
fn live_job(job: &Job, processes: usize) -> LiveJob {
    LiveJob {
        id: job.id.to_string(),
        name: job.name.clone(),
        state: job.standing().word().to_owned(),
        credential: job.credential.as_ref().map(|credential| JobCredential {
            issuer: credential.issuer.clone(),
            subject: credential.subject.clone(),
            groups: credential.groups.clone(),
            claims: credential.claims.clone(),
        }),
        root_pid: job.root_pid,
        processes,
        flows: job.sessions.load(Ordering::Acquire),
    }
}
