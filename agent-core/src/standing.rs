//! Standing: whether a job may act at a given moment.
//!
//! Standing is not stored and changed step by step. It is computed from what is known, [`Grounds`], and the
//! time. What is known only grows: a revocation is final, and a deadline is the token's own. News may
//! therefore come late, twice or in any order, and a late timer delays only the moment at which somebody is
//! told.

use std::sync::Arc;

/// What is known that decides a job's standing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grounds {
    /// How long its token is good for; `None` for a job that has presented no token.
    token: Option<TokenTerm>,
    /// Why its access was revoked, if it was.
    revoked: Option<Arc<str>>,
}

/// How long a token is good for, in seconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenTerm {
    /// When it expires: its `exp` (RFC 7519 section 4.1.4).
    pub expires_unix: i64,
    /// Until when a job that started under it may act: the issuer's configuration says how long a job may
    /// outlive its token.
    pub acts_until_unix: i64,
}

/// A job's standing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has presented no token: it has no credential.
    Unidentified,
    /// Its token is valid.
    Valid,
    /// Its token has expired, but the job may still outlive it.
    Expiring,
    /// Its token has expired, and its time is over: new connections and commands are denied.
    Expired,
    /// Its access was revoked: open connections are cut.
    Revoked {
        /// The reason given, for the person who reads the error.
        reason: Arc<str>,
    },
}

impl Grounds {
    /// The grounds of a job that starts under a token.
    pub fn of(term: TokenTerm) -> Self {
        Self { token: Some(term), revoked: None }
    }

    /// The grounds of a job that has presented no token.
    pub fn unidentified() -> Self {
        Self { token: None, revoked: None }
    }

    /// Records that access was revoked. True if it had not been; otherwise the first reason stays.
    pub fn revoke(&mut self, reason: &Arc<str>) -> bool {
        let news = self.revoked.is_none();
        self.revoked.get_or_insert_with(|| Arc::clone(reason));
        news
    }

    /// The standing at a given time.
    pub fn at(&self, now_unix: i64) -> Standing {
        match (&self.revoked, self.token) {
            (Some(reason), _) => Standing::Revoked { reason: Arc::clone(reason) },
            (None, None) => Standing::Unidentified,
            (None, Some(term)) if now_unix < term.expires_unix => Standing::Valid,
            (None, Some(term)) if now_unix < term.acts_until_unix => Standing::Expiring,
            (None, Some(_)) => Standing::Expired,
        }
    }

    /// When the job's time is over, if it is not revoked before; `None` for a job without a token.
    pub fn acts_until_unix(&self) -> Option<i64> {
        self.token.map(|term| term.acts_until_unix.max(term.expires_unix))
    }
}

impl Standing {
    /// Its name in listings.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Unidentified => "unidentified",
            Self::Valid => "valid",
            Self::Expiring => "expiring",
            Self::Expired => "expired",
            Self::Revoked { .. } => "revoked",
        }
    }

    /// Why the job may start nothing new, in words that a person can act on; `None` if it may. An
    /// unidentified job may: policy decides what it is granted.
    pub fn objection(&self) -> Option<String> {
        match self {
            Self::Unidentified | Self::Valid | Self::Expiring => None,
            Self::Expired => Some("the job's token has expired".to_owned()),
            Self::Revoked { reason } => Some(format!("access was revoked: {reason}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TERM: TokenTerm = TokenTerm { expires_unix: 100, acts_until_unix: 160 };

    #[test]
    fn time_alone_takes_a_job_from_valid_to_expired() {
        let grounds = Grounds::of(TERM);
        let words = [0, 99, 100, 159, 160, i64::MAX].map(|now| grounds.at(now).word());
        assert_eq!(words, ["valid", "valid", "expiring", "expiring", "expired", "expired"]);
    }

    #[test]
    fn a_job_that_may_not_outlive_its_token_expires_with_it() {
        let grounds = Grounds::of(TokenTerm { expires_unix: 100, acts_until_unix: 100 });
        assert_eq!([99, 100].map(|now| grounds.at(now).word()), ["valid", "expired"]);
        assert_eq!(grounds.acts_until_unix(), Some(100));
    }

    #[test]
    fn an_unidentified_job_is_unidentified_at_any_time() {
        assert_eq!(
            [i64::MIN, i64::MAX].map(|now| Grounds::unidentified().at(now).word()),
            ["unidentified"; 2]
        );
    }

    #[test]
    fn expired_and_revoked_jobs_may_start_nothing() {
        let mut revoked = Grounds::of(TERM);
        revoked.revoke(&"left".into());
        let objection = |grounds: &Grounds, now| grounds.at(now).objection();
        assert_eq!(objection(&Grounds::of(TERM), 120), None);
        assert_eq!(objection(&Grounds::of(TERM), 160).as_deref(), Some("the job's token has expired"));
        assert_eq!(objection(&revoked, 0).as_deref(), Some("access was revoked: left"));
    }

    /// What can happen to a job: news of a revocation, or a look at the clock.
    #[derive(Clone, Debug)]
    enum Signal {
        Revoke(u8),
        Look(i64),
    }

    fn signal() -> impl Strategy<Value = Signal> {
        prop_oneof![(0..3u8).prop_map(Signal::Revoke), (0..300i64).prop_map(Signal::Look)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        /// In whatever order and however often news comes, also with the clock set back and the grounds
        /// restored from a copy: a revoked job never acts again, and any other acts exactly as long as its
        /// token's term says.
        #[test]
        fn no_order_of_news_restores_access(
            expires in 0..200i64,
            outlives in 0..100i64,
            signals in prop::collection::vec((signal(), any::<bool>(), any::<bool>()), 0..40),
        ) {
            let term = TokenTerm { expires_unix: expires, acts_until_unix: expires + outlives };
            let mut grounds = Grounds::of(term);
            let mut first: Option<Arc<str>> = None;
            for (signal, twice, restarted) in signals {
                for _ in 0..=usize::from(twice) {
                    match &signal {
                        Signal::Revoke(why) => {
                            let reason: Arc<str> = format!("reason {why}").into();
                            let news = first.is_none();
                            first.get_or_insert_with(|| Arc::clone(&reason));
                            prop_assert_eq!(grounds.revoke(&reason), news);
                        }
                        Signal::Look(now) => match (grounds.at(*now), &first) {
                            (Standing::Revoked { reason }, Some(first)) => prop_assert_eq!(&reason, first),
                            (standing, None) => {
                                prop_assert_eq!(standing.objection().is_none(), *now < expires + outlives);
                            }
                            (standing, Some(_)) => prop_assert!(false, "{standing:?} after a revocation"),
                        },
                    }
                }
                if restarted {
                    grounds = grounds.clone();
                }
            }
        }
    }
}
