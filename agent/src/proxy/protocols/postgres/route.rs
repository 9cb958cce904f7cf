//! How a session's upstream is reached: what its later connections, such as cancel requests, repeat.

use agent_core::ruling::Admission;
use agent_policy::Leg;

use crate::tls::Identity;

/// How one session reaches its upstream.
pub struct Route {
    /// As the bundle says.
    pub leg: Leg,
    /// The agent logs in with a login of its own: a secret that the job does not have crosses this route.
    pub lends_login: bool,
    /// The certificate that the agent shows.
    pub identity: Option<Identity>,
    /// The decision that the session may begin is on record.
    pub admission: Admission,
}
