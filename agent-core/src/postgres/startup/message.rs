//! The StartupMessage: who connects to which database, and with which parameters.
//!
//! A message that lineal and the server could read differently must never be accepted: the decision would be
//! about another role or database than the session's.

use crate::postgres::{fault::ClientFault, wire::Fields};

/// The newest minor version of protocol 3 that lineal knows. (3.1 was never used.)
pub(in crate::postgres) const MINOR_VERSION_MAX: u16 = 2;

/// PostgreSQL cuts names at this length. A longer name would be one name to a policy and another to
/// PostgreSQL.
const NAME_BYTES_MAX: usize = 63;

/// The parameters that say who connects to which database.
const IDENTITY: [&str; 2] = ["user", "database"];

/// The prefix of protocol options, which client and server negotiate.
pub(super) const PROTOCOL_OPTION: &str = "_pq_.";

/// A StartupMessage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Startup {
    /// The minor version of protocol 3 that the client asks for.
    pub minor_version: u16,
    /// The role that the client asks for.
    pub user: Box<str>,
    /// The database, which defaults to the user's name.
    pub database: Box<str>,
    /// Every parameter as sent, name and value. `user` and `database` are among them, and so are settings;
    /// `options` holds more settings.
    pub parameters: Vec<(Box<str>, Box<str>)>,
}

impl Startup {
    /// Reads what follows the version word of a StartupMessage.
    pub(super) fn read(minor_version: u16, mut fields: Fields<'_>) -> Result<Self, ClientFault> {
        const CUT: ClientFault = ClientFault::StartupMalformed("a parameter is cut short");
        let mut parameters: Vec<(Box<str>, Box<str>)> = Vec::new();
        loop {
            let name = utf8(fields.string().ok_or(CUT)?)?;
            if name.is_empty() {
                break;
            }
            let value = utf8(fields.string().ok_or(CUT)?)?;
            // PostgreSQL takes the last one. A reader that takes the first would decide about another value.
            if parameters.iter().any(|(seen, _)| **seen == *name) {
                return Err(ClientFault::StartupMalformed("a parameter is given twice"));
            }
            parameters.push((name.into(), value.into()));
        }
        if !fields.is_empty() {
            return Err(ClientFault::StartupMalformed("bytes after the last parameter"));
        }
        Self::from_parameters(minor_version, parameters)
    }

    fn from_parameters(
        minor_version: u16,
        parameters: Vec<(Box<str>, Box<str>)>,
    ) -> Result<Self, ClientFault> {
        let value_of =
            |wanted: &str| parameters.iter().find(|(name, _)| **name == *wanted).map(|(_, value)| &**value);
        if value_of("replication")
            .is_some_and(|value| !["false", "off", "no", "0"].iter().any(|no| value.eq_ignore_ascii_case(no)))
        {
            return Err(ClientFault::Replication);
        }
        let user = value_of("user").filter(|user| !user.is_empty());
        let user = user.ok_or(ClientFault::StartupMalformed("no user name"))?;
        let database = value_of("database").filter(|database| !database.is_empty()).unwrap_or(user);
        if user.len() > NAME_BYTES_MAX || database.len() > NAME_BYTES_MAX {
            return Err(ClientFault::StartupMalformed("a user or database name of more than 63 bytes"));
        }
        let (user, database) = (user.into(), database.into());
        Ok(Self { minor_version, user, database, parameters })
    }

    /// A parameter's value.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| **key == *name).map(|(_, value)| &**value)
    }

    /// The bytes of the same message for another role. The database stays the one that this message asks for.
    pub fn as_role(&self, role: &str) -> Vec<u8> {
        let mut body = Vec::new();
        let identity = [("user", role), ("database", &self.database)];
        let others = self.parameters.iter().map(|(name, value)| (&**name, &**value));
        for (name, value) in identity.into_iter().chain(others.filter(|(name, _)| !IDENTITY.contains(name))) {
            for text in [name, value] {
                body.extend_from_slice(text.as_bytes());
                body.push(0);
            }
        }
        body.push(0);
        let mut out = Vec::with_capacity(8 + body.len());
        let length = u32::try_from(8 + body.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&(3 << 16 | u32::from(self.minor_version)).to_be_bytes());
        out.extend_from_slice(&body);
        out
    }

    /// How many protocol options the upstream must turn down.
    pub(in crate::postgres) fn protocol_options(&self) -> usize {
        self.parameters.iter().filter(|(name, _)| name.starts_with(PROTOCOL_OPTION)).count()
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, ClientFault> {
    str::from_utf8(bytes).map_err(|_| ClientFault::StartupMalformed("a parameter is not UTF-8"))
}
