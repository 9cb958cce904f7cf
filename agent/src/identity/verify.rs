//! From a token to a verified credential.
//!
//! `openidconnect`'s `IdTokenVerifier` checks the signature, the issuer, the audience, the expiry, `typ`,
//! `cty` and `crit`. It checks neither `nbf` nor an `iat` in the future: those are checked here, after it.
//! What is read of a token before it is verified serves to find its issuer and to explain a refusal, and
//! nothing else.

use std::{
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use agent_core::{
    credential::Credential,
    identity::{
        claims::{self, Reading},
        replay::{RunKey, Use},
        token::{TOKEN_BYTES_MAX, Token, TokenId},
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use openidconnect::{
    ClaimsVerificationError, ClientId, JsonWebTokenType, Nonce, SignatureVerificationError,
    core::{CoreIdToken, CoreIdTokenVerifier, CoreJsonWebKeySet, CoreJwsSigningAlgorithm},
};
use serde_json::{Map, Value};

use super::{
    config::IssuerConfig,
    config_error::ConfigError,
    error::{IdentityError, Shown},
    issuer::{Issuer, issuers},
    keys::KeyRing,
};

/// The signature algorithms that are accepted: those with a private key that only the issuer has. Never
/// `none`, and never `HS256`, whose key every verifier has too.
const ACCEPTED: [(&str, CoreJwsSigningAlgorithm); 9] = [
    ("RS256", CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256),
    ("RS384", CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384),
    ("RS512", CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512),
    ("PS256", CoreJwsSigningAlgorithm::RsaSsaPssSha256),
    ("PS384", CoreJwsSigningAlgorithm::RsaSsaPssSha384),
    ("PS512", CoreJwsSigningAlgorithm::RsaSsaPssSha512),
    ("ES256", CoreJwsSigningAlgorithm::EcdsaP256Sha256),
    ("ES384", CoreJwsSigningAlgorithm::EcdsaP384Sha384),
    ("EdDSA", CoreJwsSigningAlgorithm::EdDsa),
];
const ACCEPTED_NAMES: &str = "RS256/384/512, PS256/384/512, ES256/384 and EdDSA";

/// Verifies tokens of the configured issuers, and refuses all others.
pub(crate) struct Verifier {
    rings: Vec<Arc<KeyRing>>,
}

/// A token that was verified. [`UseTable::admit`] decides whether it may be used here and now.
///
/// [`UseTable::admit`]: agent_core::identity::replay::UseTable::admit
#[derive(Clone, Debug)]
pub(crate) struct VerifiedToken {
    /// Who the job acts for.
    pub(crate) credential: Credential,
    /// What the token is remembered by once it was used.
    pub(crate) token_id: TokenId,
    /// The CI run that it was issued to, if its issuer's tokens name one.
    pub(crate) run: Option<RunKey>,
    /// The UID of the Kubernetes pod that the token is bound to; `None` for a token that is bound to no pod.
    pub(crate) pod_uid: Option<String>,
    /// When it is refused from: its expiry plus the issuer's clock skew, in seconds since the Unix epoch.
    pub(crate) forget_unix: i64,
    /// The issuer's configured name.
    pub(crate) issuer_name: String,
}

impl VerifiedToken {
    /// The token as the table of uses sees it.
    pub(crate) fn as_use(&self) -> Use<'_> {
        Use {
            token: self.token_id,
            run: self.run.as_ref(),
            pod_uid: self.pod_uid.as_deref(),
            forget_unix: self.forget_unix,
        }
    }
}

impl Verifier {
    /// A verifier for the configured issuers. Fetches no keys yet.
    pub(crate) fn new(configs: &[IssuerConfig]) -> Result<Self, ConfigError> {
        let rings = issuers(configs)?.into_iter().map(|issuer| Arc::new(KeyRing::new(issuer))).collect();
        Ok(Self { rings })
    }

    /// Verifies `token` at `now_unix`. Fetches its issuer's keys if they are needed and it is not too early.
    pub(crate) async fn verify(&self, token: &Token, now_unix: i64) -> Result<VerifiedToken, IdentityError> {
        let presented = Presented::parse(token)?;
        let ring = self
            .rings
            .iter()
            .find(|ring| *ring.issuer().url == presented.issuer)
            .ok_or_else(|| IdentityError::UnknownIssuer { issuer: Shown::new(&presented.issuer) })?;
        let id_token = CoreIdToken::from_str(token.reveal()).map_err(|_| IdentityError::Malformed {
            what: "its header or claims are not those of an ID token",
        })?;
        check_with_keys(ring, &id_token, &presented, now_unix).await?;
        presented.check_start(ring.issuer(), now_unix)?;
        presented.into_verified(ring.issuer())
    }
}

/// Checks a token with the kept keys, and once more with newer ones if it names a key that is not among them.
async fn check_with_keys(
    ring: &Arc<KeyRing>,
    id_token: &CoreIdToken,
    presented: &Presented<'_>,
    now_unix: i64,
) -> Result<(), IdentityError> {
    let issuer = ring.issuer();
    let fresh = ring.fresh(now_unix);
    // If there are no keys yet, everything that needs none is checked first all the same: a token for another
    // audience is no reason to ask the issuer for keys.
    let keys = fresh.as_deref().cloned().unwrap_or_default();
    match check(id_token, issuer, keys, now_unix) {
        Err(ClaimsVerificationError::SignatureVerification(SignatureVerificationError::NoMatchingKey)) => {}
        checked => return checked.map_err(|error| presented.explain(error, issuer, 0, now_unix)),
    }
    let refreshed = ring
        .refresh(fresh, now_unix)
        .await
        .map_err(|reason| IdentityError::Keys { issuer: issuer.name.clone(), reason })?;
    check(id_token, issuer, (*refreshed.keys).clone(), now_unix)
        .map_err(|error| presented.explain(error, issuer, refreshed.asked_s, now_unix))
}

/// Checks all that `openidconnect` checks, with these keys.
fn check(
    id_token: &CoreIdToken,
    issuer: &Issuer,
    keys: CoreJsonWebKeySet,
    now_unix: i64,
) -> Result<(), ClaimsVerificationError> {
    // The clock skew is applied by reading an earlier clock: a token is expired once `now - skew >= exp`.
    let earlier = system_time(now_unix.saturating_sub(issuer.clock_skew_s));
    let verifier = CoreIdTokenVerifier::new_public_client(
        ClientId::new(issuer.audience.clone()),
        issuer.url.clone(),
        keys,
    )
    .set_allowed_algs(ACCEPTED.map(|(_, alg)| alg))
    // JWT alone: RFC 9068's `at+jwt` is an access token, which says what its bearer may do at an API, not who
    // the bearer is.
    .set_allowed_jose_types(JsonWebTokenType::new("JWT".to_owned()).normalize())
    .set_time_fn(move || earlier.into());
    // No nonce: there was no authentication request. Replays are found by `UseTable`.
    id_token.claims(&verifier, |_: Option<&Nonce>| Ok(())).map(|_| ())
}

fn system_time(unix: i64) -> SystemTime {
    // No token was issued before 1970: the epoch is early enough.
    SystemTime::UNIX_EPOCH + Duration::from_secs(unix.try_into().unwrap_or_default())
}

/// A token as it was presented: parsed, not verified.
struct Presented<'t> {
    signing_input: &'t str,
    issuer: String,
    subject: String,
    expires_unix: i64,
    issued_unix: i64,
    not_before_unix: Option<i64>,
    jti: Option<String>,
    alg: String,
    claims: Map<String, Value>,
}

impl<'t> Presented<'t> {
    /// Reads a token's header and claims, and refuses what can't be a signed token.
    fn parse(token: &'t Token) -> Result<Self, IdentityError> {
        let malformed = |what| IdentityError::Malformed { what };
        if token.is_empty() {
            return Err(IdentityError::Empty);
        }
        if token.bytes() > TOKEN_BYTES_MAX {
            return Err(IdentityError::TooLong { bytes: token.bytes() });
        }
        let text = token.reveal();
        let (signing_input, signature) =
            text.rsplit_once('.').ok_or(malformed("it is not three parts with dots between"))?;
        let (header, payload) =
            signing_input.split_once('.').ok_or(malformed("it is not three parts with dots between"))?;
        let header = object(header).ok_or(malformed("its header is not base64url of a JSON object"))?;
        let claims = object(payload).ok_or(malformed("its claims are not base64url of a JSON object"))?;
        let alg = text_of(&header, "alg").ok_or(malformed("its header has no `alg`"))?;
        if alg.eq_ignore_ascii_case("none") || signature.is_empty() {
            return Err(IdentityError::Unsigned);
        }
        if !ACCEPTED.iter().any(|(name, _)| *name == alg) {
            return Err(IdentityError::Algorithm { alg: Shown::new(&alg), accepted: ACCEPTED_NAMES });
        }
        let optional = |name: &str| claims.get(name).filter(|value| !value.is_null());
        Ok(Self {
            signing_input,
            issuer: text_of(&claims, "iss").ok_or(malformed("it has no issuer (`iss`)"))?,
            subject: text_of(&claims, "sub").ok_or(malformed("it has no subject (`sub`)"))?,
            expires_unix: claims.get("exp").and_then(seconds).ok_or(malformed("it has no expiry (`exp`)"))?,
            issued_unix: claims
                .get("iat")
                .and_then(seconds)
                .ok_or(malformed("it has no time of issue (`iat`)"))?,
            not_before_unix: optional("nbf")
                .map(|nbf| seconds(nbf).ok_or(malformed("its `nbf` is not a time")))
                .transpose()?,
            jti: optional("jti")
                .map(|_| text_of(&claims, "jti").ok_or(malformed("its `jti` is not text")))
                .transpose()?,
            alg,
            claims,
        })
    }

    /// The checks of `nbf` and `iat` that `openidconnect` lacks.
    fn check_start(&self, issuer: &Issuer, now_unix: i64) -> Result<(), IdentityError> {
        let latest = now_unix.saturating_add(issuer.clock_skew_s);
        // RFC 7519 section 4.1.5: the token "MUST NOT be accepted" before this time.
        if let Some(not_before_unix) = self.not_before_unix.filter(|&not_before| not_before > latest) {
            return Err(IdentityError::NotYetValid { in_s: not_before_unix.saturating_sub(now_unix) });
        }
        if self.issued_unix > latest {
            return Err(IdentityError::IssuedInFuture { in_s: self.issued_unix.saturating_sub(now_unix) });
        }
        Ok(())
    }

    /// What its claims mean, once they are verified.
    fn into_verified(self, issuer: &Issuer) -> Result<VerifiedToken, IdentityError> {
        let Reading { groups, claims, run, pod_uid } = claims::read(&self.claims, &issuer.rules)?;
        let token_id = match &self.jti {
            Some(jti) => TokenId::from_jti(&self.issuer, jti),
            None => TokenId::from_signing_input(&self.issuer, self.signing_input),
        };
        Ok(VerifiedToken {
            credential: Credential {
                issuer: self.issuer,
                subject: self.subject,
                groups,
                claims,
                expires_unix: self.expires_unix,
                acts_until_unix: self.expires_unix.saturating_add(issuer.outlive_s),
            },
            token_id,
            run,
            pod_uid,
            forget_unix: self.expires_unix.saturating_add(issuer.clock_skew_s),
            issuer_name: issuer.name.clone(),
        })
    }

    /// Says in our own words why `openidconnect` refused the token.
    fn explain(
        &self,
        error: ClaimsVerificationError,
        issuer: &Issuer,
        asked_s: i64,
        now_unix: i64,
    ) -> IdentityError {
        use ClaimsVerificationError as Claims;
        use SignatureVerificationError as Signature;
        let name = || issuer.name.clone();
        match error {
            Claims::Expired(_) => {
                IdentityError::Expired { ago_s: now_unix.saturating_sub(self.expires_unix) }
            }
            Claims::InvalidAudience(_) => IdentityError::Audience {
                found: Shown::new(&self.audience()),
                expected: issuer.audience.clone(),
            },
            Claims::InvalidIssuer(_) => IdentityError::UnknownIssuer { issuer: Shown::new(&self.issuer) },
            Claims::Unsupported(_) => IdentityError::Type,
            Claims::SignatureVerification(Signature::NoMatchingKey) => {
                IdentityError::UnknownKey { issuer: name(), asked_s }
            }
            Claims::SignatureVerification(Signature::NoSignature) => IdentityError::Unsigned,
            Claims::SignatureVerification(Signature::AmbiguousKeyId(_)) => {
                IdentityError::AmbiguousKey { issuer: name() }
            }
            Claims::SignatureVerification(Signature::DisallowedAlg(_) | Signature::UnsupportedAlg(_)) => {
                IdentityError::Algorithm { alg: Shown::new(&self.alg), accepted: ACCEPTED_NAMES }
            }
            Claims::SignatureVerification(_) => IdentityError::Signature { issuer: name() },
            // The enum may get new variants. Whatever they mean, the token was not verified.
            _ => IdentityError::Malformed { what: "its claims are not those of an ID token" },
        }
    }

    /// Its audience, for an error message.
    fn audience(&self) -> String {
        match self.claims.get("aud") {
            Some(Value::String(audience)) => audience.clone(),
            Some(Value::Array(audiences)) => {
                audiences.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
            }
            _ => "nobody".to_owned(),
        }
    }
}

/// The JSON object that a part of a token encodes.
fn object(base64url: &str) -> Option<Map<String, Value>> {
    let json = URL_SAFE_NO_PAD.decode(base64url).ok()?;
    serde_json::from_slice(&json).ok()
}

/// A member that is text and not empty.
fn text_of(members: &Map<String, Value>, name: &str) -> Option<String> {
    members.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// RFC 7519's NumericDate: seconds, perhaps with a fraction, which is dropped, as `openidconnect` does.
fn seconds(value: &Value) -> Option<i64> {
    // A float beyond `i64` becomes the largest or smallest `i64`, which is far enough away.
    value.as_i64().or_else(|| value.as_f64().filter(|seconds| seconds.is_finite()).map(|s| s.floor() as i64))
}
