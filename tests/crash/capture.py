"""Counts what the network carries to a port, from outside every job: packets on the loopback device, TCP and UDP.

    capture.py PORT

Says `capturing`; when standard input closes, says how many.
"""

import os
import select
import socket
import struct
import sys

PORT = int(sys.argv[1])
ETH_P_IP = 0x0800

packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP))
packets.bind(("lo", ETH_P_IP))
packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
# Only TCP and UDP to the port, chosen by the kernel: nothing else fills the buffer (packet(7), bpf in socket(7)).
program = [
    (0x30, 0, 0, 9),  # A = protocol
    (0x15, 1, 0, socket.IPPROTO_TCP),
    (0x15, 0, 4, socket.IPPROTO_UDP),
    (0xB1, 0, 0, 0),  # X = length of the header
    (0x48, 0, 0, 2),  # A = destination port
    (0x15, 0, 1, PORT),
    (0x06, 0, 0, 0xFFFF),
    (0x06, 0, 0, 0),
]
filters = b"".join(struct.pack("HBBI", *step) for step in program)
kept = (__import__("ctypes").c_char * len(filters)).from_buffer_copy(filters)
address = __import__("ctypes").addressof(kept)
SO_ATTACH_FILTER = 26
packets.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HxxxxxxP", len(program), address))
packets.setblocking(False)
try:
    while True:
        packets.recv(65536)
except BlockingIOError:
    pass  # What came before the filter.

# It must see what there is to see.
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
    probe.sendto(b"probe", ("127.0.0.1", PORT))
select.select([packets], [], [])
packets.recv(65536)
print("capturing", flush=True)

seen = 0
while True:
    ready, _, _ = select.select([packets, 0], [], [])
    if packets in ready:
        packets.recv(65536)
        seen += 1
    elif not os.read(0, 4096):
        break
print(seen, flush=True)
