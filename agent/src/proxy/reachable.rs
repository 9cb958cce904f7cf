//! Whether this host can reach a bundle's upstreams in the way that the bundle says, before the bundle takes
//! effect.

use std::{fmt::Display, sync::Arc};

use crate::{
    logins::{Logins, LoginsError},
    policy::Check,
    tls::Connector,
};

/// A check that refuses a bundle whose upstreams name a file that can't be used or a login that the agent's
/// configuration does not have. It dials nothing.
pub fn reachable(connector: Arc<Connector>, logins: Arc<Logins>) -> Check {
    Box::new(move |bundle| {
        for upstream in bundle.upstreams() {
            let refusal = |reason: &dyn Display| {
                format!("upstreams.toml: the upstream \"{}\": {reason}", upstream.name)
            };
            connector.check(&upstream.leg).map_err(|error| refusal(&error))?;
            if let Some(name) = upstream.leg.logins().find(|name| !logins.has(name)) {
                return Err(refusal(&LoginsError::Unknown(name.into())));
            }
        }
        Ok(())
    })
}
