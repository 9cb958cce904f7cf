//! Why the configured issuers can't be used. No message shows a URL that may hold a password.

use agent_core::identity::claims::GroupRuleError;

/// How many issuers a host may believe.
pub(super) const ISSUERS_MAX: usize = 16;

/// Why the configured issuers can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("no [[issuer]] is configured, so no job could ever be enrolled; add one")]
    None,
    #[error("{count} issuers are configured, at most {ISSUERS_MAX} are allowed")]
    TooMany { count: usize },
    #[error("an issuer's `name` is empty; give it one")]
    Nameless,
    #[error("two issuers have the {what} `{value}`; each must have its own")]
    Twice { what: &'static str, value: String },
    #[error("issuer `{name}`: {reason}")]
    Issuer { name: String, reason: IssuerConfigError },
}

/// What is wrong with the configuration of one issuer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssuerConfigError {
    #[error("`url` is missing; it is what its tokens' `iss` says")]
    NoUrl,
    #[error("`{key}` is not a URL: {value}")]
    Url { key: &'static str, value: String },
    #[error(
        "`{key}` must be https; http is accepted only to a loopback address such as http://127.0.0.1:8080, \
         not {value}"
    )]
    Insecure { key: &'static str, value: String },
    // The URL is not shown: it may hold a password.
    #[error("`{key}` must have no user, password, query or fragment")]
    UrlParts { key: &'static str },
    #[error("`{key}` is empty")]
    Empty { key: &'static str },
    #[error("`{key}` must be {min} to {max} seconds, not {value}")]
    Seconds { key: &'static str, min: u64, max: u64, value: u64 },
    #[error("`{key}` has {count} entries, at most {max} are allowed")]
    TooMany { key: &'static str, count: usize, max: usize },
    #[error("`jwks_file` and `jwks_uri` exclude each other; keep one")]
    TwoKeySources,
    #[error("`bearer_file` needs a `jwks_uri`: it is sent nowhere else")]
    BearerAlone,
    #[error("`{key}` {path}: {reason}")]
    File { key: &'static str, path: String, reason: String },
    #[error(transparent)]
    Group(#[from] GroupRuleError),
    #[error("no HTTP client can be made: {0}")]
    Client(#[source] reqwest::Error),
}
