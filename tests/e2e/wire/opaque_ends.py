# Client → lineal → server (`opaque_server.py`): connections that the server resets after 100,000 bytes, ends
# after as many, answers after the client's half-close, and closes with unread bytes; then one that the client
# resets. Back: how many bytes came, and how the connection ended.
import socket, struct
def ask(wish):
    raw = socket.create_connection(("127.0.0.1", PORT), timeout=20)
    raw.sendall(wish)
    return raw
def rest(raw, count=0):
    try:
        while piece := raw.recv(65536):
            count += len(piece)
        return print(count, "end")
    except ConnectionResetError:
        print(count, "reset")
for wish in (b"r", b"f"):
    raw, count = ask(wish), 0
    while count < 100000:
        count += len(raw.recv(65536))
    raw.sendall(b"k")
    rest(raw, count)
raw = ask(b"hello")
raw.shutdown(socket.SHUT_WR)
rest(raw)
rest(ask(b"u" + bytes(1000)))
raw = ask(b"c")
raw.recv(1)
raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
raw.close()
