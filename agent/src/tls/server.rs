//! Accepting a client's handshake, as the server it meant.

use std::io;

use tokio::net::TcpStream;
use tokio_rustls::{LazyConfigAcceptor, TlsStream, rustls::server::Acceptor};

use super::{Authority, Stream, authority::POSTGRES_ALPN};

/// The first byte of a TLS connection: a record of type handshake (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;

/// Whether the client begins with TLS, without asking first. Waits for its first byte and leaves it.
pub async fn begins_with_tls(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    Ok(stream.peek(&mut first).await? == 1 && first == [HANDSHAKE])
}

impl Authority {
    /// Negotiates TLS with a client that dialled the stream's other end's `address` and speaks PostgreSQL. One that
    /// did not ask first has to say so by ALPN, so that no other protocol can be mistaken for it (the manual,
    /// "SSL Session Encryption").
    pub async fn accept(
        &self,
        stream: TcpStream,
        address: std::net::IpAddr,
        asked_first: bool,
    ) -> io::Result<Stream> {
        let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let name = hello.client_hello().server_name().map(str::to_owned);
        let config = self.server(name.as_deref(), address).map_err(io::Error::other)?;
        let stream = hello.into_stream(config).await?;
        if !asked_first && stream.get_ref().1.alpn_protocol() != Some(POSTGRES_ALPN) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "TLS came first, without ALPN postgresql",
            ));
        }
        Ok(Stream::Tls(Box::new(TlsStream::Server(stream))))
    }
}
