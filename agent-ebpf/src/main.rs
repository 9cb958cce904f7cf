//! The kernel side of lineal: who descends from a job's root, and where their connections go.
//!
//! These programs follow processes ([`lineage`]), from a root that the agent names or a rule means ([`rules`]), stamp
//! their sockets ([`sockets`]), send their TCP connections to the agent's listener ([`redirect`]), which nobody else may
//! become ([`binds`]), and refuse what can't be sent there, as datagrams ([`datagrams`]) and source routes ([`options`]).
//! What a job leaves in the maps that all share is bounded ([`shares`]). They decide nothing about content: that is the agent's work.
//! A task outside every job costs a test of one bit an event.

#![no_std]
#![no_main]
// Atomic additions: both supported compilers build this crate with unstable features on.
#![feature(asm_experimental_arch)]

mod binds;
mod datagrams;
mod image;
mod lineage;
mod maps;
mod offsets;
mod options;
mod redirect;
mod rules;
mod shares;
mod sockets;

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
