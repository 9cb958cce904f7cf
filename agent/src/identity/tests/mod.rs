//! Identity, tested against a real OpenID provider and against stand-ins for broken and hostile ones.
//!
//! The provider is `tests/lab/oidc`, run by Node; without Node these tests fail.

mod config;
mod issuers;
mod provider;
mod server;
mod source;
mod tokens;

use std::sync::OnceLock;

use agent_core::identity::token::Token;
use provider::Provider;
use serde_json::{Value, json};

use super::{
    config::IssuerConfig,
    verify::{VerifiedToken, Verifier},
};

/// The time of every test that mints its own tokens.
const NOW: i64 = 1_750_000_000;

/// One provider, shared by the tests that do not rotate its keys.
fn provider() -> &'static Provider {
    static PROVIDER: OnceLock<Provider> = OnceLock::new();
    PROVIDER.get_or_init(|| Provider::start(&[]))
}

fn parse(toml: &str) -> Result<Vec<IssuerConfig>, toml::de::Error> {
    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Root {
        issuer: Vec<IssuerConfig>,
    }
    toml::from_str::<Root>(toml).map(|root| root.issuer)
}

fn lab_config(issuer: &str, more: &str) -> String {
    format!(
        "[[issuer]]\nname = \"lab\"\nurl = \"{issuer}\"\nrun_claims = [\"run_id\", \"run_attempt\"]\n{more}"
    )
}

/// A verifier that believes `issuer`; `more` is further configuration of it.
fn verifier(issuer: &str, more: &str) -> Verifier {
    Verifier::new(&parse(&lab_config(issuer, more)).unwrap()).unwrap()
}

/// A token's claims from `issuer`, valid from `NOW` for an hour, changed by `changes`; null removes.
fn claims(issuer: &str, changes: Value) -> Value {
    let mut claims = json!({"iss": issuer, "iat": NOW, "nbf": NOW, "exp": NOW + 3600, "run_id": "7"});
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

/// Verifies a token, and checks that a refusal shows nothing of it.
async fn verify(verifier: &Verifier, token: &str, now_unix: i64) -> Result<VerifiedToken, String> {
    let verified = verifier.verify(&Token::new(token.to_owned()), now_unix).await;
    verified.map_err(|error| {
        for shown in [error.to_string(), format!("{error:?}")] {
            for part in token.split('.').filter(|part| part.len() > 20) {
                assert!(!shown.contains(part.get(..20).unwrap_or(part)), "shows the token: {shown}");
            }
        }
        error.to_string()
    })
}

async fn check(verifier: &Verifier, token: &str, now_unix: i64, expect: Result<(), &str>) {
    let verified = verify(verifier, token, now_unix).await;
    assert_eq!(verified.map(|_| ()), expect.map_err(str::to_owned), "at {now_unix}");
}
