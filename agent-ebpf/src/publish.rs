//! Tells the agent where a redirected connection was meant to go.
//!
//! The flow is published under the connection's source address before the SYN leaves, so that it is in the
//! map before the agent can accept the connection.

use agent_abi::{Flow, FlowKey, HeldFlow, SOCKET_REDIRECTED_V4, SOCKET_REDIRECTED_V6, mapped, stat};
use aya_ebpf::{
    bindings::{
        BPF_ANY, BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_TCP_CONNECT_CB, BPF_SOCK_OPS_TIMEOUT_INIT, bpf_sock_ops,
    },
    helpers::{bpf_ktime_get_ns, generated::bpf_get_netns_cookie},
    macros::sock_ops,
    programs::SockOpsContext,
};

use crate::{
    hold::{closed, established, first_interval, hold, is_reachable},
    maps::FLOWS,
    stamps::socket_tag,
    words::count,
};

/// A sock_ops program's answer; it has no effect on the connection.
const DONE: u32 = 1;

const TCP_ESTABLISHED: u32 = 1;
const TCP_CLOSE: u32 = 7;

/// Runs as a TCP socket is about to send its SYN, as the kernel asks when to send that again, and as a socket
/// that was held changes its state.
#[sock_ops]
pub fn lineal_publish(ctx: SockOpsContext) -> u32 {
    let ops = ctx.ops;
    match ctx.op() {
        BPF_SOCK_OPS_TCP_CONNECT_CB => publish(ops),
        BPF_SOCK_OPS_TIMEOUT_INIT => {
            // SAFETY: the context's own field.
            let sk = unsafe { (*ops).__bindgen_anon_2.sk };
            if !sk.is_null()
                && let Some(interval) = first_interval(sk)
            {
                ctx.set_reply(interval);
            }
        }
        BPF_SOCK_OPS_STATE_CB => {
            // SAFETY: the context's own fields.
            let (sk, state) = unsafe { ((*ops).__bindgen_anon_2.sk, (*ops).__bindgen_anon_1.args[1]) };
            if !sk.is_null() {
                match state {
                    TCP_ESTABLISHED => established(ops, sk),
                    TCP_CLOSE => closed(sk),
                    _ => {}
                }
            }
        }
        _ => {}
    }
    DONE
}

/// Publishes the flow of a redirected connection, and holds the connection where need be.
#[inline(always)]
fn publish(ops: *mut bpf_sock_ops) {
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
        return;
    }
    let storage = socket_tag(sk);
    if storage.is_null() {
        return;
    }
    // SAFETY: checked above; connect holds the socket's lock.
    let tag = unsafe { &*storage };
    let (address, listener) = match tag.state {
        SOCKET_REDIRECTED_V4 => (mapped(local_ip4), 4),
        SOCKET_REDIRECTED_V6 => ([a, b, c, d], 6),
        _ => return,
    };
    // SAFETY: the helpers only take this program's own context.
    let (netns, time_ns) = unsafe { (bpf_get_netns_cookie(ops.cast()), bpf_ktime_get_ns()) };
    let key = FlowKey { netns, address, port, listener };
    let mut flow = Flow {
        job: tag.job,
        node: tag.node,
        time_ns,
        tgid: tag.tgid,
        uid: tag.uid,
        address: tag.address,
        port: tag.port,
        held: u32::from(!is_reachable(netns, tag)),
    };
    if FLOWS.insert(key, flow, BPF_ANY.into()).is_err() {
        count(stat::FLOWS_FULL); // The agent closes a connection that it finds no flow for.
        return;
    }
    if flow.held != 0 && !hold(ops, sk, HeldFlow { key, time_ns }, &flow) {
        flow.held = 0;
        // Replaces the entry, which needs no room.
        let _ = FLOWS.insert(key, flow, BPF_ANY.into());
    }
}
