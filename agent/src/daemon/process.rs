//! What the agent sets about its own process: heaps, descriptors, and who may look into its memory.

use crate::config::Config;

/// Descriptors that no session holds: maps, programs, links, listeners, control connections.
const DESCRIPTORS_BESIDE: u64 = 1_024;

/// Makes all threads share two heaps. glibc otherwise makes eight for each processor, none of which uses
/// memory that is free in another, and reading policies frees much.
pub(super) fn bound_heaps() {
    #[cfg(target_env = "gnu")]
    #[allow(unsafe_code, reason = "no safe wrapper has this tunable")]
    // SAFETY: mallopt(3) takes integers; no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}

/// Raises the limit on open descriptors as far as it goes: each session takes two.
pub(super) fn raise_descriptors(config: &Config) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let wanted = 2 * config.limits.sessions_max as u64 + DESCRIPTORS_BESIDE;
    if let Some(most) = limit.maximum.filter(|most| *most < wanted) {
        tracing::warn!(
            most,
            wanted,
            "limits.sessions_max sessions need more descriptors than allowed: raise LimitNOFILE, or lower it"
        );
    }
}

/// Keeps the agent's memory out of core dumps and debuggers: credentials pass through it.
pub(super) fn keep_memory_private() -> anyhow::Result<()> {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}
