//! Where `lineal run` finds the job's token: in a file, in the environment, or at the CI system.
//!
//! This runs as the job's own user, on the job's side of the control socket: the daemon verifies what it
//! finds. The first source that is present decides. If it is unusable, that is an error and no other is
//! tried: otherwise a misspelt path would enrol a job under another identity.

use std::{
    ffi::OsString,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use agent_core::identity::token::{TOKEN_BYTES_MAX, Token};
use openidconnect::http::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use reqwest::Url;
use serde::Deserialize;

use super::fetch::{FetchError, Fetcher, is_secure};

/// The variable that holds the token itself.
pub(crate) const TOKEN_VARIABLE: &str = "LINEAL_TOKEN";
/// The variable to name under `id_tokens:` in `.gitlab-ci.yml`.
pub(crate) const GITLAB_VARIABLE: &str = "LINEAL_ID_TOKEN";
/// The variables that GitHub's runner sets in a job with the permission `id-token: write`.
const GITHUB_URL_VARIABLE: &str = "ACTIONS_ID_TOKEN_REQUEST_URL";
const GITHUB_TOKEN_VARIABLE: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";
/// The variable that it sets in every job.
const GITHUB_VARIABLE: &str = "GITHUB_ACTIONS";
/// Where a pod mounts its projected service account token for lineal.
pub(crate) const KUBERNETES_TOKEN_PATH: &str = "/var/run/secrets/lineal/token";

/// The variables to remove from the environment of the job's command. Those with which a GitHub job requests
/// tokens stay: they are the job's own, and its steps need them to log in elsewhere.
pub(crate) const SECRET_VARIABLES: [&str; 2] = [TOKEN_VARIABLE, GITLAB_VARIABLE];

/// How long GitHub may take to answer.
const GITHUB_TIMEOUT: Duration = Duration::from_secs(5);

/// Where to look.
pub(crate) struct Places<'a> {
    /// `--token-file`.
    pub(crate) token_file: Option<&'a Path>,
    /// Looks a variable up in the environment.
    pub(crate) variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// [`KUBERNETES_TOKEN_PATH`].
    pub(crate) kubernetes_path: &'a Path,
    /// The audience to request, where the token is requested and not found.
    pub(crate) audience: &'a str,
}

/// Where a token was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// `--token-file`.
    File,
    /// `LINEAL_TOKEN`.
    Variable,
    /// GitLab's `id_tokens`.
    Gitlab,
    /// Requested from GitHub Actions.
    Github,
    /// A projected service account token in a pod.
    Kubernetes,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error(
        "no token: give --token-file or {TOKEN_VARIABLE}, or run in GitHub Actions with `permissions: \
         id-token: write`, in GitLab CI with `id_tokens: {GITLAB_VARIABLE}:`, or in a pod with a token at \
         {KUBERNETES_TOKEN_PATH}"
    )]
    Nowhere,
    #[error("{variable} is set but empty")]
    EmptyVariable { variable: &'static str },
    #[error("{variable} is not text")]
    NotText { variable: &'static str },
    #[error("the token file {path} can't be read: {reason}")]
    File { path: PathBuf, reason: String },
    #[error("the token file {path} is empty")]
    EmptyFile { path: PathBuf },
    #[error("the token file {path} has more than {TOKEN_BYTES_MAX} bytes, so it is not a token")]
    LargeFile { path: PathBuf },
    #[error("this GitHub Actions job may not ask for a token; give it `permissions: id-token: write`")]
    GithubPermission,
    #[error("{GITHUB_URL_VARIABLE} is not an https URL")]
    GithubUrl,
    #[error("GitHub Actions gave no token: {0}")]
    Github(FetchError),
    #[error("GitHub Actions' answer holds no token")]
    GithubAnswer,
    #[error("no HTTP client can be made: {0}")]
    Client(#[source] reqwest::Error),
}

/// Finds the job's token, and says where.
pub(crate) async fn find(places: &Places<'_>) -> Result<(Token, Source), SourceError> {
    if let Some(path) = places.token_file {
        return Ok((read(path)?, Source::File));
    }
    for (variable, source) in [(TOKEN_VARIABLE, Source::Variable), (GITLAB_VARIABLE, Source::Gitlab)] {
        if let Some(token) = from_variable(places, variable)? {
            return Ok((Token::new(token), source));
        }
    }
    let url = from_variable(places, GITHUB_URL_VARIABLE)?;
    let bearer = from_variable(places, GITHUB_TOKEN_VARIABLE)?;
    match (url, bearer) {
        (Some(url), Some(bearer)) => {
            return Ok((ask_github(&url, &Token::new(bearer), places.audience).await?, Source::Github));
        }
        (None, None) if (places.variable)(GITHUB_VARIABLE).is_none() => {}
        _ => return Err(SourceError::GithubPermission),
    }
    if places.kubernetes_path.exists() {
        return Ok((read(places.kubernetes_path)?, Source::Kubernetes));
    }
    Err(SourceError::Nowhere)
}

fn from_variable(places: &Places<'_>, variable: &'static str) -> Result<Option<String>, SourceError> {
    let Some(value) = (places.variable)(variable) else { return Ok(None) };
    let value = value.into_string().map_err(|_| SourceError::NotText { variable })?;
    if value.trim().is_empty() { Err(SourceError::EmptyVariable { variable }) } else { Ok(Some(value)) }
}

fn read(path: &Path) -> Result<Token, SourceError> {
    let path = path.to_owned();
    let mut content = String::new();
    // A little more than the longest token: white space around it is dropped.
    let read = File::open(&path)
        .and_then(|file| file.take(TOKEN_BYTES_MAX as u64 + 64).read_to_string(&mut content));
    let token = Token::new(content);
    match read {
        Err(error) => Err(SourceError::File { path, reason: error.to_string() }),
        Ok(_) if token.is_empty() => Err(SourceError::EmptyFile { path }),
        Ok(_) if token.bytes() > TOKEN_BYTES_MAX => Err(SourceError::LargeFile { path }),
        Ok(_) => Ok(token),
    }
}

#[derive(Deserialize)]
struct GithubAnswer {
    value: String,
}

/// Requests a token from GitHub at `url`, with the bearer token that the runner gave the job.
async fn ask_github(url: &str, bearer: &Token, audience: &str) -> Result<Token, SourceError> {
    let mut url = Url::parse(url).ok().filter(is_secure).ok_or(SourceError::GithubUrl)?;
    url.query_pairs_mut().append_pair("audience", audience);
    let request = |reason: String| SourceError::Github(FetchError::Request { reason });
    let mut authorization = HeaderValue::try_from(format!("Bearer {}", bearer.reveal()))
        .map_err(|_| request(format!("{GITHUB_TOKEN_VARIABLE} is no token")))?;
    authorization.set_sensitive(true);
    let asked = openidconnect::http::Request::get(url.as_str())
        .header(ACCEPT, "application/json")
        .header(AUTHORIZATION, authorization)
        .body(Vec::new())
        .map_err(|error| request(error.to_string()))?;
    let fetcher = Fetcher::new(&url, GITHUB_TIMEOUT, Vec::new()).map_err(SourceError::Client)?;
    let answer = fetcher.fetch(asked).await.map_err(SourceError::Github)?;
    let GithubAnswer { value } =
        serde_json::from_slice(answer.body()).map_err(|_| SourceError::GithubAnswer)?;
    let token = Token::new(value);
    if token.is_empty() || token.bytes() > TOKEN_BYTES_MAX {
        Err(SourceError::GithubAnswer)
    } else {
        Ok(token)
    }
}
