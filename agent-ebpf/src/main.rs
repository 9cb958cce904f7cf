//! The kernel side of lineal: who descends from a job's root, and where their connections go.
//!
//! These programs follow processes ([`lineage`]), stamp their sockets ([`sockets`]), send their TCP
//! connections to the agent's listener ([`redirect`]) and refuse what can't be sent there. They decide
//! nothing about content: that is the agent's work. A task outside every job costs one look-up an event.

#![no_std]
#![no_main]
// Atomic additions: both supported compilers build this crate with unstable features on.
#![feature(asm_experimental_arch)]

mod datagrams;
mod image;
mod lineage;
mod maps;
mod offsets;
mod redirect;
mod sockets;

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
