//! The command line: reads the arguments, and has a command carried out by its own file.

mod arguments;
mod audit;
mod detach;
mod doctor;
mod enroll;
mod enrolment;
mod listing;
mod outcome;
mod policy;
mod revoke;
mod run;
mod trail;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use self::{
    arguments::Format,
    outcome::{EXIT_USAGE, Outcome, exit_code},
};
use crate::{config, daemon};

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
    #[arg(
        long = "control",
        global = true,
        env = "LINEAL_CONTROL",
        value_name = "PATH",
        default_value = config::DEFAULT_CONTROL
    )]
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
    /// Put a running process and all its descendants into a new job.
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
    /// Release every process and detach from the kernel, while the agent is stopped: nothing is redirected or
    /// refused any more. For root, when all else fails, and before lineal is removed.
    Detach(detach::DetachArgs),
    /// End access now: open sessions are cut, new ones and new jobs refused.
    Revoke(revoke::RevokeArgs),
}

/// The program.
pub fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => exit_code(carry_out(cli)),
        Err(error) => {
            let _ = error.print();
            if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS }
        }
    }
}

fn carry_out(cli: Cli) -> Outcome {
    let control = cli.control.path;
    match cli.command {
        Command::Agent { config } => daemon::main(&config).map(|()| ExitCode::SUCCESS),
        Command::Run(args) => run::run(&control, args),
        Command::Enroll(args) => enroll::enroll(&control, args),
        Command::Jobs(format) => listing::jobs(&control, &format),
        Command::Status(format) => listing::status(&control, &format),
        Command::Doctor(format) => doctor::doctor(&format),
        Command::Audit(args) => audit::run(&control, &args),
        Command::Policy(command) => policy::run(command),
        Command::RotateAuthority => listing::rotate_authority(&control),
        Command::Detach(args) => detach::detach(&args),
        Command::Revoke(args) => revoke::revoke(&control, args),
    }
}
