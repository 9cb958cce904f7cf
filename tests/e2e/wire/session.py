"""A session that psycopg logged in, without TLS, and that is then spoken to by hand: `raw` is its socket."""
import psycopg
connection = psycopg.connect(autocommit=True, sslmode="disable")
raw = socket.socket(fileno=os.dup(connection.fileno()))
raw.setblocking(True)
raw.settimeout(20)
buffered = b""
def replies(readies):
    """What comes back up to a number of ReadyForQuery messages: rows, command tags, errors, values."""
    global buffered
    said = []
    while readies:
        while len(buffered) < 5 or len(buffered) <= struct.unpack("!I", buffered[1:5])[0]:
            piece = raw.recv(65536)
            if not piece:
                return said + ["CLOSED"]
            buffered += piece
        size = 1 + struct.unpack("!I", buffered[1:5])[0]
        kind, body, buffered = buffered[:1], buffered[5:size], buffered[size:]
        if kind == b"Z":
            readies -= 1
        elif kind == b"C":
            said.append(body[:-1].decode())
        elif kind == b"D":
            said.append("row")
        elif kind == b"s":
            said.append("suspended")
        elif kind == b"V":
            said.append("value " + body[4:].decode())
        elif kind == b"E":
            fields = {field[:1]: field[1:].decode() for field in body.split(b"\0") if field}
            said.append(fields[b"C"] + " " + fields[b"M"])
    return said
