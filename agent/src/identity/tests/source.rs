//! Where a job's token is found, and what is said when it isn't.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use super::server::{Answer, Server};
use super::*;
use crate::identity::source::{Places, SECRET_VARIABLES, Source, find};

#[derive(Default)]
struct Job {
    token_file: Option<String>,
    variables: BTreeMap<&'static str, OsString>,
    kubernetes: Option<String>,
}

impl Job {
    fn with(mut self, variable: &'static str, value: &str) -> Self {
        self.variables.insert(variable, value.into());
        self
    }

    async fn find(&self) -> Result<(String, Source), String> {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &Option<String>| {
            let path = folder.path().join(name);
            if let Some(content) = content {
                std::fs::write(&path, content).unwrap();
            }
            path
        };
        let token_file = write("token", &self.token_file);
        let kubernetes_path = write("kubernetes", &self.kubernetes);
        let places = Places {
            token_file: self.token_file.as_ref().map(|_| token_file.as_path()),
            variable: &|name| self.variables.get(name).cloned(),
            kubernetes_path: &kubernetes_path,
            audience: "lineal",
        };
        let found = find(&places).await;
        let folder = folder.path().display().to_string();
        found
            .map(|(token, source)| (token.reveal().to_owned(), source))
            .map_err(|error| error.to_string().replace(&folder, ""))
    }
}

async fn check_found(job: Job, token: &str, source: Source) {
    assert_eq!(job.find().await, Ok((token.to_owned(), source)));
}

async fn check_missing(job: Job, expect: &str) {
    assert_eq!(job.find().await, Err(expect.to_owned()));
}

#[tokio::test]
async fn the_nearest_source_wins() {
    let everything = || Job {
        kubernetes: Some("from-kubernetes\n".to_owned()),
        ..Job::default().with("LINEAL_TOKEN", "from-variable").with("LINEAL_ID_TOKEN", "from-gitlab")
    };
    let with_file = Job { token_file: Some("from-file\n".to_owned()), ..everything() };
    check_found(with_file, "from-file", Source::File).await;
    check_found(everything(), "from-variable", Source::Variable).await;
    let mut job = everything();
    job.variables.remove("LINEAL_TOKEN");
    check_found(job, "from-gitlab", Source::Gitlab).await;
    check_found(
        Job { kubernetes: everything().kubernetes, ..Job::default() },
        "from-kubernetes",
        Source::Kubernetes,
    )
    .await;
}

#[tokio::test]
async fn the_variables_that_hold_a_token_are_the_ones_removed() {
    for variable in SECRET_VARIABLES {
        assert!(Job::default().with(variable, "t").find().await.is_ok(), "{variable}");
    }
}

#[tokio::test]
async fn a_source_that_is_there_but_broken_is_an_error() {
    let fallback = || Job { kubernetes: Some("t".to_owned()), ..Job::default() };
    check_missing(fallback().with("LINEAL_TOKEN", ""), "LINEAL_TOKEN is set but empty").await;
    check_missing(fallback().with("LINEAL_ID_TOKEN", " \n"), "LINEAL_ID_TOKEN is set but empty").await;
    let file = |content: &str| Job { token_file: Some(content.to_owned()), ..fallback() };
    check_missing(file("\n"), "the token file /token is empty").await;
    let large = "the token file /token has more than 16384 bytes, so it is not a token";
    check_missing(file(&"x".repeat(16 * 1024 + 1)), large).await;
    check_missing(file(&"x".repeat(1024 * 1024)), large).await;
    let gone = Places {
        token_file: Some(Path::new("/nonexistent/token")),
        variable: &|_| None,
        kubernetes_path: Path::new("/nonexistent"),
        audience: "lineal",
    };
    let refused = find(&gone).await.unwrap_err().to_string();
    assert_eq!(
        refused,
        "the token file /nonexistent/token can't be read: No such file or directory (os error 2)"
    );
}

#[tokio::test]
async fn nothing_anywhere_says_where_to_put_one() {
    let refused = Job::default().find().await.unwrap_err();
    for hint in [
        "--token-file",
        "LINEAL_TOKEN",
        "id-token: write",
        "LINEAL_ID_TOKEN",
        "/var/run/secrets/lineal/token",
    ] {
        assert!(refused.contains(hint), "{hint}: {refused}");
    }
}

fn github(url: &str) -> Job {
    Job::default()
        .with("GITHUB_ACTIONS", "true")
        .with("ACTIONS_ID_TOKEN_REQUEST_URL", url)
        .with("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "runner-token")
}

#[tokio::test]
async fn github_actions_is_asked_for_a_token_for_this_audience() {
    let server = Server::start().await;
    let token = provider().token("nightly").await;
    let answer = json!({"count": 1, "value": token}).to_string();
    server.answer("/token?api-version=2.0&audience=lineal", Answer::For("Bearer runner-token", answer));
    check_found(github(&format!("{}/token?api-version=2.0", server.url)), &token, Source::Github).await;
}

#[tokio::test]
async fn what_github_actions_refuses_is_said() {
    let permission =
        "this GitHub Actions job may not ask for a token; give it `permissions: id-token: write`";
    check_missing(Job::default().with("GITHUB_ACTIONS", "true"), permission).await;
    let mut job = github("https://runner.example");
    job.variables.remove("ACTIONS_ID_TOKEN_REQUEST_TOKEN");
    check_missing(job, permission).await;
    for url in ["http://runner.example", "nonsense"] {
        check_missing(github(url), "ACTIONS_ID_TOKEN_REQUEST_URL is not an https URL").await;
    }
    let server = Server::start().await;
    let url = format!("{}/token?a=b", server.url);
    check_missing(github(&url), "GitHub Actions gave no token: it answered with status 404").await;
    for answer in ["{}", "nonsense", r#"{"value": ""}"#] {
        server.answer("/token?a=b&audience=lineal", Answer::Json(answer.to_owned()));
        check_missing(github(&url), "GitHub Actions' answer holds no token").await;
    }
}
