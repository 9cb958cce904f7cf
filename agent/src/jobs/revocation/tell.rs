//! Tells live jobs that their access has ended. It takes effect in each job at once and waits for no disk.

use std::{collections::HashMap, sync::Arc};

use super::{
    super::job::{Job, LiveJobs},
    selector::Selector,
};

/// A live job that a revocation matches, and that was told.
pub struct Notified {
    /// The job.
    pub job: Arc<Job>,
    /// Index of the revocation among those that were told.
    pub revocation: usize,
    /// Whether this revocation ended the job's access; false if it had ended before.
    pub newly_ended: bool,
}

/// Tells every live job that any of these revocations, each with its reason, matches.
pub fn tell<'a>(
    live: &LiveJobs,
    revocations: impl IntoIterator<Item = (&'a Selector, &'a str)>,
) -> Vec<Notified> {
    let revocations: Vec<(&Selector, &str)> = revocations.into_iter().collect();
    let mut by_selector: HashMap<&Selector, Vec<usize>> = HashMap::new();
    for (index, (selector, _)) in revocations.iter().enumerate() {
        by_selector.entry(selector).or_default().push(index);
    }
    let mut notified = Vec::new();
    for job in live.values() {
        for selector in Selector::matching(Some(job.id), job.credential.as_ref()) {
            for revocation in by_selector.get(&selector).into_iter().flatten().copied() {
                let reason = revocations.get(revocation).map_or("", |(_, reason)| reason);
                let newly_ended = job.end_access(reason);
                notified.push(Notified { job: Arc::clone(job), revocation, newly_ended });
            }
        }
    }
    notified
}
