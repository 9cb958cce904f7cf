//! `lineal run`: enrols this very process, then becomes CMD, so that exit status, standard streams and signals
//! are CMD's own. If it can't enrol, CMD is not started.

use std::{
    ffi::OsString,
    io::{self, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use agent_core::identity::token::Token;
use clap::Args;

use super::Outcome;
use crate::{
    control::{Request, client::ask},
    identity::source,
};

/// CMD exists and can't be started, as `env` and `timeout` say it.
const EXIT_NOT_EXECUTABLE: u8 = 126;
/// CMD doesn't exist.
const EXIT_NOT_FOUND: u8 = 127;

/// What to run, and as whom.
#[derive(Args)]
pub struct RunArgs {
    /// File that holds the token; LINEAL_TOKEN or the CI system's own source unless given.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The audience to ask the CI system for, where it issues tokens on request.
    #[arg(long, default_value = "lineal")]
    audience: String,
    /// The job's name in listings and in the trail.
    #[arg(long)]
    name: Option<String>,
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// `lineal run`.
pub fn run(control: &Path, args: RunArgs) -> Outcome {
    let token = token(args.token_file.as_deref(), &args.audience)?;
    ask(control, &Request::Enroll { token: token.reveal().to_owned(), name: args.name })?;
    drop(token);
    let Some((program, arguments)) = args.command.split_first() else {
        anyhow::bail!("no CMD");
    };
    let mut command = Command::new(program);
    command.args(arguments);
    for variable in source::SECRET_VARIABLES {
        command.env_remove(variable);
    }
    let error = command.exec();
    let _ = writeln!(io::stderr(), "lineal: cannot start {}: {error}", program.to_string_lossy());
    Ok(ExitCode::from(match error.kind() {
        io::ErrorKind::NotFound => EXIT_NOT_FOUND,
        _ => EXIT_NOT_EXECUTABLE,
    }))
}

/// Finds the token; asking the CI system for one is the only thing here that waits.
fn token(file: Option<&Path>, audience: &str) -> anyhow::Result<Token> {
    let places = source::Places {
        token_file: file,
        variable: &|name| std::env::var_os(name),
        kubernetes_path: Path::new(source::KUBERNETES_TOKEN_PATH),
        audience,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(source::find(&places))?.0)
}
