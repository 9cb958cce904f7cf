//! From the configuration to an issuer that is believed.
//!
//! Once an [`Issuer`] exists, its URLs are secure, its settings are within their bounds and its rules can
//! match: nothing checks them again.

use std::{
    collections::BTreeSet,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use agent_core::identity::claims::{ClaimRules, GroupRule};
use openidconnect::{IssuerUrl, JsonWebKeySetUrl};
use reqwest::{Certificate, Url};

use super::{
    config::{IssuerConfig, Preset},
    config_error::{ConfigError, ISSUERS_MAX, IssuerConfigError},
    fetch::{BODY_BYTES_MAX, Fetcher, is_secure},
};

// For each setting its default, and the most that is accepted. `IssuerConfig` says what each is.
const CLOCK_SKEW_S: u64 = 60;
const CLOCK_SKEW_S_MAX: u64 = 300;
const HTTP_TIMEOUT_S: u64 = 5;
const HTTP_TIMEOUT_S_MAX: u64 = 30;
const KEYS_TTL_S: u64 = 600;
const KEYS_TTL_S_MAX: u64 = 86_400;
const KEYS_REFETCH_S: u64 = 10;
const KEYS_REFETCH_S_MAX: u64 = 3600;
/// A job that may outlive its token for longer has no use for tokens that expire.
const OUTLIVE_S_MAX: u64 = 7 * 86_400;
/// How many rules for groups an issuer may have, and how many claims may name a run.
const GROUP_RULES_MAX: usize = 256;
const RUN_CLAIMS_MAX: usize = 16;

const AUDIENCE: &str = "lineal";
const GROUPS_CLAIM: &str = "groups";

/// Where an issuer's keys come from.
#[derive(Clone, Debug)]
pub(crate) enum KeySource {
    /// From the URL in its discovery document.
    Discovery,
    /// From this URL. The token in `bearer_file`, if there is one, goes with each request.
    Uri { uri: JsonWebKeySetUrl, bearer_file: Option<PathBuf> },
    /// From a file on this host.
    File(PathBuf),
}

/// An issuer that is believed. See [`IssuerConfig`] for what each setting is.
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

/// The configured issuers, or what is wrong with the configuration. Reads their files of certificates, and
/// fetches nothing.
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
