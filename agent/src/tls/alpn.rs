//! Which protocol is spoken inside TLS. The protocol's adapter says so; nothing else in `tls` knows any
//! protocol.

/// A protocol's names in TLS handshakes (ALPN, RFC 7301; registered with IANA), the preferred one first.
/// Empty for a protocol that has none.
pub type AlpnNames = &'static [&'static [u8]];

/// What a client is to say of the protocol that it will speak inside TLS.
#[derive(Clone, Copy, Debug)]
pub struct Alpn {
    /// The names accepted from it.
    pub names: AlpnNames,
    /// Whether it must give one of them. Where a client may begin with TLS at once, nothing else tells its
    /// protocol from others; where it has asked for TLS in its protocol's own words first, that has said it.
    pub required: bool,
}
