//! The bundle that a policy command is about, read from a directory as the agent reads it.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use agent_policy::{Bundle, Source};
use clap::Args;

use super::super::outcome::{EXIT_NO, Outcome};
use crate::policy::read;

/// Which bundle.
#[derive(Args)]
pub struct BundleArgs {
    /// The policy directory, which holds `default/` and `hosts/`.
    #[arg(default_value = "/etc/lineal/policies", value_name = "DIR")]
    dir: PathBuf,
    /// The host whose additions count.
    #[arg(long, value_name = "NAME", default_value_t = own_hostname())]
    hostname: String,
}

/// A bundle with the files it was read from.
pub type Loaded = (Vec<Source>, Arc<Bundle>);

impl BundleArgs {
    /// Reads the bundle. The outer error says why the directory cannot be read, the inner one why the bundle
    /// is refused.
    pub fn load(&self) -> anyhow::Result<Result<Loaded, String>> {
        let dir = self.dir.display();
        anyhow::ensure!(
            self.dir.is_dir(),
            "there is no policy directory {dir}: name the one that holds default/ and hosts/"
        );
        let sources = read(&self.dir, &self.hostname)?;
        Ok(match Bundle::load(&sources) {
            Ok(bundle) => Ok((sources, Arc::new(bundle))),
            Err(refusal) => Err(refusal.to_string()),
        })
    }
}

/// Prints why a bundle is refused.
pub fn refuse(refusal: &str) -> Outcome {
    writeln!(io::stdout(), "{refusal}")?;
    Ok(ExitCode::from(EXIT_NO))
}

fn own_hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
