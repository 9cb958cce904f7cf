//! The addresses of upstreams, as `upstreams.toml` writes them: each is one address or a range, with a port.

use std::net::{IpAddr, Ipv6Addr};

/// A range of addresses at one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    network: IpAddr,
    pub(super) prefix: u8,
    pub(super) port: u16,
}

/// An address in the form that ranges are compared in. `::ffff:a.b.c.d` is the same destination as `a.b.c.d`:
/// the kernel sends the same packets.
pub(crate) fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

impl Range {
    /// Reads `127.0.0.1:5432`, `10.0.0.0/8:5432`, `[::1]:5432` and `[fd00::/8]:5432`. The error says what is
    /// wrong, in words that follow the address.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (host, port) = text.rsplit_once(':').ok_or("has no port; write ADDRESS:PORT")?;
        let host = match (host.strip_prefix('['), host.contains(':')) {
            (Some(inner), _) => inner.strip_suffix(']').ok_or("has no ']' before its port")?,
            (None, true) => return Err("is IPv6: write [ADDRESS]:PORT".to_owned()),
            (None, false) => host,
        };
        // The parser of u16 accepts "+5432".
        let port = Some(port).filter(|p| p.bytes().all(|b| b.is_ascii_digit())).and_then(|p| p.parse().ok());
        let port = port.filter(|port| *port != 0).ok_or("has no port from 1 to 65535")?;
        let (address, prefix) = match host.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (host, None),
        };
        let address: IpAddr =
            address.parse().map_err(|_| "has no IP address; names are not resolved here".to_owned())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            Some(text) if text.bytes().all(|b| b.is_ascii_digit()) => {
                text.parse().ok().filter(|prefix| *prefix <= bits).ok_or("has an impossible prefix length")?
            }
            Some(_) => return Err("has an impossible prefix length".to_owned()),
        };
        Self { network: address, prefix, port }.canonical()
    }

    /// The same range, with an IPv4-mapped network as IPv4; refused if bits are set after the prefix.
    fn canonical(self) -> Result<Self, String> {
        if masked(self.network, self.prefix) != self.network {
            return Err(format!(
                "has bits set after its prefix; the network is {}",
                masked(self.network, self.prefix)
            ));
        }
        let IpAddr::V6(network) = self.network else { return Ok(self) };
        // If no bits are set after its prefix, a mapped network has all 96 bits of the mapping before it.
        Ok(match network.to_ipv4_mapped().zip(self.prefix.checked_sub(96)) {
            Some((mapped, prefix)) => Self { network: IpAddr::V4(mapped), prefix, ..self },
            None => self,
        })
    }

    /// True if it is a single address.
    pub(super) fn is_single(&self) -> bool {
        self.prefix == if self.network.is_ipv4() { 32 } else { 128 }
    }

    /// True if the address, which must be [`canonical`], is in the range.
    pub(super) fn holds(&self, address: IpAddr) -> bool {
        self.network.is_ipv4() == address.is_ipv4() && masked(address, self.prefix) == self.network
    }
}

/// The address with all bits after the prefix cleared.
fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    }
}
