"""Counts the packets that the loopback device carries to a port: TCP and UDP, over IPv4 and IPv6. Runs
outside every job.

    capture.py PORT

Prints `capturing` once it sees packets, and their number when standard input closes.
"""

import ctypes
import os
import select
import socket
import struct
import sys

PORT = int(sys.argv[1])
SO_ATTACH_FILTER = 26
LOAD_BYTE, LOAD_HALF, LOAD_HALF_INDEXED, HEADER_LENGTH = 0x30, 0x28, 0x48, 0xB1
EQUAL, RETURN = 0x15, 0x06
TCP, UDP = socket.IPPROTO_TCP, socket.IPPROTO_UDP
# Only TCP and UDP to the port, chosen by the kernel: nothing else fills the buffer (packet(7), bpf in
# socket(7)).
PROGRAMS = {
    0x0800: [
        (LOAD_BYTE, 0, 0, 9),  # the protocol
        (EQUAL, 1, 0, TCP),
        (EQUAL, 0, 4, UDP),
        (HEADER_LENGTH, 0, 0, 0),
        (LOAD_HALF_INDEXED, 0, 0, 2),  # the destination port
        (EQUAL, 0, 1, PORT),
        (RETURN, 0, 0, 0xFFFF),
        (RETURN, 0, 0, 0),
    ],
    0x86DD: [
        (LOAD_BYTE, 0, 0, 6),  # the next header: loopback's packets have no extensions
        (EQUAL, 1, 0, TCP),
        (EQUAL, 0, 3, UDP),
        (LOAD_HALF, 0, 0, 42),  # the destination port
        (EQUAL, 0, 1, PORT),
        (RETURN, 0, 0, 0xFFFF),
        (RETURN, 0, 0, 0),
    ],
}


def capture(ether_type):
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ether_type))
    packets.bind(("lo", ether_type))
    packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
    program = PROGRAMS[ether_type]
    filters = b"".join(struct.pack("HBBI", *step) for step in program)
    kept = ctypes.create_string_buffer(filters, len(filters))
    attached = struct.pack("HxxxxxxP", len(program), ctypes.addressof(kept))
    packets.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, attached)
    packets.setblocking(False)
    try:
        while True:
            packets.recv(65536)
    except BlockingIOError:
        pass  # Packets that arrived before the filter was attached are thrown away.
    return packets


captures = [capture(ether_type) for ether_type in PROGRAMS]
# Each capture must see a packet of its own, or it would count none.
for packets, family, host in zip(captures, (socket.AF_INET, socket.AF_INET6), ("127.0.0.1", "::1")):
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.sendto(b"probe", (host, PORT))
    select.select([packets], [], [])
    packets.recv(65536)
print("capturing", flush=True)

seen = 0
while True:
    ready, _, _ = select.select([*captures, 0], [], [])
    for packets in ready:
        if packets != 0:
            packets.recv(65536)
            seen += 1
    if ready == [0] and not os.read(0, 4096):
        break
print(seen, flush=True)
