//! The kernel side of lineal: which processes descend from a job's root, and where their connections go.
//!
//! - [`lineage`] follows processes, from a root that the agent names or that a rule matches ([`rules`]);
//!   [`tags`] marks them, [`image`] records what they execute.
//! - [`sockets`] stamps the sockets that they make ([`stamps`]).
//! - [`redirect`] sends their TCP connections to the agent's listener ([`listening`]), [`publish`] tells the
//!   agent where each was meant to go, and [`getpeername`] shows that destination to the process.
//! - [`binds`] keeps everybody else off the agent's ports.
//! - [`datagrams`] and [`options`] refuse what cannot be redirected: UDP, and source routes. [`egress`]
//!   judges the packets that no call shows, and those that stay in their job ([`receivers`], [`packets`]).
//! - [`shares`] bounds what one job can take of the maps that all jobs share.
//!
//! The programs decide nothing about content: that is the agent's work. A process outside every job costs
//! them one test of one bit an event.

#![no_std]
#![no_main]
// Atomic additions: both supported compilers build this crate with unstable features on.
#![feature(asm_experimental_arch)]

mod binds;
mod calls;
mod datagrams;
mod egress;
mod events;
mod getpeername;
mod image;
mod lineage;
mod listening;
mod maps;
mod offsets;
mod options;
mod packets;
mod publish;
mod receivers;
mod redirect;
mod rules;
mod shares;
mod sockets;
mod stamps;
mod tags;
mod words;

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
