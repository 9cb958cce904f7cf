//! Logging in to an upstream with a login of the agent's own: the job's client is asked for nothing, and
//! learns nothing of the secret.

use std::io::ErrorKind;

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

/// The longest message that the agent takes from the upstream before it is logged in, type byte included.
const MESSAGE_BYTES_MAX: usize = 16 << 10;

/// Why the agent is not logged in.
#[derive(Debug, Error)]
pub enum LoginError {
    /// The connection broke. `postgres_protocol` also reports as an I/O error, and so lands here: a message
    /// whose contents cannot be read, and a password with a NUL in it.
    #[error("the connection broke: {0}")]
    Broken(#[from] std::io::Error),
    /// The upstream refuses the login.
    #[error("{message} ({sqlstate})")]
    Refused {
        /// Its SQLSTATE.
        sqlstate: String,
        /// Its message.
        message: String,
        /// The whole ErrorResponse.
        whole: Vec<u8>,
    },
    /// The upstream closed in place of an answer.
    #[error("it closed the connection")]
    Closed,
    /// The upstream asks for a password, and the login has none.
    #[error("it asks for a password, and the agent's login has none: configure one")]
    NoPassword,
    /// The upstream asks for the password in the clear, and its identity is not verified.
    #[error(
        "it asks for the password in the clear, which takes TLS with a verified name \
         (tls.mode = \"verify-full\")"
    )]
    Clear,
    /// The upstream asks for an authentication method that the agent does not have.
    #[error("it asks for an authentication that is not supported here: {0}")]
    Unsupported(String),
    /// The upstream broke the protocol.
    #[error("it broke the protocol: {0}")]
    Protocol(&'static str),
}

/// What an impostor of the upstream is found out by.
const UNPROVEN: &str = "it did not prove that it knows the password";

/// Logs in as `role`, otherwise as the client's startup message asks. Returns the bytes for the client: the
/// upstream's NegotiateProtocolVersion, if there was one, then its AuthenticationOk, then what has already
/// arrived behind that. The rest, up to ReadyForQuery, is still to be read from `stream`. `verified` says
/// that the upstream's certificate was found to bear its name.
pub async fn login(
    stream: &mut Stream,
    startup: &Startup,
    role: &str,
    login: &Login,
    verified: bool,
) -> Result<Vec<u8>, LoginError> {
    stream.write_all(&startup.as_role(role)).await?;
    stream.flush().await?;
    let mut exchange = Exchange { role, login, verified, scram: None, proven: true };
    let mut input = BytesMut::with_capacity(1 << 10);
    let mut kept = Vec::new();
    loop {
        let message = read(stream, &mut input).await?;
        match message.first() {
            // NegotiateProtocolVersion concerns the client.
            Some(b'v') => kept.extend_from_slice(&message),
            // A NoticeResponse during authentication does not.
            Some(b'N') => {}
            _ => match exchange.answer(stream, &message)? {
                Some(mut answer) => {
                    let written = stream.write_all(&answer).await;
                    zeroize::Zeroize::zeroize(&mut answer[..]);
                    written?;
                    stream.flush().await?;
                }
                None => {
                    kept.extend_from_slice(&message);
                    kept.extend_from_slice(&input);
                    return Ok(kept);
                }
            },
        }
    }
}

/// One authentication exchange.
struct Exchange<'a> {
    role: &'a str,
    login: &'a Login,
    verified: bool,
    scram: Option<sasl::ScramSha256>,
    /// False from the start of SCRAM until the upstream has proved that it knows the password. The other
    /// methods ask the upstream for no proof.
    proven: bool,
}

impl Exchange<'_> {
    /// What to send for an authentication message, which may be nothing; `None` when the agent is logged in.
    fn answer(&mut self, stream: &Stream, message: &BytesMut) -> Result<Option<BytesMut>, LoginError> {
        let mut answer = BytesMut::new();
        let mut parsed = message.clone();
        let parsed =
            Message::parse(&mut parsed).ok().flatten().ok_or(LoginError::Protocol("no such message"))?;
        match parsed {
            Message::AuthenticationOk if !self.proven => {
                return Err(LoginError::Protocol(UNPROVEN));
            }
            Message::AuthenticationOk => return Ok(None),
            Message::AuthenticationCleartextPassword if !(self.verified && stream.is_encrypted()) => {
                return Err(LoginError::Clear);
            }
            Message::AuthenticationCleartextPassword => {
                frontend::password_message(self.password()?, &mut answer)?;
            }
            Message::AuthenticationMd5Password(body) => {
                let hash = md5_hash(self.role.as_bytes(), self.password()?, body.salt());
                frontend::password_message(hash.as_bytes(), &mut answer)?;
            }
            Message::AuthenticationSasl(body) if self.scram.is_none() => {
                let offered: Vec<String> = body.mechanisms().map(|name| Ok(name.to_owned())).collect()?;
                let (mechanism, binding) = choose(&offered, stream)?;
                let scram = sasl::ScramSha256::new(self.password()?, binding);
                frontend::sasl_initial_response(mechanism, scram.message(), &mut answer)?;
                self.scram = Some(scram);
                self.proven = false;
            }
            Message::AuthenticationSaslContinue(body) => {
                let scram =
                    self.scram.as_mut().ok_or(LoginError::Protocol("SCRAM goes on before it began"))?;
                scram.update(body.data()).map_err(|_| LoginError::Protocol("its SCRAM message is wrong"))?;
                frontend::sasl_response(scram.message(), &mut answer)?;
            }
            Message::AuthenticationSaslFinal(body) => {
                let scram = self.scram.as_mut().ok_or(LoginError::Protocol("SCRAM ends before it began"))?;
                scram.finish(body.data()).map_err(|_| LoginError::Protocol(UNPROVEN))?;
                self.proven = true;
            }
            Message::ErrorResponse(body) => return Err(refused(&body, message.to_vec())),
            Message::AuthenticationGss | Message::AuthenticationSspi | Message::AuthenticationKerberosV5 => {
                return Err(LoginError::Unsupported("GSSAPI or SSPI".to_owned()));
            }
            _ => return Err(LoginError::Protocol("a message that has no place in authentication")),
        }
        Ok(Some(answer))
    }

    fn password(&self) -> Result<&[u8], LoginError> {
        self.login.password.as_ref().map(|secret| secret.reveal()).ok_or(LoginError::NoPassword)
    }
}

/// The strongest of the SCRAM mechanisms that both sides have.
fn choose(offered: &[String], stream: &Stream) -> Result<(&'static str, sasl::ChannelBinding), LoginError> {
    let has = |name: &str| offered.iter().any(|offered| offered == name);
    match end_point(stream) {
        Some(hash) if has(sasl::SCRAM_SHA_256_PLUS) => {
            Ok((sasl::SCRAM_SHA_256_PLUS, sasl::ChannelBinding::tls_server_end_point(hash)))
        }
        // The upstream offers no channel binding. `unrequested` says that the agent could bind, so that an
        // upstream which did offer it notices that its offer was removed on the way (RFC 5802, section 6).
        Some(_) if has(sasl::SCRAM_SHA_256) => Ok((sasl::SCRAM_SHA_256, sasl::ChannelBinding::unrequested())),
        None if has(sasl::SCRAM_SHA_256) => Ok((sasl::SCRAM_SHA_256, sasl::ChannelBinding::unsupported())),
        _ => Err(LoginError::Unsupported(offered.join(", "))),
    }
}

/// Reads one whole message.
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
        match stream.read_buf(input).await {
            Ok(0) => return Err(LoginError::Closed),
            Ok(_) => {}
            // A reset, or TLS that ends without close_notify.
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof) => {
                return Err(LoginError::Closed);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn refused(body: &ErrorResponseBody, whole: Vec<u8>) -> LoginError {
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
    LoginError::Refused { sqlstate, message, whole }
}
