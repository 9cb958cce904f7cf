//! The lab's OpenID provider, as a child process of the test.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

/// A running provider. It ends when its standard input does: when this is dropped, or the test's process
/// ends.
pub(super) struct Provider {
    child: Child,
    pub(super) issuer: String,
    facts: Value,
    root: Option<reqwest::Certificate>,
}

impl Provider {
    /// Starts a provider, after installing its packages if that is needed.
    pub(super) fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new("node")
            .arg(install().join("provider.mjs"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("these tests need Node 18 or newer: install Debian's `nodejs` and `npm`");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let facts: Value = serde_json::from_str(&line).expect("the provider says where it listens");
        let issuer = facts["issuer"].as_str().unwrap().to_owned();
        Self { child, issuer, facts, root: None }
    }

    /// Starts a provider that speaks TLS with a certificate of a private authority, which is written to
    /// `folder` as `ca.pem`.
    pub(super) fn start_tls(folder: &Path) -> Self {
        let path = |name: &str| folder.join(name).display().to_string();
        let (ca, ca_key, certificate, key) =
            (path("ca.pem"), path("ca.key"), path("cert.pem"), path("key.pem"));
        let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        openssl(&[&new_key[..], &["-subj", "/CN=lab-ca", "-keyout", &ca_key, "-out", &ca]].concat());
        let leaf = ["-subj", "/CN=lab", "-addext", "subjectAltName=IP:127.0.0.1"];
        let no_ca = ["-addext", "basicConstraints=critical,CA:FALSE"];
        let signed = ["-CA", &ca, "-CAkey", &ca_key, "-keyout", &key, "-out", &certificate];
        openssl(&[&new_key[..], &leaf, &no_ca, &signed].concat());
        let mut provider = Self::start(&["--tls-key", &key, "--tls-cert", &certificate]);
        provider.root = Some(reqwest::Certificate::from_pem(&fs::read(ca).unwrap()).unwrap());
        provider
    }

    /// A token as the provider issues it to a client.
    pub(super) async fn token(&self, client: &str) -> String {
        let secret = self.facts["client_secret"].as_str().unwrap();
        let form = format!("grant_type=client_credentials&client_id={client}&client_secret={secret}");
        let answer = self.post("/token", "application/x-www-form-urlencoded", form).await;
        answer["access_token"].as_str().unwrap_or_else(|| panic!("no token: {answer}")).to_owned()
    }

    /// A token of any claims, header and key; `tests/lab/oidc/provider.mjs` says how to order it.
    pub(super) async fn mint(&self, order: Value) -> String {
        let answer = self.post("/lab/mint", "application/json", order.to_string()).await;
        answer["token"].as_str().unwrap_or_else(|| panic!("no token: {answer}")).to_owned()
    }

    /// Makes new keys; the old ones stay published if `keep`.
    pub(super) async fn rotate(&self, keep: bool) {
        self.post("/lab/rotate", "application/json", json!({"keep": keep}).to_string()).await;
    }

    /// The published keys.
    pub(super) async fn jwks(&self) -> String {
        self.client().get(format!("{}/jwks", self.issuer)).send().await.unwrap().text().await.unwrap()
    }

    /// A new client for each test: a pooled connection ends with the runtime of the test that opened it.
    fn client(&self) -> reqwest::Client {
        let builder = reqwest::Client::builder().no_proxy();
        self.root.iter().cloned().fold(builder, reqwest::ClientBuilder::add_root_certificate).build().unwrap()
    }

    async fn post(&self, path: &str, content_type: &str, body: String) -> Value {
        let request = self.client().post(format!("{}{path}", self.issuer));
        let answer = request.header("content-type", content_type).body(body).send().await.unwrap();
        serde_json::from_str(&answer.text().await.unwrap()).unwrap()
    }
}

fn openssl(arguments: &[&str]) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-days", "2"])
        .args(arguments)
        .output()
        .expect("these tests need OpenSSL's command: install Debian's `openssl`");
    assert!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
}

impl Drop for Provider {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The folder with the provider and its packages, in the build's target folder. Made if it is missing.
fn install() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/lab/oidc");
    // target/debug/deps/lineal-… → target
    let target = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned();
    let lab = target.join("lab-oidc");
    fs::create_dir_all(&lab).unwrap();
    // Test processes may run side by side; the lock ends with the file.
    let lock = File::create(lab.join(".lock")).unwrap();
    lock.lock().unwrap();
    let lockfile = fs::read(source.join("package-lock.json")).unwrap();
    let stamp = lab.join(".installed");
    let program = fs::read(source.join("provider.mjs")).unwrap();
    if fs::read(lab.join("provider.mjs")).ok().as_deref() != Some(program.as_slice()) {
        fs::write(lab.join("provider.mjs"), program).unwrap();
    }
    if fs::read(&stamp).ok().as_deref() != Some(lockfile.as_slice()) {
        for file in ["package.json", "package-lock.json"] {
            fs::copy(source.join(file), lab.join(file)).unwrap();
        }
        let installed = Command::new("npm")
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .current_dir(&lab)
            .stdin(Stdio::null())
            .output()
            .expect("these tests need npm: install Debian's `npm`");
        assert!(installed.status.success(), "npm ci: {}", String::from_utf8_lossy(&installed.stderr));
        fs::write(stamp, lockfile).unwrap();
    }
    lab
}
