//! What the kernel side refuses by itself: the name of each reason in metrics, and its words in the log.

use agent_abi::Refusal;

/// Every reason, in the order of their counters.
pub const ALL: [Refusal; 6] = [
    Refusal::SocketKind,
    Refusal::Datagram,
    Refusal::NoListener,
    Refusal::NoLease,
    Refusal::NoStorage,
    Refusal::Receiver,
];

/// The reason behind an event's `detail`; `None` for a number that this agent does not know.
pub fn of_detail(detail: u64) -> Option<Refusal> {
    ALL.into_iter().find(|refusal| *refusal as u64 == detail)
}

/// The reason's `reason` label in `lineal_kernel_refusals_total`.
pub const fn label(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::SocketKind => "socket_kind",
        Refusal::Datagram => "datagram",
        Refusal::NoListener => "no_listener",
        Refusal::NoLease => "no_lease",
        Refusal::NoStorage => "no_storage",
        Refusal::Receiver => "receiver",
    }
}

/// The reason as the log states it.
pub const fn words(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::SocketKind => "this kind of socket, or this socket option, would bypass the redirect",
        Refusal::Datagram => {
            "UDP is allowed only to the job's own sockets on this host, and to the destinations in \
             kernel.resolvers while the job has access"
        }
        Refusal::NoListener => "the agent does not listen in this network namespace",
        Refusal::NoLease => "the agent's lease has lapsed: it was stopped or could not renew it in time",
        Refusal::NoStorage => "the kernel had no memory to mark the socket",
        Refusal::Receiver => "only a socket of the same job may receive it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_found_by_its_number_and_has_its_own_label() {
        for (index, refusal) in ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, index, "{refusal:?} is out of order");
            assert_eq!(of_detail(index as u64), Some(refusal));
            assert_eq!(ALL.iter().filter(|other| label(**other) == label(refusal)).count(), 1);
        }
        assert_eq!(of_detail(ALL.len() as u64), None);
    }
}
