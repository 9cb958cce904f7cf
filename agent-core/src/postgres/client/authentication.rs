//! What the client sends while it is authenticated: answers to the upstream's requests, which are relayed.
//!
//! An answer must never be relayed unless the upstream has asked for it, and none that relies on channel
//! binding where the mechanisms with channel binding were withheld.

use super::bounds::{self, TOKEN_BYTES_MAX};
use crate::postgres::{
    fault::{ClientFault, Violation},
    state::{ClientAnswer, Phase, Session},
    step::ClientNext,
    wire::{Fields, HEADER_BYTES, Header},
};

/// How much of a SASLInitialResponse is looked at: the mechanism, a length, and the GS2 header's first byte.
const SASL_CHOICE_BYTES_MAX: usize = 64;

impl Session {
    /// Looks at the message at the start of `rest`. `None` if it joined the ready bytes.
    pub(super) fn authentication_answer(&mut self, rest: &[u8]) -> Result<Option<ClientNext>, Violation> {
        let Phase::Authentication(authentication) = &mut self.phase else { return Ok(None) };
        if authentication.answer == ClientAnswer::None {
            return Ok(Some(self.flush_or(ClientNext::Wait)));
        }
        let Some(header) = Header::read(rest) else {
            return Ok(Some(self.flush_or(ClientNext::NeedMore(HEADER_BYTES))));
        };
        if header.tag != b'p' {
            return Err(ClientFault::MessageType { tag: header.tag, phase: "during authentication" }.into());
        }
        let body = bounds::body_bytes(header, TOKEN_BYTES_MAX)?;
        if authentication.binding_withheld {
            let wanted = HEADER_BYTES + body.min(SASL_CHOICE_BYTES_MAX);
            let Some(message) = rest.get(..wanted) else {
                return Ok(Some(self.flush_or(ClientNext::NeedMore(wanted))));
            };
            if !is_without_channel_binding(message.get(HEADER_BYTES..).unwrap_or_default()) {
                return Err(ClientFault::ChannelBinding.into());
            }
            authentication.binding_withheld = false;
        }
        authentication.answer = ClientAnswer::None;
        self.forward(HEADER_BYTES + body);
        Ok(None)
    }
}

/// Whether a SASLInitialResponse (`String` mechanism, `Int32` length, data) is free of channel binding.
/// SCRAM's data begins with the GS2 header. Its `n` says that the client does not support channel binding
/// (RFC 5802, section 6). Its `y` says that the client does, and that the server seemed not to: a server that
/// offered it takes that for an attack.
fn is_without_channel_binding(choice: &[u8]) -> bool {
    let mut fields = Fields::new(choice);
    let mechanism = fields.string();
    mechanism.is_some_and(|name| name == b"SCRAM-SHA-256")
        && fields.int32().is_some()
        && fields.byte() == Some(b'n')
}
