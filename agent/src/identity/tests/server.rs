//! An HTTP server in place of an issuer or a CI system. It gives the answers that a test sets, which an
//! honest one might never give, and counts the requests.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// The answer to requests for a path.
#[derive(Clone)]
pub(super) enum Answer {
    /// 200, with this JSON document.
    Json(String),
    /// These bytes: status line, header and body.
    Raw(String),
    /// 200, with the JSON document (second), for requests whose `Authorization` has this value (first); 401
    /// for all others.
    IfAuthorized(&'static str, String),
    /// No answer; the connection stays open for as long as the server runs.
    Silence,
}

/// The server; it ends with the test's runtime. Paths include the query.
pub(super) struct Server {
    /// Scheme, address and port.
    pub(super) url: String,
    /// The answer for each path; 404 for all others.
    answers: Arc<Mutex<BTreeMap<String, Answer>>>,
    /// The path of each request so far.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// A server on a free port, without any answers.
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (answers, asked) = (Arc::<Mutex<BTreeMap<_, _>>>::default(), Arc::<Mutex<Vec<_>>>::default());
        let server = Self { url, answers: Arc::clone(&answers), asked: Arc::clone(&asked) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&answers), Arc::clone(&asked)));
            }
        });
        server
    }

    /// A server that answers as an honest issuer does: with a discovery document, and with these keys at
    /// `/jwks`.
    pub(super) async fn issuer(jwks: String) -> Self {
        let server = Self::start().await;
        server.discovery(&server.url, &format!("{}/jwks", server.url));
        server.answer("/jwks", Answer::Json(jwks));
        server
    }

    /// Sets a discovery document like those of GitHub and Kubernetes, without an `authorization_endpoint`.
    pub(super) fn discovery(&self, issuer: &str, jwks_uri: &str) {
        let document = serde_json::json!({
            "issuer": issuer,
            "jwks_uri": jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        });
        self.answer("/.well-known/openid-configuration", Answer::Json(document.to_string()));
    }

    /// Sets the answer to requests for a path, in place of an earlier answer.
    pub(super) fn answer(&self, path: &str, answer: Answer) {
        self.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    /// How often a path was requested, whatever the answer.
    pub(super) fn asked(&self, path: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| *asked == path).count()
    }
}

/// Reads one request from the connection, notes its path, and answers.
async fn serve(
    mut stream: TcpStream,
    answers: Arc<Mutex<BTreeMap<String, Answer>>>,
    asked: Arc<Mutex<Vec<String>>>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let target = head.split(' ').nth(1).unwrap().to_owned();
    asked.lock().unwrap().push(target.clone());
    let answer = answers.lock().unwrap().get(&target).cloned();
    let answer = match answer {
        Some(Answer::Json(body)) => json(&body),
        Some(Answer::Raw(answer)) => answer,
        Some(Answer::IfAuthorized(authorization, body)) => {
            if head.lines().any(|line| line.eq_ignore_ascii_case(&format!("authorization: {authorization}")))
            {
                json(&body)
            } else {
                "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned()
            }
        }
        Some(Answer::Silence) => return std::future::pending().await,
        None => "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned(),
    };
    // The client may have closed the connection once it had read enough.
    let _ = stream.write_all(answer.as_bytes()).await;
}

/// A response with status 200 and this JSON document.
fn json(body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{body}"
    )
}
