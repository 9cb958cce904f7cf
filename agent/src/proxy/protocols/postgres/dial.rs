//! The leg towards the upstream: from which network namespace it is dialled, and whether by TLS.
//!
//! A job may own its network namespace: there it can read what is sent in the clear, and divert it. A
//! connection that carries a secret which the job does not have must be out of its reach: by TLS with a
//! server that proved its name, or dialled from the agent's own namespace, where the job has no say, or not
//! at all.

use std::net::SocketAddr;

use agent_policy::{Leg, TlsMode};
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::route::Route;
use crate::{
    kernel::netns::Netns,
    proxy::{reach::Origin, session::Session},
    tls::{AlpnNames, Stream, UpstreamTlsError},
};

/// An SSLRequest (the manual, "Message Formats").
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// PostgreSQL's ALPN name in the IANA registry.
pub const ALPN_NAMES: AlpnNames = &[b"postgresql"];

/// Why there is no connection to the upstream.
#[derive(Debug, Error)]
pub enum DialError {
    /// It can't be reached.
    #[error("{0}")]
    Unreachable(#[from] std::io::Error),
    /// It closed before it had said anything.
    #[error("it closed the connection: {0}")]
    Closed(std::io::Error),
    /// It has no TLS.
    #[error("it has no TLS, and the upstream requires it")]
    NoTls,
    /// Its TLS is not good enough.
    #[error(transparent)]
    Tls(#[from] UpstreamTlsError),
    /// It answered an SSLRequest with something else.
    #[error("it answered an SSLRequest with the byte {0:#04x}")]
    Answer(u8),
    /// A secret would be within the job's reach.
    #[error(
        "the agent's login may not be sent there: the way is neither by TLS with a verified name (tls.mode = \
         \"verify-full\") nor from a network namespace that the job is not in"
    )]
    Exposed,
}

/// From where an upstream is dialled; `None` if a login of the agent's would be within the job's reach
/// wherever it is dialled from. With `lends_login` the agent logs in.
pub fn origin(leg: &Leg, lends_login: bool, netns: &Netns, to: SocketAddr) -> Option<Origin> {
    if !lends_login || leg.tls == TlsMode::VerifyFull {
        return Some(Origin::Job);
    }
    // The job's loopback is not the agent's; "any address" is the loopback, too.
    let address = to.ip().to_canonical();
    (!netns.is_agents() && !address.is_loopback() && !address.is_unspecified()).then_some(Origin::Agent)
}

/// Dials the session's upstream, for the session itself or for a cancel request.
pub async fn dial(session: &Session, route: &Route) -> Result<Stream, DialError> {
    let from = origin(&route.leg, route.lends_login, &session.netns, session.destination);
    let stream = session.dial(from.ok_or(DialError::Exposed)?, &route.admission).await?;
    upgrade(session, route, stream).await
}

/// Asks for TLS, where the upstream's mode does.
async fn upgrade(session: &Session, route: &Route, mut stream: TcpStream) -> Result<Stream, DialError> {
    let Route { leg, identity, .. } = route;
    if leg.tls == TlsMode::Disable {
        return Ok(Stream::Plain(stream));
    }
    stream.write_all(&SSL_REQUEST).await.map_err(DialError::Closed)?;
    // One byte and no more: what comes behind it in the clear must not be taken for encrypted
    // (CVE-2021-23222).
    match stream.read_u8().await.map_err(DialError::Closed)? {
        b'S' => {
            let connector = &session.proxy.parts.connector;
            let address = session.destination.ip();
            Ok(connector.connect(leg, identity.as_ref(), stream, address, ALPN_NAMES).await?)
        }
        b'N' if leg.tls == TlsMode::Prefer => Ok(Stream::Plain(stream)),
        b'N' => Err(DialError::NoTls),
        other => Err(DialError::Answer(other)),
    }
}
