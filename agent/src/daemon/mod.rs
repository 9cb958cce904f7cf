//! The agent: puts every part together, serves, and stops everything in order.
//!
//! No process is followed before the trail is open and the policy bundle is read. At the end no new
//! connection is accepted, open sessions get `limits.drain_s` seconds and are then cut, and the lease is
//! given up last.

mod agent;
mod answers;
mod assemble;
mod detach;
mod enrol;
mod lease;
mod namespaces;
mod process;
mod serve;
mod sweep;
mod tasks;
mod totals;

use std::path::Path;

use anyhow::Context;
pub use detach::{Detached, detach};

use self::{assemble::assemble, serve::Serving};
use crate::{config::Config, logging};

/// Runs the agent until SIGTERM or SIGINT.
pub fn main(config_path: &Path) -> anyhow::Result<()> {
    process::bound_heaps();
    logging::start();
    let config = Config::read(config_path)?;
    process::raise_descriptors(&config);
    process::keep_memory_private()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("control")
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let mut serving = Serving::start(assemble(config).await?)?;
        serving.until_asked_to_stop().await;
        serving.stop().await
    })
}
