//! TLS on both legs of a session: towards the client as the server that it meant to reach, by certificates of
//! this host's own authority; towards the upstream as a client that verifies it.
//!
//! - [`alpn`]: which protocol is spoken inside TLS.
//! - [`authority`]: the host's certificate authority, and what jobs are told to trust.
//! - [`accept`]: the handshake with a client.
//! - [`upstream`]: the handshake with an upstream.
//! - [`stream`]: a connection with or without TLS.

mod accept;
mod alpn;
mod authority;
mod stream;
mod upstream;

pub use self::{
    accept::begins_with_tls,
    alpn::{Alpn, AlpnNames},
    authority::{Authority, TlsConfig, Trust},
    stream::Stream,
    upstream::{Connector, Identity, UpstreamTlsError, end_point},
};
