//! One adapter for each protocol. This file alone tells protocols apart: a new one adds its folder here, a
//! field for what its sessions share, and an arm.
//!
//! An adapter owns a session from its first byte to its end. It reads commands, has them decided and
//! recorded, and forwards one only for the permit that a recorded decision makes ([`agent_core::ruling`]).

mod postgres;
mod tcp;

use std::net::{SocketAddr, TcpStream};

use agent_policy::{Protocol, Upstream};

use super::{reach::Origin, session::Session};
use crate::kernel::netns::Netns;

/// From where `to`, an address of an upstream, is dialled for a job in the network namespace `netns` whose
/// credential has these groups; `None` if it is dialled from nowhere.
pub fn origin(upstream: &Upstream, groups: &[String], netns: &Netns, to: SocketAddr) -> Option<Origin> {
    match upstream.protocol {
        Protocol::Postgres => {
            postgres::origin(&upstream.leg, upstream.leg.login_for(groups).is_some(), netns, to)
        }
        Protocol::Tcp => Some(Origin::Job),
    }
}

/// What each protocol's sessions share among themselves.
#[derive(Default)]
pub struct Protocols {
    postgres: postgres::Shared,
}

impl Protocols {
    /// Serves one connection to its end, by the protocol that its upstream is declared to speak.
    pub async fn serve(&self, session: Session, client: TcpStream) {
        // Boxed: the adapters' futures differ much in size, and most connections need the small one.
        match session.protocol {
            Protocol::Postgres => Box::pin(postgres::serve(&self.postgres, session, client)).await,
            Protocol::Tcp => Box::pin(tcp::serve(session, client)).await,
        }
    }
}
