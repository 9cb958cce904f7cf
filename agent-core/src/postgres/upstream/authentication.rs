//! The upstream's messages while it authenticates the client: protocol negotiation, and authentication
//! requests, which are relayed. Formats and codes are those of the PostgreSQL manual, "Message Formats".
//!
//! The upstream must never settle on a protocol that lineal does not know, nor ask the client for anything
//! once the executor has logged in.

use super::message::Pass;
use crate::postgres::{
    fault::{UpstreamFault, Violation, unexpected},
    startup::MINOR_VERSION_MAX,
    state::{Authentication, ClientAnswer, Phase, Session},
    wire::{self, Fields},
};

/// The code of AuthenticationSASL, the request that lists mechanisms.
const SASL: u32 = 10;

/// How many characters of the list of mechanisms a fault shows.
const MECHANISMS_CHARS_SHOWN: usize = 64;

impl Session {
    /// Takes a message of the authentication phase, up to and including AuthenticationOk.
    pub(super) fn authentication_message(&mut self, tag: u8, body: &[u8]) -> Result<Pass, Violation> {
        let Phase::Authentication(authentication) = &mut self.phase else {
            return Err(unexpected(tag, "authenticating"));
        };
        let mut fields = Fields::new(body);
        match tag {
            b'v' if !authentication.begun => {
                authentication.negotiate(fields)?;
                Ok(Pass::Forward)
            }
            b'R' => {
                let request = authentication.request(&mut fields)?;
                if request == 0 {
                    self.phase = Phase::Settings;
                } else if request == SASL && self.upstream_encrypted {
                    return self.without_channel_binding(fields);
                }
                Ok(Pass::Forward)
            }
            _ => Err(unexpected(tag, "authenticating")),
        }
    }

    /// Takes what follows the code in AuthenticationSASL: the mechanisms' names, then an empty name.
    /// Withholds the mechanisms with channel binding, whose names end in `-PLUS` (RFC 5802, section 4): they
    /// bind the proof to the upstream's certificate, and the client sees another one.
    fn without_channel_binding(&mut self, mut fields: Fields<'_>) -> Result<Pass, Violation> {
        let malformed = UpstreamFault::Malformed { tag: b'R', what: "its mechanisms do not end" };
        let all = fields.rest();
        let mut kept = Vec::with_capacity(all.len());
        loop {
            let name = fields.string().ok_or_else(|| malformed.clone())?;
            if name.is_empty() {
                break;
            }
            if !name.ends_with(b"-PLUS") {
                kept.extend_from_slice(name);
                kept.push(0);
            }
        }
        if kept.is_empty() {
            let all = String::from_utf8_lossy(all).replace('\0', " ");
            let shown = all.trim().chars().take(MECHANISMS_CHARS_SHOWN).collect();
            return Err(UpstreamFault::Mechanisms(shown).into());
        }
        kept.push(0);
        if kept.len() == all.len() {
            return Ok(Pass::Forward);
        }
        if let Phase::Authentication(authentication) = &mut self.phase {
            authentication.binding_withheld = true;
        }
        self.rewritten.clear();
        wire::put(&mut self.rewritten, b'R', &[&SASL.to_be_bytes(), &kept]);
        Ok(Pass::Rewrite)
    }
}

impl Authentication {
    /// Takes NegotiateProtocolVersion: `Int32` version, `Int32` count of the options that the upstream turns
    /// down, then their names.
    fn negotiate(&mut self, mut fields: Fields<'_>) -> Result<(), Violation> {
        let malformed = |what| UpstreamFault::Malformed { tag: b'v', what };
        self.begun = true;
        let version = fields.int32().ok_or(malformed("no version"))?;
        let options = fields.int32().ok_or(malformed("no options"))?;
        // By the manual the field holds the minor version; PostgreSQL sends the whole version. Either way the
        // lower half is the minor version.
        if version & 0xffff > u32::from(MINOR_VERSION_MAX) {
            return Err(UpstreamFault::Negotiation("it settled on a version newer than 3.2").into());
        }
        self.version_above = false;
        // An option that the upstream does not turn down would be in force; `request` refuses that.
        self.options = self.options.saturating_sub(options as usize);
        Ok(())
    }

    /// Takes an authentication request: `Int32` code, then data. Returns the code, and notes whether the
    /// client has to answer.
    fn request(&mut self, fields: &mut Fields<'_>) -> Result<u32, Violation> {
        self.begun = true;
        if self.version_above {
            return Err(UpstreamFault::Negotiation("it took a version newer than 3.2").into());
        }
        if self.options > 0 {
            return Err(UpstreamFault::Negotiation("it took a protocol option").into());
        }
        let request = fields.int32().ok_or(UpstreamFault::Malformed { tag: b'R', what: "no request" })?;
        if self.logged_in && request != 0 {
            return Err(UpstreamFault::AskedAgain.into());
        }
        // A request while the client still owes an answer would make the next answer ambiguous.
        if self.answer == ClientAnswer::Due {
            return Err(unexpected(b'R', "awaiting the client's answer"));
        }
        self.answer = match request {
            // Ok, and SASL final.
            0 | 12 => ClientAnswer::None,
            // Cleartext, MD5, GSS, SSPI, SASL, and SASL continued.
            3 | 5 | 7 | 9 | SASL | 11 => ClientAnswer::Due,
            // GSS continued: the last token needs no answer.
            8 => ClientAnswer::Optional,
            other => return Err(UpstreamFault::Authentication(other).into()),
        };
        Ok(request)
    }
}
