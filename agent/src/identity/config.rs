//! Which issuers this host believes, as the configuration says it and as it is used.
//!
//! Once an [`Issuer`] exists its URLs are secure, its bounds are kept and its rules can match: nothing
//! after it checks them again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_core::identity::claims::{ClaimRules, GroupRule, GroupRuleError};
use openidconnect::{IssuerUrl, JsonWebKeySetUrl};
use reqwest::{Certificate, Url};
use serde::Deserialize;

use super::fetch::{BODY_BYTES_MAX, Fetcher, is_secure};

/// How many issuers a host may believe.
pub(crate) const ISSUERS_MAX: usize = 16;
/// How far clocks may be apart, unless the configuration says otherwise; and the most it may say.
const CLOCK_SKEW_S: u64 = 60;
const CLOCK_SKEW_S_MAX: u64 = 300;
/// How long an issuer may take for one answer.
const HTTP_TIMEOUT_S: u64 = 5;
const HTTP_TIMEOUT_S_MAX: u64 = 30;
/// How long fetched keys are used without asking again.
const KEYS_TTL_S: u64 = 600;
const KEYS_TTL_S_MAX: u64 = 86_400;
/// How often an issuer's keys are asked for at most, whatever tokens are shown.
const KEYS_REFETCH_S: u64 = 10;
const KEYS_REFETCH_S_MAX: u64 = 3600;
/// How long a job may outlive its token at most: whoever wants it for longer has no use for tokens that expire.
const OUTLIVE_S_MAX: u64 = 7 * 86_400;
/// How many rules over claims an issuer may have, and how many claims may name a run.
const GROUP_RULES_MAX: usize = 256;
const RUN_CLAIMS_MAX: usize = 16;

const AUDIENCE: &str = "lineal";
const GROUPS_CLAIM: &str = "groups";

/// One `[[issuer]]` of the configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IssuerConfig {
    /// A name for people; unique.
    pub(crate) name: String,
    /// The issuer's URL, as in its tokens' `iss`; a preset may know it.
    pub(crate) url: Option<String>,
    /// What its tokens' `aud` must be, and be alone.
    pub(crate) audience: Option<String>,
    /// Fills what is not given.
    pub(crate) preset: Option<Preset>,
    /// The claims that name the CI run; with none a token is good for one use.
    pub(crate) run_claims: Option<Vec<String>>,
    /// The claim that lists groups; empty for none.
    pub(crate) groups_claim: Option<String>,
    /// Groups by rules over claims.
    #[serde(default, rename = "group")]
    pub(crate) groups: Vec<GroupConfig>,
    /// Where its keys are, in place of its discovery document.
    pub(crate) jwks_uri: Option<String>,
    /// A file with its keys, in place of asking it at all.
    pub(crate) jwks_file: Option<PathBuf>,
    /// A token sent with each request to `jwks_uri`: a Kubernetes API server may want its caller's.
    pub(crate) bearer_file: Option<PathBuf>,
    /// PEM certificates to trust in place of the public authorities.
    pub(crate) ca_file: Option<PathBuf>,
    /// Seconds that clocks may be apart.
    pub(crate) clock_skew_s: Option<u64>,
    /// Seconds that a job may act on after the token that it started under has expired.
    pub(crate) outlive_s: Option<u64>,
    /// Seconds an issuer may take for an answer.
    pub(crate) http_timeout_s: Option<u64>,
    /// Seconds that keys are used without asking again.
    pub(crate) keys_ttl_s: Option<u64>,
    /// Seconds at least between two requests for keys.
    pub(crate) keys_refetch_s: Option<u64>,
}

/// One `[[issuer.group]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupConfig {
    /// Who matches is in this group.
    pub(crate) group: String,
    /// What to match: each claim's text, with `*` at its end for any ending.
    pub(crate) claims: BTreeMap<String, String>,
}

/// A CI system whose tokens are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Preset {
    /// GitHub Actions.
    Github,
    /// GitLab CI's `id_tokens`.
    Gitlab,
    /// A Kubernetes cluster's projected service account tokens.
    Kubernetes,
}

impl Preset {
    fn url(self) -> Option<&'static str> {
        match self {
            Self::Github => Some("https://token.actions.githubusercontent.com"),
            Self::Gitlab => Some("https://gitlab.com"),
            Self::Kubernetes => None,
        }
    }

    fn run_claims(self) -> &'static [&'static str] {
        match self {
            Self::Github => &["run_id", "run_attempt"],
            // A GitLab token is one job's, and a retried job is another job.
            Self::Gitlab => &["job_id"],
            Self::Kubernetes => &["kubernetes.io.pod.uid"],
        }
    }

    /// Tokens of GitHub's expire within minutes of being asked for, its jobs after six hours at most. GitLab's live as
    /// long as their job may. How long a pod lives nobody knows.
    fn outlive_s(self) -> u64 {
        match self {
            Self::Github => 6 * 3600,
            Self::Gitlab | Self::Kubernetes => 0,
        }
    }

    fn groups_claim(self) -> Option<&'static str> {
        match self {
            Self::Github | Self::Kubernetes => None,
            Self::Gitlab => Some("groups_direct"),
        }
    }
}

/// Why an issuer's configuration can't stand.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("no [[issuer]] is configured, so no job could ever be enrolled; add one")]
    None,
    #[error("{count} issuers are configured, at most {ISSUERS_MAX} can be")]
    TooMany { count: usize },
    #[error("an issuer's `name` is empty")]
    Nameless,
    #[error("two issuers have the {what} `{value}`; each must have its own")]
    Twice { what: &'static str, value: String },
    #[error("issuer `{name}`: {reason}")]
    Issuer { name: String, reason: IssuerConfigError },
}

/// What is wrong with one issuer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssuerConfigError {
    #[error("`url` is missing; it is what its tokens' `iss` says")]
    NoUrl,
    #[error("`{key}` is not a URL: {value}")]
    Url { key: &'static str, value: String },
    #[error(
        "`{key}` must be https; http is accepted only to a loopback address such as http://127.0.0.1:8080, not {value}"
    )]
    Insecure { key: &'static str, value: String },
    // Without the URL: a password may be in it.
    #[error("`{key}` must have no user, password, query or fragment")]
    UrlParts { key: &'static str },
    #[error("`{key}` is empty")]
    Empty { key: &'static str },
    #[error("`{key}` must be {min} to {max} seconds, not {value}")]
    Seconds { key: &'static str, min: u64, max: u64, value: u64 },
    #[error("`{key}` has {count} entries, at most {max} can be")]
    TooMany { key: &'static str, count: usize, max: usize },
    #[error("`jwks_file` and `jwks_uri` exclude each other; keep one")]
    TwoKeySources,
    #[error("`bearer_file` goes with `jwks_uri`: it is sent nowhere else")]
    BearerAlone,
    #[error("`{key}` {path}: {reason}")]
    File { key: &'static str, path: String, reason: String },
    #[error(transparent)]
    Group(#[from] GroupRuleError),
    #[error("no HTTP client can be made: {0}")]
    Client(#[source] reqwest::Error),
}

/// Where an issuer's keys come from.
#[derive(Clone, Debug)]
pub(crate) enum KeySource {
    /// Its discovery document names the place.
    Discovery,
    /// From here; with the token in this file, if any.
    Uri { uri: JsonWebKeySetUrl, bearer_file: Option<PathBuf> },
    /// From a file on this host.
    File(PathBuf),
}

/// An issuer that is believed.
#[derive(Clone)]
pub(crate) struct Issuer {
    pub(crate) name: String,
    pub(crate) url: IssuerUrl,
    pub(crate) audience: String,
    pub(crate) rules: ClaimRules,
    pub(crate) key_source: KeySource,
    pub(crate) fetcher: Fetcher,
    pub(crate) clock_skew_s: i64,
    pub(crate) outlive_s: i64,
    pub(crate) keys_ttl_s: i64,
    pub(crate) keys_refetch_s: i64,
}

/// Reads the whole configuration, or says what is wrong with it.
pub(crate) fn issuers(configs: &[IssuerConfig]) -> Result<Vec<Issuer>, ConfigError> {
    if configs.is_empty() {
        return Err(ConfigError::None);
    }
    if configs.len() > ISSUERS_MAX {
        return Err(ConfigError::TooMany { count: configs.len() });
    }
    let (mut names, mut urls) = (BTreeSet::new(), BTreeSet::new());
    let mut issuers = Vec::new();
    for config in configs {
        let name = config.name.clone();
        if name.trim().is_empty() {
            return Err(ConfigError::Nameless);
        }
        if !names.insert(name.clone()) {
            return Err(ConfigError::Twice { what: "name", value: name });
        }
        let issuer = issuer(config).map_err(|reason| ConfigError::Issuer { name, reason })?;
        if !urls.insert(issuer.url.as_str().to_owned()) {
            return Err(ConfigError::Twice { what: "url", value: issuer.url.as_str().to_owned() });
        }
        issuers.push(issuer);
    }
    Ok(issuers)
}

fn issuer(config: &IssuerConfig) -> Result<Issuer, IssuerConfigError> {
    let preset = config.preset;
    let url_text = config.url.as_deref().or_else(|| preset?.url()).ok_or(IssuerConfigError::NoUrl)?;
    let url = secure_url("url", url_text)?;
    let timeout_s = seconds("http_timeout_s", config.http_timeout_s, HTTP_TIMEOUT_S, 1, HTTP_TIMEOUT_S_MAX)?;
    let roots = config.ca_file.as_deref().map(certificates).transpose()?.unwrap_or_default();
    let key_source = key_source(config)?;
    let asked = match &key_source {
        KeySource::Uri { uri, .. } => uri.url(),
        KeySource::Discovery | KeySource::File(_) => &url,
    };
    let fetcher =
        Fetcher::new(asked, Duration::from_secs(timeout_s), roots).map_err(IssuerConfigError::Client)?;
    Ok(Issuer {
        name: config.name.clone(),
        // As written: OpenID Connect Core 1.0 section 3.1.3.7 wants `iss` to match exactly.
        url: IssuerUrl::new(url_text.to_owned())
            .map_err(|_| IssuerConfigError::Url { key: "url", value: url_text.to_owned() })?,
        audience: filled("audience", config.audience.as_deref().unwrap_or(AUDIENCE))?,
        rules: rules(config)?,
        key_source,
        fetcher,
        clock_skew_s: seconds("clock_skew_s", config.clock_skew_s, CLOCK_SKEW_S, 0, CLOCK_SKEW_S_MAX)? as i64,
        outlive_s: seconds(
            "outlive_s",
            config.outlive_s,
            preset.map_or(0, Preset::outlive_s),
            0,
            OUTLIVE_S_MAX,
        )? as i64,
        keys_ttl_s: seconds("keys_ttl_s", config.keys_ttl_s, KEYS_TTL_S, 1, KEYS_TTL_S_MAX)? as i64,
        keys_refetch_s: seconds(
            "keys_refetch_s",
            config.keys_refetch_s,
            KEYS_REFETCH_S,
            1,
            KEYS_REFETCH_S_MAX,
        )? as i64,
    })
}

fn rules(config: &IssuerConfig) -> Result<ClaimRules, IssuerConfigError> {
    let run_claims = match (&config.run_claims, config.preset) {
        (Some(claims), _) => claims.clone(),
        (None, Some(preset)) => preset.run_claims().iter().map(|&claim| claim.to_owned()).collect(),
        (None, None) => Vec::new(),
    };
    let bounds =
        [("run_claims", run_claims.len(), RUN_CLAIMS_MAX), ("group", config.groups.len(), GROUP_RULES_MAX)];
    for (key, count, max) in bounds {
        if count > max {
            return Err(IssuerConfigError::TooMany { key, count, max });
        }
    }
    for claim in &run_claims {
        filled("run_claims", claim)?;
    }
    let groups_claim = match (&config.groups_claim, config.preset) {
        (Some(claim), _) => Some(claim.as_str()).filter(|claim| !claim.is_empty()),
        (None, Some(preset)) => preset.groups_claim(),
        (None, None) => Some(GROUPS_CLAIM),
    };
    let kubernetes = config.preset == Some(Preset::Kubernetes);
    Ok(ClaimRules {
        nested: if kubernetes { vec!["kubernetes.io".to_owned()] } else { Vec::new() },
        groups_claim: groups_claim.map(str::to_owned),
        groups: config
            .groups
            .iter()
            .map(|rule| GroupRule::new(rule.group.clone(), rule.claims.clone()))
            .collect::<Result<_, _>>()?,
        run_claims,
        pod_uid_claim: kubernetes.then(|| "kubernetes.io.pod.uid".to_owned()),
    })
}

fn key_source(config: &IssuerConfig) -> Result<KeySource, IssuerConfigError> {
    if config.bearer_file.is_some() && config.jwks_uri.is_none() {
        return Err(IssuerConfigError::BearerAlone);
    }
    match (&config.jwks_file, &config.jwks_uri) {
        (Some(_), Some(_)) => Err(IssuerConfigError::TwoKeySources),
        (Some(path), None) => Ok(KeySource::File(path.clone())),
        (None, Some(uri)) => Ok(KeySource::Uri {
            uri: JsonWebKeySetUrl::from_url(secure_url("jwks_uri", uri)?),
            bearer_file: config.bearer_file.clone(),
        }),
        (None, None) => Ok(KeySource::Discovery),
    }
}

fn secure_url(key: &'static str, text: &str) -> Result<Url, IssuerConfigError> {
    let value = || text.to_owned();
    let url = Url::parse(text).map_err(|_| IssuerConfigError::Url { key, value: value() })?;
    let bare = url.username().is_empty() && url.password().is_none();
    if !bare || url.query().is_some() || url.fragment().is_some() {
        return Err(IssuerConfigError::UrlParts { key });
    }
    if !is_secure(&url) {
        return Err(IssuerConfigError::Insecure { key, value: value() });
    }
    Ok(url)
}

fn filled(key: &'static str, text: &str) -> Result<String, IssuerConfigError> {
    if text.is_empty() { Err(IssuerConfigError::Empty { key }) } else { Ok(text.to_owned()) }
}

fn seconds(
    key: &'static str,
    configured: Option<u64>,
    default: u64,
    min: u64,
    max: u64,
) -> Result<u64, IssuerConfigError> {
    let value = configured.unwrap_or(default);
    if (min..=max).contains(&value) {
        Ok(value)
    } else {
        Err(IssuerConfigError::Seconds { key, min, max, value })
    }
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, IssuerConfigError> {
    let wrong =
        |reason: String| IssuerConfigError::File { key: "ca_file", path: path.display().to_string(), reason };
    let mut pem = Vec::new();
    File::open(path)
        .and_then(|file| file.take(BODY_BYTES_MAX as u64).read_to_end(&mut pem))
        .map_err(|error| wrong(error.to_string()))?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| wrong(error.to_string()))?;
    if certificates.is_empty() { Err(wrong("holds no PEM certificate".to_owned())) } else { Ok(certificates) }
}
