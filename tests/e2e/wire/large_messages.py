# Client → lineal → server: a query for one row of SIZE bytes; a Bind with one huge parameter; one huge
# CopyData message. Back: the row whole, the parameter's length, and a COPY of no rows: counted by bytes, not
# kept.
raw.settimeout(None)
SIZE = MEGABYTES * 1000 * 1000
def count(readies):
    """What comes back: bytes of rows, and errors and command tags."""
    global buffered
    rows, errors = 0, []
    while readies:
        while len(buffered) < 5:
            buffered += raw.recv(1 << 20)
        kind, left = buffered[:1], struct.unpack("!I", buffered[1:5])[0] - 4
        buffered = buffered[5:]
        body = b""
        if kind == b"D":
            rows += left
        while left:
            piece = buffered[:left] or raw.recv(min(left, 1 << 20))
            buffered = buffered[len(piece):] if buffered else b""
            left -= len(piece)
            if kind in b"EC":
                body += piece
        if kind in b"EC":
            errors.append(body[:90])
        readies -= kind == b"Z"
    return rows, errors
raw.sendall(query(f"SELECT repeat('x', {SIZE})"))
print(count(1))
def pour(count):
    piece = b"y" * (1 << 20)
    while count:
        raw.sendall(piece[:min(count, len(piece))])
        count -= min(count, len(piece))
BIG = SIZE * 6 // 10
raw.sendall(parse("", "SELECT length($1)"))
raw.sendall(b"B" + struct.pack("!I", 4 + 2 + 2 + 2 + 4 + BIG + 2) + b"\0\0" + struct.pack("!HHI", 0, 1, BIG))
pour(BIG)
raw.sendall(b"\0\0" + execute("") + SYNC)
print(count(1))
# One CopyData message of one row, which the COPY then leaves out.
raw.sendall(query("CREATE TEMP TABLE big (t text)") + query("COPY big FROM STDIN WHERE t IS NULL"))
print(count(1))
raw.sendall(b"d" + struct.pack("!I", 4 + BIG))
pour(BIG - 1)
raw.sendall(b"\n" + message(b"c", b""))
print(count(1))
