//! Whether a job may act, at a moment.
//!
//! Standing is never stored and stepped: it is read off what is known, [`Grounds`], and the time. What is known only
//! grows (a revocation is for good, a deadline is the token's own), so that news may come late, twice or in any order,
//! and a timer that is late delays nothing but the moment when somebody is told.

use std::sync::Arc;

/// What a job's standing follows from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grounds {
    /// When its token expires and what comes after; none for a job that has shown no token.
    token: Option<TokenTerm>,
    /// Why its access was ended, if it was.
    revoked: Option<Arc<str>>,
}

/// How long a token is good for, in seconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenTerm {
    /// When it expires: its `exp` (RFC 7519 section 4.1.4).
    pub expires_unix: i64,
    /// Until when a job may act that started under it: its issuer's configuration says how long it may outlive it.
    pub acts_until_unix: i64,
}

/// A job's standing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has shown no token: nothing is granted to it.
    Unidentified,
    /// Its token holds.
    Valid,
    /// Its token has expired, and the job may outlive it for a while yet.
    Expiring,
    /// Its token has expired, and its time is up: new connections and commands are denied.
    Expired,
    /// Its access was ended: what is open is cut.
    Revoked {
        /// Why, for the person who reads the error.
        reason: Arc<str>,
    },
}

impl Grounds {
    /// Of a job that starts under a token.
    pub fn of(term: TokenTerm) -> Self {
        Self { token: Some(term), revoked: None }
    }

    /// Of a job that has shown none.
    pub fn unidentified() -> Self {
        Self { token: None, revoked: None }
    }

    /// Takes note that access was ended. True if that is news; else the first reason stays.
    pub fn revoke(&mut self, reason: &Arc<str>) -> bool {
        let news = self.revoked.is_none();
        self.revoked.get_or_insert_with(|| Arc::clone(reason));
        news
    }

    /// The standing at a moment.
    pub fn at(&self, now_unix: i64) -> Standing {
        match (&self.revoked, self.token) {
            (Some(reason), _) => Standing::Revoked { reason: Arc::clone(reason) },
            (None, None) => Standing::Unidentified,
            (None, Some(term)) if now_unix < term.expires_unix => Standing::Valid,
            (None, Some(term)) if now_unix < term.acts_until_unix => Standing::Expiring,
            (None, Some(_)) => Standing::Expired,
        }
    }

    /// When the job's time is up, whatever becomes known; none where no time ends it.
    pub fn acts_until_unix(&self) -> Option<i64> {
        self.token.map(|term| term.acts_until_unix.max(term.expires_unix))
    }
}

impl Standing {
    /// The word for listings.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Unidentified => "unidentified",
            Self::Valid => "valid",
            Self::Expiring => "expiring",
            Self::Expired => "expired",
            Self::Revoked { .. } => "revoked",
        }
    }

    /// Why the job may begin nothing, in words that a person can act on; none if it may. An unidentified job may ask:
    /// policy grants it what it grants.
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
    fn without_a_rule_a_job_does_not_outlive_its_token() {
        let grounds = Grounds::of(TokenTerm { expires_unix: 100, acts_until_unix: 100 });
        assert_eq!([99, 100].map(|now| grounds.at(now).word()), ["valid", "expired"]);
        assert_eq!(grounds.acts_until_unix(), Some(100));
    }

    #[test]
    fn an_unidentified_job_stays_so_at_any_time() {
        assert_eq!(
            [i64::MIN, i64::MAX].map(|now| Grounds::unidentified().at(now).word()),
            ["unidentified"; 2]
        );
    }

    #[test]
    fn who_may_begin_something() {
        let mut revoked = Grounds::of(TERM);
        revoked.revoke(&"left".into());
        let objection = |grounds: &Grounds, now| grounds.at(now).objection();
        assert_eq!(objection(&Grounds::of(TERM), 120), None);
        assert_eq!(objection(&Grounds::of(TERM), 160).as_deref(), Some("the job's token has expired"));
        assert_eq!(objection(&revoked, 0).as_deref(), Some("access was revoked: left"));
    }

    /// News of a job, and looks at the clock.
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

        /// Whatever comes when and how often, also with the clock set back and the grounds read again from a copy, a
        /// job that was revoked never acts again, and one that was not acts exactly as its term says.
        #[test]
        fn no_order_of_news_gives_access_back(
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
