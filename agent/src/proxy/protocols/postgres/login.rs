//! Logging in to a server with a credential of the agent's own: the job's client is asked for nothing.

use agent_core::postgres::Startup;
use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::{
    authentication::{md5_hash, sasl},
    message::{
        backend::{ErrorResponseBody, Message},
        frontend,
    },
};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    logins::Login,
    tls::{Stream, end_point},
};

/// No message of this exchange is longer.
const MESSAGE_BYTES_MAX: usize = 16 << 10;

/// Why the agent is not logged in.
#[derive(Debug, Error)]
pub enum LoginError {
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(#[from] std::io::Error),
    /// The server says no.
    #[error("{message} ({sqlstate})")]
    Refused {
        /// Its SQLSTATE.
        sqlstate: String,
        /// Its message.
        message: String,
    },
    /// The server asks for a password, and the credential has none.
    #[error("it asks for a password, and the credential has none")]
    NoPassword,
    /// The server asks for the password as it is, and nobody has vouched for who it is.
    #[error(
        "it asks for the password in the clear, which takes TLS with a verified name (tls.mode = \"verify-full\")"
    )]
    Clear,
    /// The server asks for what the agent can't do.
    #[error("it asks for an authentication that is not supported here: {0}")]
    Unsupported(String),
    /// The server broke the protocol.
    #[error("it broke the protocol: {0}")]
    Protocol(&'static str),
}

/// Logs in as `role`, otherwise as the client's startup message asks. Answers what the server has sent from
/// AuthenticationOk on, with the protocol's negotiation, if there was one, in front. `verified` says that the server's
/// certificate bears its name.
pub async fn login(
    stream: &mut Stream,
    startup: &Startup,
    role: &str,
    login: &Login,
    verified: bool,
) -> Result<Vec<u8>, LoginError> {
    stream.write_all(&startup.as_role(role)).await?;
    stream.flush().await?;
    let mut input = BytesMut::with_capacity(1 << 10);
    let mut output = BytesMut::new();
    let mut kept = Vec::new();
    let mut scram: Option<sasl::ScramSha256> = None;
    let mut proven = true;
    loop {
        let message = read(stream, &mut input).await?;
        let password = || login.password.as_ref().map(|secret| secret.reveal()).ok_or(LoginError::NoPassword);
        match message.first() {
            // NegotiateProtocolVersion is the client's to know.
            Some(b'v') => {
                kept.extend_from_slice(&message);
                continue;
            }
            Some(b'N') => continue,
            _ => {}
        }
        let mut parsed = message.clone();
        let parsed =
            Message::parse(&mut parsed).ok().flatten().ok_or(LoginError::Protocol("no such message"))?;
        match parsed {
            Message::AuthenticationOk if !proven => {
                return Err(LoginError::Protocol("it did not prove that it knows the password"));
            }
            Message::AuthenticationOk => {
                kept.extend_from_slice(&message);
                kept.extend_from_slice(&input);
                return Ok(kept);
            }
            Message::AuthenticationCleartextPassword if !(verified && stream.is_encrypted()) => {
                return Err(LoginError::Clear);
            }
            Message::AuthenticationCleartextPassword => {
                frontend::password_message(password()?, &mut output)?;
            }
            Message::AuthenticationMd5Password(body) => {
                let hash = md5_hash(role.as_bytes(), password()?, body.salt());
                frontend::password_message(hash.as_bytes(), &mut output)?;
            }
            Message::AuthenticationSasl(body) if scram.is_none() => {
                let offered: Vec<String> = body.mechanisms().map(|name| Ok(name.to_owned())).collect()?;
                let (mechanism, binding) = choose(&offered, stream)?;
                let exchange = sasl::ScramSha256::new(password()?, binding);
                frontend::sasl_initial_response(mechanism, exchange.message(), &mut output)?;
                scram = Some(exchange);
                proven = false;
            }
            Message::AuthenticationSaslContinue(body) => {
                let exchange = scram.as_mut().ok_or(LoginError::Protocol("SCRAM goes on before it began"))?;
                exchange.update(body.data())?;
                frontend::sasl_response(exchange.message(), &mut output)?;
            }
            Message::AuthenticationSaslFinal(body) => {
                let exchange = scram.as_mut().ok_or(LoginError::Protocol("SCRAM ends before it began"))?;
                exchange.finish(body.data())?;
                proven = true;
            }
            Message::ErrorResponse(body) => return Err(refused(&body)),
            Message::AuthenticationGss | Message::AuthenticationSspi | Message::AuthenticationKerberosV5 => {
                return Err(LoginError::Unsupported("GSSAPI or SSPI".to_owned()));
            }
            _ => return Err(LoginError::Protocol("a message that has no place in authentication")),
        }
        let written = stream.write_all(&output).await;
        zeroize::Zeroize::zeroize(&mut output[..]);
        output.clear();
        written?;
        stream.flush().await?;
    }
}

/// The strongest of the mechanisms that both sides have.
fn choose(offered: &[String], stream: &Stream) -> Result<(&'static str, sasl::ChannelBinding), LoginError> {
    let has = |name: &str| offered.iter().any(|offered| offered == name);
    match end_point(stream) {
        Some(hash) if has(sasl::SCRAM_SHA_256_PLUS) => {
            Ok((sasl::SCRAM_SHA_256_PLUS, sasl::ChannelBinding::tls_server_end_point(hash)))
        }
        // It offers no binding that could be taken: it must not be told that it does.
        Some(_) if has(sasl::SCRAM_SHA_256) => Ok((sasl::SCRAM_SHA_256, sasl::ChannelBinding::unrequested())),
        None if has(sasl::SCRAM_SHA_256) => Ok((sasl::SCRAM_SHA_256, sasl::ChannelBinding::unsupported())),
        _ => Err(LoginError::Unsupported(offered.join(", "))),
    }
}

/// One message, whole.
async fn read(stream: &mut Stream, input: &mut BytesMut) -> Result<BytesMut, LoginError> {
    loop {
        if let Some(&[_, a, b, c, d]) = input.first_chunk::<5>() {
            let bytes = 1 + u32::from_be_bytes([a, b, c, d]) as usize;
            if !(5..=MESSAGE_BYTES_MAX).contains(&bytes) {
                return Err(LoginError::Protocol("a message of an impossible length"));
            }
            if input.len() >= bytes {
                return Ok(input.split_to(bytes));
            }
        }
        if stream.read_buf(input).await? == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
    }
}

fn refused(body: &ErrorResponseBody) -> LoginError {
    let (mut sqlstate, mut message) = (String::new(), String::new());
    let mut fields = body.fields();
    while let Ok(Some(field)) = fields.next() {
        let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'C' => sqlstate = value,
            b'M' => message = value,
            _ => {}
        }
    }
    LoginError::Refused { sqlstate, message }
}
