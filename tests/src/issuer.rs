//! The lab's OpenID provider, the certified `oidc-provider`, and the tokens it issues.

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::{
    cgroup::Cgroup,
    http, paths,
    server::{Server, Start},
};

/// How long the provider may take to listen: it generates RSA keys first.
const READY: Duration = Duration::from_secs(60);

/// A running provider.
pub struct Issuer {
    url: String,
    client_secret: String,
    _server: Server,
}

impl Issuer {
    /// Starts it on a port of the system's choice.
    pub fn start(cgroup: &Cgroup, logs: &Path) -> anyhow::Result<Self> {
        let installed = paths::lab_tools()?.join("oidc");
        ensure!(
            installed.join("node_modules").is_dir(),
            "the OpenID provider is not installed in {}: run `cargo xtask setup`",
            installed.display()
        );
        let mut command = Command::new("node");
        command.arg("provider.mjs").args(["--port", "0"]).current_dir(&installed);
        let mut server = Start { name: "oidc", cgroup, logs, talks: true }.run(&command)?;
        let line = server.line(READY)?;
        Ok(Self {
            url: member(&line, "issuer")?,
            client_secret: member(&line, "client_secret")?,
            _server: server,
        })
    }

    /// Its URL, as in its tokens' `iss`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A token as a CI system would get it for a job; `client` is one of those that `provider.mjs` lists.
    pub fn token(&self, client: &str) -> anyhow::Result<String> {
        let secret = &self.client_secret;
        let form = format!("grant_type=client_credentials&client_id={client}&client_secret={secret}");
        let answer = http::post(self.address(), "/token", "application/x-www-form-urlencoded", &form)?;
        member(&answer, "access_token")
    }

    /// A token with claims, header, algorithm or key of the test's choice, as no honest provider issues it:
    /// the head of `provider.mjs` describes the request.
    pub fn mint(&self, request: &Value) -> anyhow::Result<String> {
        member(&self.post("/lab/mint", request)?, "token")
    }

    /// Replaces the provider's keys; it no longer publishes the old ones.
    pub fn rotate(&self) -> anyhow::Result<()> {
        self.post("/lab/rotate", &json!({})).map(drop)
    }

    fn post(&self, path: &str, body: &Value) -> anyhow::Result<String> {
        http::post(self.address(), path, "application/json", &body.to_string())
    }

    fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }
}

fn member(answer: &str, name: &str) -> anyhow::Result<String> {
    let answer: Value = serde_json::from_str(answer).context("the provider's answer is not JSON")?;
    Ok(answer
        .get(name)
        .and_then(Value::as_str)
        .with_context(|| format!("the provider's answer has no {name}"))?
        .to_owned())
}
