//! Why a session had to end: what was wrong, and on whose side. The *executor* is the code that owns the
//! sockets and drives the session.
//!
//! A violation is final: the session that returned one returns it to every later call. The texts here reach
//! the client and the agent's log; they must never carry statement text, parameters or key material.

use super::wire::{self, Severity};

/// Why a session cannot go on. Show it to the client as [`Violation::to_client`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The client broke the protocol, or asked for something that lineal does not relay.
    #[error("client: {0}")]
    Client(#[from] ClientFault),
    /// The upstream broke the protocol, or is in a state in which lineal cannot decide.
    #[error("upstream: {0}")]
    Upstream(#[from] UpstreamFault),
    /// The executor called the session against its contract.
    #[error("misuse: {0}")]
    Misuse(#[from] Misuse),
}

impl Violation {
    /// The SQLSTATE for the client: feature_not_supported, program_limit_exceeded, protocol_violation or
    /// internal_error (PostgreSQL manual, "PostgreSQL Error Codes").
    pub fn sqlstate(&self) -> [u8; 5] {
        match self {
            Self::Client(ClientFault::Replication | ClientFault::ProtocolVersion { .. }) => *b"0A000",
            Self::Upstream(UpstreamFault::Setting { .. }) => *b"0A000",
            Self::Client(ClientFault::TooManyPortals { .. }) => *b"54000",
            Self::Client(_) | Self::Upstream(_) => *b"08P01",
            Self::Misuse(_) => *b"XX000",
        }
    }

    /// The FATAL ErrorResponse for the client, which does not learn what the executor did wrong. It may be
    /// sent at a message boundary only: see [`super::Session::at_boundary`].
    pub fn to_client(&self) -> Vec<u8> {
        let text = match self {
            Self::Client(fault) => format!("lineal: {fault}"),
            Self::Upstream(fault) => format!("lineal: {fault}"),
            Self::Misuse(_) => "lineal: internal error".to_owned(),
        };
        fatal_error(self.sqlstate(), &text)
    }
}

/// A FATAL ErrorResponse with this SQLSTATE and message.
pub fn fatal_error(sqlstate: [u8; 5], message: &str) -> Vec<u8> {
    let mut out = Vec::new();
    wire::put_error(&mut out, Severity::Fatal, sqlstate, message, None, None);
    out
}

/// What the client did wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientFault {
    /// The first packet is shorter or longer than one of its kind may be.
    #[error("startup packet of {length} bytes: between 8 and {max} are accepted")]
    StartupLength {
        /// Its length word.
        length: u32,
        /// The longest accepted: [`super::Limits::startup_bytes_max`], or 8 for an encryption request.
        max: usize,
    },
    /// The first packet's fields cannot be read: what is wrong with them.
    #[error("malformed startup packet: {0}")]
    StartupMalformed(&'static str),
    /// The protocol's major version is not 3.
    #[error("protocol version {major}.{minor} is not supported: use 3.0 or 3.2")]
    ProtocolVersion {
        /// Major version.
        major: u16,
        /// Minor version.
        minor: u16,
    },
    /// The client asked for a replication session: its commands are not SQL, and lineal cannot decide on
    /// them.
    #[error("replication connections are refused: remove the startup parameter `replication`")]
    Replication,
    /// More than one SSLRequest or GSSENCRequest.
    #[error("encryption was requested more than once")]
    EncryptionRepeated,
    /// The client binds its SCRAM proof to its own TLS connection, which is not the upstream's.
    #[error(
        "the client uses SCRAM channel binding, which cannot hold through a proxy: connect with \
         channel_binding=disable (PGCHANNELBINDING=disable), or have the administrator configure \
         a login for this upstream"
    )]
    ChannelBinding,
    /// Bytes that were sent before the answer to an SSLRequest or GSSENCRequest: they would be taken for
    /// encrypted ones (CVE-2021-23214).
    #[error("data behind an encryption request, before its answer")]
    DataBehindEncryptionRequest,
    /// A message of a type that is not allowed at this point.
    #[error("unexpected message of type {} {phase}", tag.escape_ascii())]
    MessageType {
        /// Its type byte.
        tag: u8,
        /// Where in the session, as words that follow the message's type.
        phase: &'static str,
    },
    /// A length that PostgreSQL would refuse as well.
    #[error("message of type {} has the invalid length {length}", tag.escape_ascii())]
    MessageLength {
        /// Its type byte.
        tag: u8,
        /// Its length word.
        length: u32,
    },
    /// The body does not have the fields that its type requires.
    #[error("malformed message of type {}: {what}", tag.escape_ascii())]
    Malformed {
        /// Its type byte.
        tag: u8,
        /// What is wrong.
        what: &'static str,
    },
    /// A statement or portal name of more than `max` bytes. PostgreSQL compares 63.
    #[error("message of type {} has a name of more than {max} bytes", tag.escape_ascii())]
    NameLength {
        /// The message's type byte.
        tag: u8,
        /// The limit.
        max: usize,
    },
    /// A statement or portal name that is not ASCII, and that the upstream may read as another name.
    #[error(
        "message of type {} has a name that the database's encoding may change: use a name in ASCII",
        tag.escape_ascii()
    )]
    NameEncoding {
        /// The message's type byte.
        tag: u8,
    },
    /// The client gives a statement or portal the name that must not exist for poison to fail.
    #[error("the name `lineal_denied_` is reserved: choose another")]
    ReservedName,
    /// Too many portals at once.
    #[error("more than {max} portals are open: close portals, or end the transaction")]
    TooManyPortals {
        /// The limit.
        max: usize,
    },
    /// Something other than data while the upstream reads `COPY … FROM STDIN`. PostgreSQL would end the
    /// session too.
    #[error("unexpected message of type {} during COPY from stdin", tag.escape_ascii())]
    DuringCopy {
        /// Its type byte.
        tag: u8,
    },
    /// Commands were pipelined behind a `COPY … FROM STDIN` that failed. Whether the upstream skips or runs
    /// them depends on how far it had read, which no reply tells.
    #[error("commands were sent behind a COPY from stdin that had not been ended, and the COPY failed")]
    BehindFailedCopy,
}

/// What the upstream did wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamFault {
    /// A message that answers nothing the client sent.
    #[error("the upstream sent a message of type {} while {meanwhile}", tag.escape_ascii())]
    Unexpected {
        /// Its type byte.
        tag: u8,
        /// What the session was doing or waiting for, as words that follow *while*.
        meanwhile: &'static str,
    },
    /// A length below 4, or beyond what a message of this type may have.
    #[error("the upstream's message of type {} has the invalid length {length}", tag.escape_ascii())]
    MessageLength {
        /// Its type byte.
        tag: u8,
        /// Its length word.
        length: u32,
    },
    /// The body does not have the fields that its type requires.
    #[error("the upstream's message of type {} is malformed: {what}", tag.escape_ascii())]
    Malformed {
        /// Its type byte.
        tag: u8,
        /// What is wrong.
        what: &'static str,
    },
    /// The upstream accepted a poison, which it should have refused.
    #[error("the upstream accepted the poison that was sent in place of a denied command")]
    PoisonAccepted,
    /// A setting that changes how text is read has a value under which lineal cannot read it.
    #[error("setting {name} is {value}: lineal reads statements only under {accepted}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// Its value as reported, cut short.
        value: Box<str>,
        /// Which values are accepted.
        accepted: &'static str,
    },
    /// The upstream became ready without reporting this setting, which decides how text is read.
    #[error("the upstream did not report its setting {0}")]
    SettingUnreported(&'static str),
    /// The upstream settled on a protocol version or option that lineal does not know; in words.
    #[error("protocol negotiation: {0}")]
    Negotiation(&'static str),
    /// The upstream asks for an authentication method that cannot be relayed: the request's code.
    #[error("authentication request {0} is not supported")]
    Authentication(u32),
    /// CopyBothResponse: the upstream starts replication, although no replication session was asked for.
    #[error("the upstream started a replication stream")]
    CopyBoth,
    /// The upstream offers only these SASL mechanisms, which lineal cannot relay: all use channel binding.
    #[error(
        "the upstream authenticates by {0} alone, which cannot be relayed: have the administrator configure \
         a login for this upstream"
    )]
    Mechanisms(Box<str>),
    /// The upstream asks the client to authenticate, although the executor has logged in for it.
    #[error("the upstream asks for authentication again")]
    AskedAgain,
    /// Bytes after a FATAL error, which is the last thing that an upstream sends.
    #[error("the upstream went on after a FATAL error")]
    AfterFatal,
}

/// What the executor, the caller of the session, did wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misuse {
    /// A ruling on the command of this number, which awaits none, or none of this kind.
    #[error("ruling on command {0}, which awaits no such ruling")]
    Ruling(u64),
    /// The buffer of the client's bytes lacks bytes that the session has seen and not yet consumed.
    #[error("the client's buffer was cut in front of a message that awaits its ruling")]
    Buffer,
}

/// The fault of an upstream that sends a message of type `tag` out of turn; `meanwhile` as in
/// [`UpstreamFault::Unexpected`].
pub(super) fn unexpected(tag: u8, meanwhile: &'static str) -> Violation {
    UpstreamFault::Unexpected { tag, meanwhile }.into()
}
