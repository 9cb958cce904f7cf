//! HTTP requests to issuers: bounded in time and size, and only to the URL that was asked for.
//!
//! Redirects are never followed. Keys must come from where the configuration or the discovery document says;
//! a redirect would let whoever can make one choose the keys, or send the agent's request into its own
//! network.

use std::{future::Future, pin::Pin, time::Duration};

use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse, http};
use reqwest::{Certificate, Client, Url, redirect::Policy};

/// The largest answer, or file of keys or certificates, that is read.
pub(crate) const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("no answer within {timeout_s} s")]
    TimedOut { timeout_s: u64 },
    #[error("it can't be reached ({reason})")]
    Unreachable { reason: String },
    #[error("it answered with a redirect (status {status}), which is not followed; configure the final URL")]
    Redirect { status: u16 },
    #[error("it answered with status {status}")]
    Status { status: u16 },
    #[error("its answer has more than {BODY_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the request can't be made: {reason}")]
    Request { reason: String },
}

/// An HTTP client for one issuer.
#[derive(Clone)]
pub(crate) struct Fetcher {
    client: Client,
    timeout: Duration,
}

impl Fetcher {
    /// A client that trusts `roots`, or the public certificate authorities if there are none, and waits
    /// `timeout` at most for a whole answer.
    pub(crate) fn new(
        origin: &Url,
        timeout: Duration,
        roots: Vec<Certificate>,
    ) -> Result<Self, reqwest::Error> {
        let mut builder = Client::builder()
            .redirect(Policy::none())
            .timeout(timeout)
            // Requests are minutes apart: a kept connection would have been closed by then.
            .pool_max_idle_per_host(0)
            .referer(false)
            .user_agent(concat!("lineal/", env!("CARGO_PKG_VERSION")));
        if is_loopback_http(origin) {
            // The loopback address is meant to be this host's, not the proxy's.
            builder = builder.no_proxy();
        } else {
            builder = builder.https_only(true);
        }
        if !roots.is_empty() {
            // A private authority replaces the public ones.
            builder = builder.tls_built_in_root_certs(false);
        }
        for root in roots {
            builder = builder.add_root_certificate(root);
        }
        Ok(Self { client: builder.build()?, timeout })
    }

    /// Sends a request, and reads at most [`BODY_BYTES_MAX`] of its answer.
    pub(crate) async fn fetch(&self, request: HttpRequest) -> Result<HttpResponse, FetchError> {
        let request = request.try_into().map_err(|error| self.explain(error))?;
        let mut response = self.client.execute(request).await.map_err(|error| self.explain(error))?;
        let status = response.status();
        if status.is_redirection() {
            return Err(FetchError::Redirect { status: status.as_u16() });
        }
        if status != http::StatusCode::OK {
            return Err(FetchError::Status { status: status.as_u16() });
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.explain(error))? {
            if body.len() + chunk.len() > BODY_BYTES_MAX {
                return Err(FetchError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        let mut answer = http::Response::builder().status(status);
        if let Some(headers) = answer.headers_mut() {
            headers.extend(response.headers().clone());
        }
        answer.body(body).map_err(|error| FetchError::Request { reason: error.to_string() })
    }

    fn explain(&self, error: reqwest::Error) -> FetchError {
        if error.is_timeout() {
            return FetchError::TimedOut { timeout_s: self.timeout.as_secs() };
        }
        // The innermost cause says what happened ("Connection refused"). The error's own text repeats the
        // URL, whose query may hold a secret.
        let error = error.without_url();
        let mut cause: &dyn std::error::Error = &error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        let reason = cause.to_string();
        if error.is_builder() { FetchError::Request { reason } } else { FetchError::Unreachable { reason } }
    }
}

impl<'c> AsyncHttpClient<'c> for Fetcher {
    type Error = FetchError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, FetchError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.fetch(request))
    }
}

/// Whether this is `http` to a literal loopback address. `localhost` is not one: a name can be made to point
/// elsewhere (RFC 8252, section 8.3).
pub(crate) fn is_loopback_http(url: &Url) -> bool {
    let loopback = match url.host_str() {
        Some(host) => host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback()),
        None => false,
    };
    url.scheme() == "http" && loopback
}

/// Whether a URL may be used: `https`, or `http` that stays on this host.
pub(crate) fn is_secure(url: &Url) -> bool {
    url.scheme() == "https" || is_loopback_http(url)
}
