//! The storage of sockets: which process made a socket, and where the socket was meant to go.

use agent_abi::{SOCKET_STAMPED, SocketTag, TaskTag};
use aya_ebpf::{
    bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock},
    helpers::generated::bpf_sk_storage_get,
};

use crate::maps::SOCKETS;

/// The stamp of a socket that process `tgid` makes under `tag`.
#[inline(always)]
pub fn stamp_of(tag: &TaskTag, tgid: u32) -> SocketTag {
    SocketTag {
        job: tag.job,
        node: tag.node,
        tgid,
        uid: 0,
        state: SOCKET_STAMPED,
        port: 0,
        address: [0; 4],
        flags: 0,
        reserved: 0,
    }
}

/// The tag that a socket's stamp stands for: of the followed process that made the socket, if one did.
#[inline(always)]
pub fn stamped(sk: *mut bpf_sock) -> Option<TaskTag> {
    if sk.is_null() {
        return None;
    }
    // SAFETY: null or this socket's storage.
    tag_behind(unsafe { socket_tag(sk).as_ref() }?)
}

/// The tag that a stamp stands for.
#[inline(always)]
pub fn tag_behind(stamp: &SocketTag) -> Option<TaskTag> {
    let SocketTag { job, node, .. } = *stamp;
    (job != 0).then_some(TaskTag { job, node, image: 0, born_ns: 0, execs: 0, reserved: 0 })
}

/// The storage of a socket, or null.
#[inline(always)]
pub fn socket_tag(sk: *mut bpf_sock) -> *mut SocketTag {
    storage(sk, core::ptr::null_mut(), 0)
}

/// The storage of a socket, made with `value` if there was none; null when it can't be made.
#[inline(always)]
pub fn socket_tag_or_insert(sk: *mut bpf_sock, value: &mut SocketTag) -> *mut SocketTag {
    storage(sk, value, BPF_SK_STORAGE_GET_F_CREATE.into())
}

/// aya's wrapper takes `sock_addr` contexts only, so the helper is called directly.
#[inline(always)]
fn storage(sk: *mut bpf_sock, value: *mut SocketTag, flags: u64) -> *mut SocketTag {
    // SAFETY: the verifier checks the socket pointer's type and that it isn't null.
    unsafe { bpf_sk_storage_get((&raw const SOCKETS).cast_mut().cast(), sk.cast(), value.cast(), flags) }
        .cast()
}
