//! Tells the agent where a redirected connection was meant to go.
//!
//! The flow is published under the connection's source address before the SYN leaves, so that it is in the
//! map before the agent can accept the connection.

use agent_abi::{Flow, FlowKey, SOCKET_REDIRECTED_V4, SOCKET_REDIRECTED_V6, mapped, stat};
use aya_ebpf::{
    bindings::{BPF_ANY, BPF_SOCK_OPS_TCP_CONNECT_CB},
    helpers::{bpf_ktime_get_ns, generated::bpf_get_netns_cookie},
    macros::sock_ops,
    programs::SockOpsContext,
};

use crate::{maps::FLOWS, stamps::socket_tag, words::count};

/// A sock_ops program's answer; it has no effect on the connection.
const DONE: u32 = 1;

/// Runs as a TCP socket is about to send its SYN.
#[sock_ops]
pub fn lineal_publish(ctx: SockOpsContext) -> u32 {
    if ctx.op() != BPF_SOCK_OPS_TCP_CONNECT_CB {
        return DONE;
    }
    let ops = ctx.ops;
    // Each field is read once, before any branch on the family: the verifier refuses a moved context pointer.
    // SAFETY: the context's own fields.
    let (sk, local_ip4, port, a, b, c, d) = unsafe {
        (
            (*ops).__bindgen_anon_2.sk,
            (&raw const (*ops).local_ip4).read_volatile(),
            (&raw const (*ops).local_port).read_volatile(),
            (&raw const (*ops).local_ip6[0]).read_volatile(),
            (&raw const (*ops).local_ip6[1]).read_volatile(),
            (&raw const (*ops).local_ip6[2]).read_volatile(),
            (&raw const (*ops).local_ip6[3]).read_volatile(),
        )
    };
    if sk.is_null() {
        return DONE;
    }
    let storage = socket_tag(sk);
    if storage.is_null() {
        return DONE;
    }
    // SAFETY: checked above; connect holds the socket's lock.
    let tag = unsafe { &*storage };
    let (address, listener) = match tag.state {
        SOCKET_REDIRECTED_V4 => (mapped(local_ip4), 4),
        SOCKET_REDIRECTED_V6 => ([a, b, c, d], 6),
        _ => return DONE,
    };
    // SAFETY: the helpers only take this program's own context.
    let (netns, time_ns) = unsafe { (bpf_get_netns_cookie(ops.cast()), bpf_ktime_get_ns()) };
    let key = FlowKey { netns, address, port, listener };
    let flow = Flow {
        job: tag.job,
        node: tag.node,
        time_ns,
        tgid: tag.tgid,
        uid: tag.uid,
        address: tag.address,
        port: tag.port,
        reserved: 0,
    };
    if FLOWS.insert(key, flow, BPF_ANY.into()).is_err() {
        count(stat::FLOWS_FULL); // The agent closes a connection that it finds no flow for.
    }
    DONE
}
