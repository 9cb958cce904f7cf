//! Accepting a client's TLS handshake, as the server that it meant to reach.

use std::{io, net::IpAddr};

use tokio::net::TcpStream;
use tokio_rustls::{LazyConfigAcceptor, TlsStream, rustls::server::Acceptor};

use super::{alpn::Alpn, authority::Authority, stream::Stream};

/// The first byte of a TLS connection: a record of type handshake (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;

/// Whether the client begins with TLS. Waits for its first byte, and leaves it to be read.
pub async fn begins_with_tls(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    Ok(stream.peek(&mut first).await? == 1 && first == [HANDSHAKE])
}

impl Authority {
    /// Negotiates TLS with a client that dialled a server at `address` and speaks `alpn`.
    pub async fn accept(&self, client: TcpStream, address: IpAddr, alpn: Alpn) -> io::Result<Stream> {
        let hello = LazyConfigAcceptor::new(Acceptor::default(), client).await?;
        let name = hello.client_hello().server_name().map(str::to_owned);
        let config = self.server(name.as_deref(), address, alpn.names).map_err(io::Error::other)?;
        let stream = hello.into_stream(config).await?;
        let agreed = stream.get_ref().1.alpn_protocol();
        // A client that names only other protocols has been refused in the handshake (RFC 7301, section 3.2);
        // one that names none has not.
        if alpn.required && !agreed.is_some_and(|agreed| alpn.names.contains(&agreed)) {
            let names: Vec<_> = alpn.names.iter().map(|name| String::from_utf8_lossy(name)).collect();
            let message = format!("TLS came first, without ALPN {}", names.join(" or "));
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(Stream::Tls(Box::new(TlsStream::Server(stream))))
    }
}
