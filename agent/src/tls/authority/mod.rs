//! The host's certificate authority. It vouches to this host's jobs that the agent is the server they meant
//! to reach.
//!
//! It is made on the first start. Jobs trust it through the files in the public directory ([`Trust`]); its
//! key never leaves the state directory.

mod error;
mod leaf;
mod signer;
mod trust;

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use prometheus::IntCounter;
use tokio_rustls::rustls::ServerConfig;

pub use self::{
    error::AuthorityError,
    trust::{TlsConfig, Trust},
};
use self::{error::file_error, leaf::Leaves, signer::Signer};
use super::alpn::AlpnNames;

/// An authority that expires sooner is replaced: a job may run for as long as this.
const LEFT_MIN: Duration = Duration::from_secs(90 * 86_400);

/// The host's authority.
pub struct Authority {
    state_dir: PathBuf,
    config: TlsConfig,
    issuing: Mutex<Issuing>,
}

/// What certificates are made with, and those already made with it.
struct Issuing {
    signer: Signer,
    leaves: Leaves,
}

impl Authority {
    /// Reads the authority from `state_dir`, or makes it there, and publishes what jobs are to trust.
    /// `made_anew` counts how often the bound on kept certificates was reached, and all had to be made anew.
    pub fn open(state_dir: &Path, config: &TlsConfig, made_anew: IntCounter) -> Result<Self, AuthorityError> {
        let signer = match Signer::read(state_dir)? {
            Some(signer) => signer,
            None => Signer::make(state_dir)?,
        };
        let authority = Self {
            state_dir: state_dir.to_owned(),
            config: config.clone(),
            issuing: Mutex::new(Issuing { signer, leaves: Leaves::new(made_anew) }),
        };
        authority.renew()?;
        authority.publish()?;
        Ok(authority)
    }

    /// The files that jobs are told to trust.
    pub fn trust(&self) -> Trust {
        Trust::of(&self.config)
    }

    /// Replaces the authority. New connections get certificates of the new one at once; jobs go on trusting
    /// the old one until the next rotation.
    pub fn rotate(&self) -> Result<(), AuthorityError> {
        let mut issuing = self.locked();
        let current = signer::certificate_file(&self.state_dir);
        let last = signer::last_certificate_file(&self.state_dir);
        fs::copy(&current, &last).map_err(file_error("keep the last authority in", &last))?;
        issuing.signer = Signer::make(&self.state_dir)?;
        issuing.leaves.clear();
        drop(issuing);
        self.publish()
    }

    /// Replaces the authority if it expires within 90 days.
    pub fn renew(&self) -> Result<(), AuthorityError> {
        let left = self.locked().signer.expires.duration_since(SystemTime::now()).unwrap_or_default();
        if left < LEFT_MIN { self.rotate() } else { Ok(()) }
    }

    /// The configuration to serve a client with that asks for the server `name` at `address`, and speaks
    /// `alpn`.
    pub(super) fn server(
        &self,
        name: Option<&str>,
        address: IpAddr,
        alpn: AlpnNames,
    ) -> Result<Arc<ServerConfig>, AuthorityError> {
        let Issuing { signer, leaves } = &mut *self.locked();
        leaves.get(signer, name, address, alpn)
    }

    fn publish(&self) -> Result<(), AuthorityError> {
        Trust::publish(&self.config, &self.state_dir)
    }

    fn locked(&self) -> MutexGuard<'_, Issuing> {
        // A panic while it was held lost at worst a certificate, which is made anew.
        self.issuing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
