# A network namespace for clients that are tried both as jobs and directly, and servers in another one that it
# is connected with. Each server has an address of its own, all have port 5432:
#   10.20.0.1  forwards to the lab's PostgreSQL, which is outside the namespace
#   10.20.0.2  nothing listens
#   10.20.0.3  answers as a PostgreSQL that is starting up, by TLS if asked
#   10.20.0.4  answers no SYN: its queue is full
#   10.20.0.5  there is no route
#   10.20.0.6  closes once the client has said something
#   10.20.0.7  forwards as 10.20.0.1 does; the lab's policies do not know it
# Prints the path by which the clients' namespace can be entered. Told "count", it prints how many connections
# it has forwarded; each other line takes the real server and its connections away, or brings it back.
import ctypes, os, socket, ssl, struct, subprocess, sys, threading

upstream, certificate, key = ("127.0.0.1", int(sys.argv[1])), sys.argv[2], sys.argv[3]
libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000

def enter(namespace):
    assert libc.setns(namespace, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())

def present():
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY)

def fresh():
    assert libc.unshare(CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
    return present()

def ip(arguments):
    subprocess.run(["ip", *arguments.split()], check=True)

outside, clients = present(), fresh()
ip("link add near type veth peer name far")
place = fresh()
enter(clients)
ip(f"link set far netns /proc/{os.getpid()}/fd/{place}")
for command in "address add 10.20.0.100/24 dev near", "link set near up", "link set lo up":
    ip(command)
ip("route add unreachable 10.20.0.5/32")
enter(place)
for host in 1, 2, 3, 4, 6, 7:
    ip(f"address add 10.20.0.{host}/24 dev far")
for link in "lo", "far":
    ip(f"link set {link} up")

def listen(host, backlog=64):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((f"10.20.0.{host}", 5432))
    listener.listen(backlog)
    return listener

def serve(listener, handle):
    def one(client):
        try:
            with client:
                handle(client)
        except OSError:
            pass
    def loop():
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=one, args=[client], daemon=True).start()
    threading.Thread(target=loop, daemon=True).start()

def copy(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        sink.close()

forwarded = set()
count = 0

def forward(client):
    global count
    count += 1
    forwarded.add(client)
    with socket.create_connection(upstream) as server:
        back = threading.Thread(target=copy, args=[server, client], daemon=True)
        back.start()
        copy(client, server)
        back.join()

tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain(certificate, key)

def message(client):
    stream = client.makefile("rb", buffering=0)
    return stream.read(struct.unpack("!I", stream.read(4))[0] - 4)

def starting(client):
    while struct.unpack("!I", message(client)[:4])[0] == 80877103:  # SSLRequest
        client.sendall(b"S")
        client = tls.wrap_socket(client, server_side=True)
    fields = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0"
    client.sendall(b"E" + struct.pack("!I", 4 + len(fields)) + fields)
    client.shutdown(socket.SHUT_WR)
    client.recv(1)

real, booting, silent, closing = listen(1), listen(3), listen(4, 0), listen(6)
undeclared = listen(7)
parked = socket.create_connection(("10.20.0.4", 5432))
# A thread stays in the namespace in which it was started.
enter(outside)
serve(real, forward)
serve(booting, starting)
serve(closing, lambda client: client.recv(65536))
serve(undeclared, forward)
print(f"/proc/{os.getpid()}/fd/{clients}", flush=True)
for line in sys.stdin:
    if line == "count\n":
        print(count, flush=True)
    elif real:
        real.shutdown(socket.SHUT_RDWR)
        real.close()
        real = None
        for client in forwarded:
            try:
                client.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # It has ended already.
        forwarded.clear()
        print("gone", flush=True)
    else:
        enter(place)
        real = listen(1)
        enter(outside)
        serve(real, forward)
        print("back", flush=True)
