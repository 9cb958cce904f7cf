//! `[[issuer]]` of the configuration, as it is written. [`super::issuer`] checks it.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

/// One `[[issuer]]`: what is not given follows the preset, if there is one, and else the default given here.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IssuerConfig {
    /// A name for people; unique among the issuers.
    pub(crate) name: String,
    /// The issuer's URL, exactly as its tokens' `iss` says it; unique among the issuers. Required, unless the
    /// preset knows it.
    pub(crate) url: Option<String>,
    /// The audience of its tokens: their `aud` must name it, and nothing else. Default: `lineal`.
    pub(crate) audience: Option<String>,
    /// The CI system whose tokens these are.
    pub(crate) preset: Option<Preset>,
    /// The claims that name the CI run, 16 at most. Default: none, and each token is good for one use.
    pub(crate) run_claims: Option<Vec<String>>,
    /// The claim that lists groups; empty for none. Default: `groups`.
    pub(crate) groups_claim: Option<String>,
    /// Each `[[issuer.group]]`: a group by a rule over claims; 256 at most. Default: none.
    #[serde(default, rename = "group")]
    pub(crate) groups: Vec<GroupConfig>,
    /// The URL of its keys. Default: the one in its discovery document.
    pub(crate) jwks_uri: Option<String>,
    /// A file with its keys, so that nothing is fetched. Excludes `jwks_uri`.
    pub(crate) jwks_file: Option<PathBuf>,
    /// A file with a token to send with each request to `jwks_uri`, as a Kubernetes API server may require.
    /// Default: none.
    pub(crate) bearer_file: Option<PathBuf>,
    /// Certificate authorities to trust for its TLS instead of the public ones, PEM.
    pub(crate) ca_file: Option<PathBuf>,
    /// Seconds that this host's clock and the issuer's may differ: 0 to 300. Default: 60.
    pub(crate) clock_skew_s: Option<u64>,
    /// Seconds that a job may act on after the token that it started under has expired: 0 to 604800. Default:
    /// 0.
    pub(crate) outlive_s: Option<u64>,
    /// Seconds that one answer of the issuer may take: 1 to 30. Default: 5.
    pub(crate) http_timeout_s: Option<u64>,
    /// Seconds that fetched keys are used without asking again: 1 to 86400. Default: 600.
    pub(crate) keys_ttl_s: Option<u64>,
    /// Seconds between two requests for keys, at least, whatever tokens are presented: 1 to 3600. Default:
    /// 10.
    pub(crate) keys_refetch_s: Option<u64>,
}

/// One `[[issuer.group]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupConfig {
    /// The group that matching tokens are in.
    pub(crate) group: String,
    /// What to match: for each claim its text, or the beginning of its text with a `*` after it.
    pub(crate) claims: BTreeMap<String, String>,
}

/// A CI system of which it is known what its tokens say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Preset {
    /// GitHub Actions.
    Github,
    /// GitLab CI's `id_tokens`.
    Gitlab,
    /// The projected service account tokens of a Kubernetes cluster.
    Kubernetes,
}

impl Preset {
    pub(super) fn url(self) -> Option<&'static str> {
        match self {
            Self::Github => Some("https://token.actions.githubusercontent.com"),
            Self::Gitlab => Some("https://gitlab.com"),
            Self::Kubernetes => None,
        }
    }

    pub(super) fn run_claims(self) -> &'static [&'static str] {
        match self {
            Self::Github => &["run_id", "run_attempt"],
            // A GitLab token belongs to one job, and a retried job is another job.
            Self::Gitlab => &["job_id"],
            Self::Kubernetes => &["kubernetes.io.pod.uid"],
        }
    }

    /// GitHub's tokens expire within minutes of being requested, its jobs run for six hours at most. GitLab's
    /// tokens are valid for as long as their job may run. A pod's life has no known limit.
    pub(super) fn outlive_s(self) -> u64 {
        match self {
            Self::Github => 6 * 3600,
            Self::Gitlab | Self::Kubernetes => 0,
        }
    }

    pub(super) fn groups_claim(self) -> Option<&'static str> {
        match self {
            Self::Github | Self::Kubernetes => None,
            Self::Gitlab => Some("groups_direct"),
        }
    }
}
