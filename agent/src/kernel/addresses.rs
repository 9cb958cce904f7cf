//! Addresses and network namespaces as the maps keep them.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    os::fd::AsRawFd,
};

use agent_abi::{Destination, FlowKey};

/// An address as the maps keep it: network byte order words, IPv4 as `::ffff:a.b.c.d`.
pub fn words_of(address: IpAddr) -> [u32; 4] {
    let octets = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(octets.as_chunks::<4>().0) {
        *word = u32::from_ne_bytes(*bytes);
    }
    words
}

/// The flow map's key for a connection that was accepted from `from` on the listener of `family` (4 or 6).
pub fn flow_key(netns: u64, from: SocketAddr, family: u32) -> FlowKey {
    FlowKey { netns, address: words_of(from.ip()), port: from.port().into(), listener: family }
}

/// A destination as the maps keep it, reached from the network namespace of this cookie.
pub fn destination(netns: u64, to: SocketAddr) -> Destination {
    Destination { netns, address: words_of(to.ip()), port: to.port().into(), reserved: 0 }
}

/// The reverse of [`words_of`]; v4-mapped addresses come out as IPv4.
pub fn address_of(words: [u32; 4], port: u32) -> SocketAddr {
    let mut octets = [0u8; 16];
    for (bytes, word) in octets.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *bytes = word.to_ne_bytes();
    }
    SocketAddr::new(Ipv6Addr::from(octets).to_canonical(), port as u16)
}

/// Cookie of the network namespace that a socket lives in (`SO_NETNS_COOKIE`).
pub fn netns_cookie(socket: &impl AsRawFd) -> std::io::Result<u64> {
    cookie(socket, libc::SO_NETNS_COOKIE)
}

/// A socket's own cookie (`SO_COOKIE`).
pub fn socket_cookie(socket: &impl AsRawFd) -> std::io::Result<u64> {
    cookie(socket, libc::SO_COOKIE)
}

fn cookie(socket: &impl AsRawFd, option: libc::c_int) -> std::io::Result<u64> {
    let mut cookie: u64 = 0;
    let mut len = size_of::<u64>() as libc::socklen_t;
    #[allow(unsafe_code, reason = "no safe wrapper has this socket option")]
    // SAFETY: the kernel writes at most `len` bytes to `cookie`, which outlives the call.
    let answer = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, (&raw mut cookie).cast(), &raw mut len)
    };
    if answer == 0 { Ok(cookie) } else { Err(std::io::Error::last_os_error()) }
}
