//! The command line: reads arguments, calls what they ask for, turns the answer into an exit code.

mod audit;
mod detach;
mod doctor;
mod enroll;
mod listing;
mod policy;
mod revoke;
mod run;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};

use crate::{config, daemon};

/// The answer is no: a policy test fails, the trail is broken.
const EXIT_NO: u8 = 1;
/// lineal's own failure.
const EXIT_FAILURE: u8 = 125;

/// Follows CI jobs through every process and decides what crosses their connections.
#[derive(Parser)]
#[command(name = "lineal", version, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    control: Control,
    #[command(subcommand)]
    command: Command,
}

/// Where the agent listens.
#[derive(Args)]
struct Control {
    /// The agent's control socket.
    #[arg(long = "control", global = true, env = "LINEAL_CONTROL", value_name = "PATH", default_value = config::DEFAULT_CONTROL)]
    path: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// Run the agent.
    Agent {
        /// Its configuration.
        #[arg(long, value_name = "FILE", default_value = config::DEFAULT_PATH)]
        config: PathBuf,
    },
    /// Start CMD as the root of a job, under the credential of a token.
    Run(run::RunArgs),
    /// List the jobs that are followed.
    Jobs(Format),
    /// Put a process that runs already, and all that descends from it, into a new job.
    Enroll(enroll::EnrollArgs),
    /// Show the agent's health.
    Status(Format),
    /// Try what this host's kernel can enforce.
    Doctor(Format),
    /// Read the audit trail.
    Audit(audit::AuditArgs),
    /// Check, test and explain policy bundles.
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Replace the certificate authority that this host's jobs trust; the last one stays trusted.
    RotateAuthority,
    /// Let go of every process and detach from the kernel, the agent being stopped: nothing is redirected or refused any
    /// more. For root, when all else fails, and before lineal is removed.
    Detach(detach::DetachArgs),
    /// End access now: open sessions are cut, new ones and new jobs refused.
    Revoke(revoke::RevokeArgs),
}

/// How a listing is printed.
#[derive(Args)]
struct Format {
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

/// A claim as the command line spells it: `NAME=VALUE`.
fn claim(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it must be NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// What a command comes to.
type Outcome = anyhow::Result<ExitCode>;

/// The program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    let control = cli.control.path;
    let outcome = match cli.command {
        Command::Agent { config } => daemon::main(&config).map(|()| ExitCode::SUCCESS),
        Command::Run(args) => run::run(&control, args),
        Command::Enroll(args) => enroll::enroll(&control, args),
        Command::Jobs(format) => listing::jobs(&control, &format),
        Command::Status(format) => listing::status(&control, &format),
        Command::Doctor(format) => doctor::doctor(&format),
        Command::Audit(args) => audit::run(&args),
        Command::Policy(command) => policy::run(command),
        Command::RotateAuthority => listing::rotate_authority(&control),
        Command::Detach(args) => detach::detach(&args),
        Command::Revoke(args) => revoke::revoke(&control, args),
    };
    match outcome {
        Ok(code) => code,
        // Whoever reads our output has seen enough: `lineal audit query | head`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "lineal: {}", one_line(&error));
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

/// An error with its causes, as one line.
fn one_line(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // Many errors name their cause themselves.
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}
