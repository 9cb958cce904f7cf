"""Every way to send a datagram: each function sends to ADDRESS, and raises where it is refused.

The script prints each way with what came of it, and then how many packets have left.
"""
import ctypes, mmap, os, socket, struct, sys

ADDRESS = (sys.argv[1], 9)
MAPPED = ("::ffff:" + ADDRESS[0], ADDRESS[1])
LOCAL = ("192.0.2.1", 9)
UDP, UDP_CORK, UDP_SEGMENT = 17, 1, 103
libc = ctypes.CDLL(None, use_errno=True)


def connected(address=ADDRESS, family=socket.AF_INET):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.connect(address)
    return s


def disconnect(s):
    unspecified = struct.pack("=H14x", socket.AF_UNSPEC)
    assert libc.connect(s.fileno(), unspecified, len(unspecified)) == 0


def send():
    connected().send(b"out")


def sendto():
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"out", ADDRESS)


def sendto_on_a_connected_socket():
    connected().sendto(b"out", ADDRESS)


def sendto_elsewhere():
    connected(LOCAL).sendto(b"out", ADDRESS)


def sendmsg():
    connected().sendmsg([b"out"])


def write():
    s = connected()
    os.write(s.fileno(), b"out")


def after_disconnecting():
    s = connected(LOCAL)
    disconnect(s)
    s.connect(ADDRESS)
    s.send(b"out")


def disconnected_then_named():
    s = connected()
    disconnect(s)
    s.sendto(b"out", ADDRESS)


def corked():
    s = connected()
    s.setsockopt(UDP, UDP_CORK, 1)
    s.send(b"out")
    s.setsockopt(UDP, UDP_CORK, 0)


def more_to_come():
    s = connected()
    s.send(b"out", socket.MSG_MORE)
    s.send(b"out")


def more_to_come_after_connecting_elsewhere():
    s = connected()
    s.send(b"out", socket.MSG_MORE)
    s.connect(LOCAL)
    s.send(b"out")


def in_segments():
    s = connected()
    s.setsockopt(UDP, UDP_SEGMENT, 8)
    s.send(b"out" * 8)


def in_fragments():
    connected().send(b"o" * 4000)


def sendfile():
    with open("/proc/self/exe", "rb") as file:
        s = connected()
        os.sendfile(s.fileno(), file.fileno(), 0, 64)


def splice():
    reading, writing = os.pipe()
    os.write(writing, b"out")
    s = connected()
    os.splice(reading, s.fileno(), 3)


def mapped():
    connected(MAPPED, socket.AF_INET6).send(b"out")


def mapped_and_named():
    socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(b"out", MAPPED)


def mapped_then_made_ipv4():
    s = connected(MAPPED, socket.AF_INET6)
    s.setsockopt(socket.IPPROTO_IPV6, 1, socket.AF_INET)
    s.send(b"out")


def ipv4_address_on_an_ipv6_socket():
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    name = struct.pack("=H", socket.AF_INET) + struct.pack("!H", ADDRESS[1])
    name += socket.inet_aton(ADDRESS[0]) + bytes(8)
    if libc.connect(s.fileno(), name, len(name)) != 0:
        raise OSError(ctypes.get_errno(), "connect")
    s.send(b"out")


def source_route():
    # The header is addressed to the first hop.
    route = bytes([131, 11, 4]) + socket.inet_aton(ADDRESS[0]) + socket.inet_aton("198.51.100.8") + bytes(1)
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.sendmsg([b"out"], [(socket.IPPROTO_IP, 7, route)], 0, ADDRESS)


def by_a_child():
    s = connected()
    child = os.fork()
    if child == 0:
        try:
            s.send(b"out")
            os._exit(0)
        except OSError as error:
            os._exit(error.errno)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise OSError(code, "the child's")


def io_uring():
    # The layout of io_uring_setup(2): an entry that sends, put into the ring and waited for.
    SETUP, ENTER, OP_SEND, GET_EVENTS = 425, 426, 26, 1
    s = connected()
    parameters = ctypes.create_string_buffer(120)
    ring = libc.syscall(SETUP, 1, parameters)
    assert ring >= 0, os.strerror(ctypes.get_errno())
    sq_array, = struct.unpack_from("=I", parameters, 40 + 24)
    sq_tail, = struct.unpack_from("=I", parameters, 40 + 4)
    cq_entries_at, = struct.unpack_from("=I", parameters, 80 + 20)
    submissions = mmap.mmap(ring, 4096, offset=0)
    entries = mmap.mmap(ring, 4096, offset=0x10000000)
    completions = mmap.mmap(ring, 4096, offset=0x8000000)
    data = ctypes.create_string_buffer(b"out")
    entry = struct.pack("=BBHiQQII", OP_SEND, 0, 0, s.fileno(), 0, ctypes.addressof(data), 3, 0)
    entries[: len(entry)] = entry
    submissions[sq_array : sq_array + 4] = struct.pack("=I", 0)
    submissions[sq_tail : sq_tail + 4] = struct.pack("=I", 1)
    assert libc.syscall(ENTER, ring, 1, 1, GET_EVENTS, None, 0) == 1
    result, = struct.unpack_from("=i", completions, cq_entries_at + 8)
    if result < 0:
        raise OSError(-result, "io_uring")


WAYS = [
    send,
    sendto,
    sendto_on_a_connected_socket,
    sendto_elsewhere,
    sendmsg,
    write,
    after_disconnecting,
    disconnected_then_named,
    corked,
    more_to_come,
    more_to_come_after_connecting_elsewhere,
    in_segments,
    in_fragments,
    sendfile,
    splice,
    mapped,
    mapped_and_named,
    mapped_then_made_ipv4,
    ipv4_address_on_an_ipv6_socket,
    source_route,
    by_a_child,
    io_uring,
]


def left():
    with open("/proc/net/dev") as table:
        return next(int(line.split()[10]) for line in table if line.strip().startswith("out:"))


for way in WAYS:
    before = left()
    try:
        way()
        said = "sent"
    except OSError as error:
        said = "refused" if error.errno in (1, 111) else str(error)
    print(way.__name__, said, "left" if left() > before else "stayed")
