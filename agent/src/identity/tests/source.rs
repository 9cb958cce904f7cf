//! Where a job's token is found, and what is said when there is none.

use std::{collections::BTreeMap, ffi::OsString, path::Path};

use super::{
    server::{Answer, Server},
    *,
};
use crate::identity::source::{Places, SECRET_VARIABLES, Source, find};

/// What a job has: the content of its files, and its environment.
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
async fn the_first_source_that_is_present_decides() {
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
async fn every_variable_removed_from_the_job_s_environment_can_hold_a_token() {
    for variable in SECRET_VARIABLES {
        assert!(Job::default().with(variable, "t").find().await.is_ok(), "{variable}");
    }
}

#[tokio::test]
async fn an_unusable_source_is_an_error_and_no_other_is_tried() {
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
async fn without_a_token_the_error_names_every_place_for_one() {
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
    server.answer(
        "/token?api-version=2.0&audience=lineal",
        Answer::IfAuthorized("Bearer runner-token", answer),
    );
    check_found(github(&format!("{}/token?api-version=2.0", server.url)), &token, Source::Github).await;
}

#[tokio::test]
async fn refusals_of_github_actions_are_explained() {
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
