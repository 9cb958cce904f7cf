//! TLS on both of a session's legs: as the server that a job's client meant, by certificates of this host's own
//! authority, and as a client of the real one.
//!
//! - [`authority`]: the host's certificate authority, and what jobs are to trust.
//! - [`server`]: accepting a client's handshake.
//! - [`upstream`]: verifying a server, as far as its upstream says.
//! - [`stream`]: a connection with or without TLS.

mod authority;
mod server;
mod stream;
mod upstream;

pub use authority::{Authority, TlsConfig, Trust};
pub use server::begins_with_tls;
pub use stream::Stream;
pub use upstream::{Connector, Identity, UpstreamTlsError, end_point};
