//! An issuer's signing keys: fetched when they are first needed, kept for a while, and fetched again when a
//! token names an unknown one, but never more often than configured.
//!
//! Anybody can present tokens, so tokens must not be able to make the agent flood an issuer: whatever is
//! presented, an issuer is asked at most once in `keys_refetch_s`, by one task, and all others wait for that
//! one answer.

use std::sync::{Arc, PoisonError, RwLock};

use openidconnect::{
    DiscoveryError, HttpRequest, IssuerUrl, JsonWebKeySetUrl,
    core::CoreJsonWebKeySet,
    http::header::{ACCEPT, AUTHORIZATION, HeaderValue},
};
use serde::Deserialize;
use tokio::{io::AsyncReadExt, sync::Mutex};

use super::{
    error::{KeysError, Shown},
    fetch::{BODY_BYTES_MAX, FetchError, Fetcher, is_secure},
    issuer::{Issuer, KeySource},
};

/// How many keys an issuer may publish. The largest issuers publish about ten.
const KEYS_MAX: usize = 64;
/// How long keys are used beyond `keys_ttl_s` while the issuer does not answer: a short outage of an issuer
/// must not stop every job, and a long one must not keep a withdrawn key valid.
const KEYS_STALE_S: i64 = 3600;

/// One issuer's keys.
pub(crate) struct KeyRing {
    issuer: Issuer,
    held: RwLock<Option<Held>>,
    /// The last request. Locked during a request, so that one task asks and the others wait for its answer.
    asked: Mutex<Option<Asked>>,
}

/// The keys that were fetched last.
#[derive(Clone)]
struct Held {
    keys: Arc<CoreJsonWebKeySet>,
    fetched_unix: i64,
}

/// A request for keys, and why it failed if it did.
struct Asked {
    at_unix: i64,
    failure: Option<KeysError>,
}

/// Keys after a request for them, or after it was found too early for one.
pub(crate) struct Refreshed {
    pub(crate) keys: Arc<CoreJsonWebKeySet>,
    /// Seconds since the issuer was last asked.
    pub(crate) asked_s: i64,
}

impl KeyRing {
    pub(crate) fn new(issuer: Issuer) -> Self {
        Self { issuer, held: RwLock::new(None), asked: Mutex::new(None) }
    }

    pub(crate) fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// The kept keys, if they are recent enough to be used without asking.
    pub(crate) fn fresh(&self, now_unix: i64) -> Option<Arc<CoreJsonWebKeySet>> {
        let held = self.held()?;
        // A negative age means that the clock was set back: the true age is unknown, so ask.
        (0..self.issuer.keys_ttl_s).contains(&(now_unix - held.fetched_unix)).then_some(held.keys)
    }

    /// Newer keys than `seen`, if the issuer may be asked now and answers; else the kept ones, for as long as
    /// they may be used.
    pub(crate) async fn refresh(
        self: &Arc<Self>,
        seen: Option<Arc<CoreJsonWebKeySet>>,
        now_unix: i64,
    ) -> Result<Refreshed, KeysError> {
        let ring = Arc::clone(self);
        // In a task of its own: a caller that goes away must not abort the request that others wait for, and
        // so use up the only one allowed.
        let asking = tokio::spawn(async move { ring.refresh_alone(seen, now_unix).await });
        asking.await.map_err(|_| KeysError::Interrupted)?
    }

    async fn refresh_alone(
        &self,
        seen: Option<Arc<CoreJsonWebKeySet>>,
        now_unix: i64,
    ) -> Result<Refreshed, KeysError> {
        let mut asked = self.asked.lock().await;
        let refreshed = |keys, at_unix: i64| Ok(Refreshed { keys, asked_s: (now_unix - at_unix).max(0) });
        if let Some(asked) = asked.as_ref() {
            let newer =
                self.fresh(now_unix).filter(|keys| !seen.is_some_and(|seen| Arc::ptr_eq(&seen, keys)));
            if let Some(keys) = newer {
                return refreshed(keys, asked.at_unix);
            }
            if (0..self.issuer.keys_refetch_s).contains(&(now_unix - asked.at_unix)) {
                return match (self.usable(now_unix), &asked.failure) {
                    (Some(keys), _) => refreshed(keys, asked.at_unix),
                    (None, Some(failure)) => Err(failure.clone()),
                    (None, None) => Err(KeysError::Interrupted),
                };
            }
        }
        let asking = asked.insert(Asked { at_unix: now_unix, failure: None });
        match self.fetch().await {
            Ok(keys) => {
                let keys = Arc::new(keys);
                let held = Held { keys: Arc::clone(&keys), fetched_unix: now_unix };
                *self.held.write().unwrap_or_else(PoisonError::into_inner) = Some(held);
                refreshed(keys, now_unix)
            }
            Err(failure) => {
                tracing::warn!(issuer = self.issuer.name, %failure, "an issuer's keys are not available");
                asking.failure = Some(failure.clone());
                self.usable(now_unix).map_or(Err(failure), |keys| refreshed(keys, now_unix))
            }
        }
    }

    /// The kept keys, if they are at most [`KEYS_STALE_S`] past `keys_ttl_s`.
    fn usable(&self, now_unix: i64) -> Option<Arc<CoreJsonWebKeySet>> {
        let held = self.held()?;
        (now_unix - held.fetched_unix < self.issuer.keys_ttl_s + KEYS_STALE_S).then_some(held.keys)
    }

    fn held(&self) -> Option<Held> {
        // A panic can't happen during the assignment, so even a poisoned lock holds a complete value.
        self.held.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Fetches the keys from where the configuration says.
    async fn fetch(&self) -> Result<CoreJsonWebKeySet, KeysError> {
        let Issuer { url, key_source, fetcher, .. } = &self.issuer;
        let (keys, place) = match key_source {
            KeySource::Discovery => {
                let uri = discover(url, fetcher).await?;
                (fetch_keys(&uri, fetcher).await?, uri.to_string())
            }
            KeySource::Uri { uri, bearer_file: None } => (fetch_keys(uri, fetcher).await?, uri.to_string()),
            KeySource::Uri { uri, bearer_file: Some(path) } => {
                let bearer = read_file(path).await?;
                (fetch_keys_as(uri, bearer, fetcher).await?, uri.to_string())
            }
            KeySource::File(path) => {
                let place = path.display().to_string();
                let keys = serde_json::from_slice(&read_file(path).await?);
                (keys.map_err(|_| KeysError::KeySet { place: place.clone() })?, place)
            }
        };
        let count = keys.keys().len();
        if count == 0 || count > KEYS_MAX {
            return Err(KeysError::KeyCount { place, count, count_max: KEYS_MAX });
        }
        Ok(keys)
    }
}

/// What is needed of a discovery document. `openidconnect`'s own type also requires the endpoints of a log-in
/// page, which GitHub Actions and Kubernetes don't have.
#[derive(Deserialize)]
struct Discovery {
    issuer: IssuerUrl,
    jwks_uri: JsonWebKeySetUrl,
}

/// Fetches the discovery document; the URL of the keys that it names.
async fn discover(issuer: &IssuerUrl, fetcher: &Fetcher) -> Result<JsonWebKeySetUrl, KeysError> {
    // OpenID Connect Discovery 1.0, section 4: a slash at the end of the issuer is removed before this is
    // appended.
    let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let answer = fetcher.fetch(get(&url, None)?).await;
    let answer = answer.map_err(|error| KeysError::Fetch { url: url.clone(), error })?;
    let found: Discovery = serde_json::from_slice(answer.body()).map_err(|_| KeysError::Discovery { url })?;
    // Section 4.3: it "MUST be identical".
    if found.issuer != *issuer {
        return Err(KeysError::OtherIssuer {
            found: Shown::new(&found.issuer),
            expected: issuer.to_string(),
        });
    }
    if !is_secure(found.jwks_uri.url()) {
        return Err(KeysError::InsecureKeys { found: Shown::new(&found.jwks_uri) });
    }
    Ok(found.jwks_uri)
}

async fn fetch_keys(uri: &JsonWebKeySetUrl, fetcher: &Fetcher) -> Result<CoreJsonWebKeySet, KeysError> {
    CoreJsonWebKeySet::fetch_async(uri, fetcher).await.map_err(|error| match error {
        DiscoveryError::Request(error) => KeysError::Fetch { url: uri.to_string(), error },
        _ => KeysError::KeySet { place: uri.to_string() },
    })
}

/// Fetches keys from a server that requires the token `bearer`.
async fn fetch_keys_as(
    uri: &JsonWebKeySetUrl,
    bearer: Vec<u8>,
    fetcher: &Fetcher,
) -> Result<CoreJsonWebKeySet, KeysError> {
    let value = [b"Bearer ".as_slice(), bearer.trim_ascii()].concat();
    let answer = fetcher.fetch(get(uri, Some(value))?).await;
    let answer = answer.map_err(|error| KeysError::Fetch { url: uri.to_string(), error })?;
    serde_json::from_slice(answer.body()).map_err(|_| KeysError::KeySet { place: uri.to_string() })
}

fn get(url: &str, authorization: Option<Vec<u8>>) -> Result<HttpRequest, KeysError> {
    let wrong =
        |reason: String| KeysError::Fetch { url: url.to_owned(), error: FetchError::Request { reason } };
    let mut request = openidconnect::http::Request::get(url).header(ACCEPT, "application/json");
    if let Some(authorization) = authorization {
        let mut value = HeaderValue::try_from(authorization)
            .map_err(|_| wrong("the bearer file holds no token".to_owned()))?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    request.body(Vec::new()).map_err(|error| wrong(error.to_string()))
}

async fn read_file(path: &std::path::Path) -> Result<Vec<u8>, KeysError> {
    let wrong = |reason: String| KeysError::File { path: path.display().to_string(), reason };
    let file = tokio::fs::File::open(path).await.map_err(|error| wrong(error.to_string()))?;
    let mut content = Vec::new();
    let read = file.take(BODY_BYTES_MAX as u64 + 1).read_to_end(&mut content).await;
    read.map_err(|error| wrong(error.to_string()))?;
    if content.len() > BODY_BYTES_MAX {
        return Err(wrong(format!("it has more than {BODY_BYTES_MAX} bytes")));
    }
    Ok(content)
}
