//! How a session reaches its upstream. Cancel requests for the session take the same route.

use agent_core::ruling::Admission;
use agent_policy::Leg;

use crate::tls::Identity;

/// How one session reaches its upstream.
pub struct Route {
    /// How the bundle declared the connection when the session began; a later bundle does not change it.
    pub leg: Leg,
    /// The agent logs in with a login of its own: a secret that the job does not have crosses this route.
    pub lends_login: bool,
    /// The client certificate of the agent's login; `None` if the agent shows none.
    pub identity: Option<Identity>,
    /// The right to dial the upstream: policy lets the session begin, and that decision is on record.
    pub admission: Admission,
}
