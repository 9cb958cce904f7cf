//! `lineal run`: enrols this very process, then becomes CMD, so that exit status, standard streams and
//! signals are CMD's own. If the enrolment fails, CMD is not started.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use clap::Args;
use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::{
    enrolment::EnrolmentArgs,
    outcome::{Outcome, tell},
};
use crate::{control::answer::TrustFiles, identity::source};

/// CMD exists and cannot be started; the code that `env` and `timeout` use.
const EXIT_NOT_EXECUTABLE: u8 = 126;
/// CMD does not exist; the code that `env` and `timeout` use.
const EXIT_NOT_FOUND: u8 = 127;

/// Variables that name a file of authorities that are trusted beside others, or for PostgreSQL alone.
const AUTHORITY_VARIABLES: [&str; 2] = ["PGSSLROOTCERT", "NODE_EXTRA_CA_CERTS"];
/// Variables that name a file of all trusted authorities: of OpenSSL, Go and Rust; of curl; of Python's
/// requests.
const TRUST_VARIABLES: [&str; 3] = ["SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"];

/// Keeps libpq from binding its login to the agent's certificate, which the server does not know. It is set
/// only where a login is relayed so: Go's lib/pq connects nowhere with this variable, as it knows no binding.
const BINDING_VARIABLE: &str = "PGCHANNELBINDING";

/// What to run, and as whom.
#[derive(Args)]
pub struct RunArgs {
    #[command(flatten)]
    enrolment: EnrolmentArgs,
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// `lineal run`.
pub fn run(control: &Path, args: RunArgs) -> Outcome {
    let Some((program, arguments)) = args.command.split_first() else {
        anyhow::bail!("no CMD: name the program to run after `--`");
    };
    let enrolled = args.enrolment.enrol(control, None)?;
    let mut command = Command::new(program);
    command.args(arguments);
    for variable in source::SECRET_VARIABLES {
        command.env_remove(variable);
    }
    command.envs(trust_variables(enrolled.trust, |name| std::env::var_os(name)));
    if enrolled.relays_logins_over_tls && std::env::var_os(BINDING_VARIABLE).is_none() {
        command.env(BINDING_VARIABLE, "disable");
    }
    let error = command.exec();
    tell(&format!("cannot start {}: {error}", program.to_string_lossy()));
    Ok(ExitCode::from(match error.kind() {
        io::ErrorKind::NotFound => EXIT_NOT_FOUND,
        _ => EXIT_NOT_EXECUTABLE,
    }))
}

/// The variables that make usual clients trust this host's authority. A variable that is `set` keeps its
/// value, unless ours trusts everything that it does.
fn trust_variables(
    TrustFiles { authority, all }: TrustFiles,
    set: impl Fn(&str) -> Option<OsString>,
) -> impl Iterator<Item = (&'static str, PathBuf)> {
    AUTHORITY_VARIABLES
        .map(|name| (name, vec![authority.clone(), all.clone()]))
        .into_iter()
        .chain(TRUST_VARIABLES.map(|name| (name, vec![all.clone()])))
        .filter_map(move |(name, files)| {
            let set = set(name);
            let fits = |file: &PathBuf| set.as_ref().is_none_or(|set| is_covered(Path::new(set), file));
            Some((name, files.into_iter().find(fits)?))
        })
}

/// Whether all authorities in the chosen file are in the other as well, so that nothing is lost by taking the
/// other.
fn is_covered(chosen: &Path, other: &Path) -> bool {
    let authorities = |path: &Path| {
        let certificates = CertificateDer::pem_file_iter(path).ok()?;
        certificates.map(|der| Some(der.ok()?.to_vec())).collect::<Option<BTreeSet<_>>>()
    };
    authorities(chosen).zip(authorities(other)).is_some_and(|(chosen, other)| chosen.is_subset(&other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chosen_file_of_authorities_is_replaced_only_by_one_that_holds_them_all() {
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
        assert!(is_covered(&make("some", &[b"two"]), &all));
        assert!(!is_covered(&make("other", &[b"two", b"three"]), &all));
        assert!(!is_covered(&dir.path().join("absent"), &all));
        assert!(!is_covered(&all, &dir.path().join("absent")));
    }
}
