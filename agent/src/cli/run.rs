//! `lineal run`: enrols this very process, then becomes CMD, so that exit status, standard streams and signals
//! are CMD's own. If it can't enrol, CMD is not started.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    io::{self, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use agent_core::identity::token::Token;
use clap::Args;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde_json::Value;

use super::Outcome;
use crate::{
    control::{Request, client::ask},
    identity::source,
};

/// CMD exists and can't be started, as `env` and `timeout` say it.
const EXIT_NOT_EXECUTABLE: u8 = 126;
/// CMD doesn't exist.
const EXIT_NOT_FOUND: u8 = 127;

/// What names a file of authorities that are trusted beside others, or for PostgreSQL alone.
const AUTHORITY_VARIABLES: [&str; 2] = ["PGSSLROOTCERT", "NODE_EXTRA_CA_CERTS"];
/// What names a file of all the authorities that are trusted: OpenSSL's, Go's and Rust's, curl's, Python's requests'.
const TRUST_VARIABLES: [&str; 3] = ["SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"];

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
    let enrolled =
        ask(control, &Request::Enroll { token: token.reveal().to_owned(), name: args.name, pid: None })?;
    drop(token);
    let Some((program, arguments)) = args.command.split_first() else {
        anyhow::bail!("no CMD");
    };
    let mut command = Command::new(program);
    command.args(arguments);
    for variable in source::SECRET_VARIABLES {
        command.env_remove(variable);
    }
    command.envs(trust(&enrolled, |name| std::env::var_os(name)));
    let error = command.exec();
    let _ = writeln!(io::stderr(), "lineal: cannot start {}: {error}", program.to_string_lossy());
    Ok(ExitCode::from(match error.kind() {
        io::ErrorKind::NotFound => EXIT_NOT_FOUND,
        _ => EXIT_NOT_EXECUTABLE,
    }))
}

/// What makes usual clients trust this host's authority, and libpq not bind its proof to a certificate that is not
/// the server's.
fn trust(
    enrolled: &[Value],
    set: impl Fn(&str) -> Option<OsString>,
) -> impl Iterator<Item = (&'static str, PathBuf)> {
    let path = |pointer: &str| {
        let found = enrolled.iter().find_map(|answer| answer.pointer(pointer).and_then(Value::as_str));
        found.map(PathBuf::from)
    };
    let (authority, all) = (path("/trust/authority"), path("/trust/all"));
    let binding = set("PGCHANNELBINDING").is_none().then(|| ("PGCHANNELBINDING", "disable".into()));
    let chosen = AUTHORITY_VARIABLES
        .map(|name| (name, vec![authority.clone(), all.clone()]))
        .into_iter()
        .chain(TRUST_VARIABLES.map(|name| (name, vec![all.clone()])))
        .filter_map(move |(name, files)| {
            let set = set(name);
            let fits = |file: &PathBuf| set.as_ref().is_none_or(|set| adds_nothing(Path::new(set), file));
            Some((name, files.into_iter().flatten().find(fits)?))
        });
    chosen.chain(binding)
}

/// Whether the authorities in one file are all in the other as well: who chose the first loses nothing by the second.
fn adds_nothing(chosen: &Path, other: &Path) -> bool {
    let authorities = |path: &Path| {
        let certificates = CertificateDer::pem_file_iter(path).ok()?;
        certificates.map(|der| Some(der.ok()?.to_vec())).collect::<Option<BTreeSet<_>>>()
    };
    authorities(chosen).zip(authorities(other)).is_some_and(|(chosen, other)| chosen.is_subset(&other))
}

/// Finds the token; asking the CI system for one is the only thing here that waits.
pub(super) fn token(file: Option<&Path>, audience: &str) -> anyhow::Result<Token> {
    let places = source::Places {
        token_file: file,
        variable: &|name| std::env::var_os(name),
        kubernetes_path: Path::new(source::KUBERNETES_TOKEN_PATH),
        audience,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(source::find(&places))?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_of_authorities_is_respected_unless_nothing_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str, certificates: &[&[u8]]| {
            let path = dir.path().join(name);
            let pem = certificates.iter().map(|der| {
                let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
                format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
            });
            std::fs::write(&path, pem.collect::<String>()).unwrap();
            path
        };
        let all = make("all", &[b"one", b"two", b"own"]);
        assert!(adds_nothing(&make("some", &[b"two"]), &all));
        assert!(!adds_nothing(&make("other", &[b"two", b"three"]), &all));
        assert!(!adds_nothing(&dir.path().join("absent"), &all));
        assert!(!adds_nothing(&all, &dir.path().join("absent")));
    }
}
