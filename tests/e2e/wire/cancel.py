# Client → lineal → server: a login over TLS, which tells the session's cancel key; then two long queries, and
# for each a CancelRequest with that key, the first over TLS and the second in the clear. Back: query_canceled
# (57014).
import ssl
def open_connection(encrypted):
    raw = connect(60)
    if not encrypted:
        return raw
    raw.sendall(untyped(SSL_REQUEST))
    assert raw.recv(1) == b"S"
    return ssl.create_default_context().wrap_socket(raw, server_hostname="shop.example")
connection = open_connection(True)
stream = connection.makefile("rb")
connection.sendall(startup("app_cleartext"))
while (got := read(stream))[0] != b"Z":
    if got == ASKS_FOR_PASSWORD:
        connection.sendall(password())
    elif got[0] == b"K":
        key = got[1]
print(key.hex(), flush=True)
for encrypted in (True, False):
    connection.sendall(query("SELECT count(*) FROM generate_series(1, 10000000000)"))
    sys.stdin.readline()
    request = open_connection(encrypted)
    request.sendall(untyped(CANCEL_REQUEST, key))
    while (got := read(stream))[0] != b"Z":
        if got[0] == b"E":
            print(b"C57014" in got[1], flush=True)
