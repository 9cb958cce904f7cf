"""PostgreSQL's protocol 3.0 by hand, client side: each function returns the bytes of one message.

Every raw-wire script begins with this file."""
import os, socket, struct, sys
PROTOCOL_3, CANCEL_REQUEST, SSL_REQUEST, GSS_REQUEST = 196608, 80877102, 80877103, 80877104
# Before login a message has no kind: a length and a code.
def untyped(code, body=b""): return struct.pack("!II", len(body) + 8, code) + body
def startup(user): return untyped(PROTOCOL_3, b"user\0" + user.encode() + b"\0database\0shop\0\0")
def message(kind, body): return kind + struct.pack("!I", len(body) + 4) + body
def password(): return message(b"p", os.environ["PGPASSWORD"].encode() + b"\0")
def query(text): return message(b"Q", text.encode() + b"\0")
def parse(name, text): return message(b"P", name.encode() + b"\0" + text.encode() + b"\0\0\0")
def bind(portal, name): return message(b"B", portal.encode() + b"\0" + name.encode() + bytes(7))
def execute(portal, rows=0): return message(b"E", portal.encode() + b"\0" + struct.pack("!I", rows))
SYNC = message(b"S", b"")
ASKS_FOR_PASSWORD = (b"R", struct.pack("!I", 3))
def connect(timeout=20):
    """A TCP connection to the server's address, which lineal redirects."""
    return socket.create_connection(("127.0.0.1", int(os.environ["PGPORT"])), timeout=timeout)
def read(stream):
    """The next message of a buffered stream, as its kind and body."""
    header = stream.read(5)
    return header[:1], stream.read(struct.unpack("!I", header[1:])[0] - 4)
def read_to_end(raw):
    """All that comes until lineal closes the connection."""
    got = b""
    try:
        while piece := raw.recv(65536):
            got += piece
    except ConnectionResetError:
        pass
    return got
