//! A connection's beginning: encryption is negotiated until the client has said what it wants.

use std::net::SocketAddr;

use agent_core::postgres::{CancelKey, ClientStep, Limits, Question, Session as Machine, Startup};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::dial::ALPN_NAMES;
use crate::{
    proxy::session::ended::{Ended, Refusal},
    tls::{Alpn, Authority, Stream, begins_with_tls},
};

/// Bytes read while a connection hasn't said what it wants: a startup packet and what may be sent ahead.
const OPENING_BYTES: usize = 16 << 10;
/// What an SSLRequest is granted with.
const GRANTED: &[u8] = b"S";

/// A client that has said what it wants.
pub struct Greeted {
    pub client: Stream,
    pub machine: Box<Machine>,
    /// What the client has sent and the machine has not taken.
    pub buffered: Vec<u8>,
    pub wants: Wants,
}

/// What a client wants.
pub enum Wants {
    /// A session: the machine awaits the verdict on this command.
    Session { command: u64, startup: Box<Startup> },
    /// To cancel what another session runs.
    Cancel(CancelKey),
    /// Something that it is refused; the client is told why.
    Refused(Refusal),
}

/// Negotiates with a client that dialled `destination`. The error says how the connection ended: there is
/// nobody to talk to any more.
pub async fn greet(
    client: TcpStream,
    destination: SocketAddr,
    authority: Option<&Authority>,
) -> Result<Greeted, Ended> {
    let left = |_| Ended::ClientLeft;
    let mut machine = Box::new(Machine::new(Limits::default()));
    let mut buffered = Vec::with_capacity(OPENING_BYTES);
    let mut client = match authority {
        Some(authority) if begins_with_tls(&client).await.map_err(left)? => {
            machine.begun_with_tls();
            shake(authority, client, destination, false).await?
        }
        Some(_) => {
            machine.offer_tls();
            Stream::Plain(client)
        }
        None => Stream::Plain(client),
    };
    let wants = loop {
        match machine.client(&buffered) {
            Err(violation) => {
                break Wants::Refused(refused(violation.to_string()));
            }
            Ok(ClientStep::NeedMore { .. }) if buffered.len() >= OPENING_BYTES => {
                break Wants::Refused(refused("the startup packet is too long"));
            }
            Ok(ClientStep::NeedMore { .. }) => match client.read_buf(&mut buffered).await {
                Ok(0) | Err(_) => return Err(Ended::ClientLeft),
                Ok(_) => {}
            },
            Ok(ClientStep::Reply { consumed, client: answer }) => {
                client.write_all(answer).await.map_err(left)?;
                client.flush().await.map_err(left)?;
                buffered.drain(..consumed);
            }
            Ok(ClientStep::Tls { consumed }) => {
                buffered.drain(..consumed);
                // Offered with an authority only, and once.
                let (Stream::Plain(mut plain), Some(authority)) = (client, authority) else {
                    return Err(Ended::Internal);
                };
                plain.write_all(GRANTED).await.map_err(left)?;
                client = shake(authority, plain, destination, true).await?;
            }
            Ok(ClientStep::Cancel { key }) => break Wants::Cancel(key),
            Ok(ClientStep::Judge { command, question: Question::Startup(startup), .. }) => {
                break Wants::Session { command, startup: Box::new(startup.clone()) };
            }
            Ok(ClientStep::End) => return Err(Ended::ClientLeft),
            Ok(
                ClientStep::Wait | ClientStep::Forward(_) | ClientStep::Replace(_) | ClientStep::Judge { .. },
            ) => {
                break Wants::Refused(refused("the connection does not begin with a startup packet"));
            }
        }
    };
    Ok(Greeted { client, machine, buffered, wants })
}

fn refused(words: impl Into<String>) -> Refusal {
    Refusal::new(Ended::ProtocolViolation, words)
}

/// Negotiates TLS with a client that asked for it by an SSLRequest (`asked_first`), or began with it. A
/// client that began with it must name PostgreSQL by ALPN (the manual, "SSL Session Encryption").
async fn shake(
    authority: &Authority,
    client: TcpStream,
    destination: SocketAddr,
    asked_first: bool,
) -> Result<Stream, Ended> {
    let alpn = Alpn { names: ALPN_NAMES, required: !asked_first };
    authority.accept(client, destination.ip(), alpn).await.map_err(|error| {
        // The usual one: the client does not trust this host's authority.
        tracing::info!(%error, "the client's TLS handshake failed");
        Ended::ClientTlsFailed
    })
}
