//! What `lineal run` and `lineal enroll` share: the token is found, and the agent is asked to enrol under it.

use std::path::{Path, PathBuf};

use agent_core::identity::token::Token;
use clap::Args;

use crate::{
    control::{Request, answer::Enrolled, client::ask_one},
    identity::source,
};

/// As whom a job starts, and what it is called.
#[derive(Args)]
pub struct EnrolmentArgs {
    /// File that holds the token; LINEAL_TOKEN or the CI system's own source unless given.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The audience to ask the CI system for, where it issues tokens on request.
    #[arg(long, default_value = "lineal")]
    audience: String,
    /// The job's name in listings and in the trail.
    #[arg(long)]
    name: Option<String>,
}

impl EnrolmentArgs {
    /// Enrols this process, or the process `pid` with its descendants.
    pub fn enrol(self, control: &Path, pid: Option<u32>) -> anyhow::Result<Enrolled> {
        let token = find_token(self.token_file.as_deref(), &self.audience)?;
        let request = Request::Enroll { token: token.reveal().to_owned(), name: self.name, pid };
        Ok(ask_one(control, &request)?)
    }
}

/// Finds the token. Asking the CI system for one is the only thing in it that waits.
fn find_token(file: Option<&Path>, audience: &str) -> anyhow::Result<Token> {
    let places = source::Places {
        token_file: file,
        variable: &|name| std::env::var_os(name),
        kubernetes_path: Path::new(source::KUBERNETES_TOKEN_PATH),
        audience,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(source::find(&places))?.0)
}
