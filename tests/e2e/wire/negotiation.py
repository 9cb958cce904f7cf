# Client → lineal → server: a startup message for protocol 3.2 with an option `_pq_.novelty` that nobody
# knows. Back: NegotiateProtocolVersion with the newest version the server speaks and the unknown option; then
# a plain login.
raw = connect()
body = b"user\0app_cleartext\0database\0shop\0_pq_.novelty\0" + b"on\0\0"
raw.sendall(untyped(PROTOCOL_3 + 2, body))
stream = raw.makefile("rb")
got = read(stream)
# The newest version that the server speaks, as a minor number or whole, and the options that it does not
# know.
print(got[0].decode(), got[1] == struct.pack("!II", 0, 1) + b"_pq_.novelty\0"
      or got[1] == struct.pack("!II", PROTOCOL_3, 1) + b"_pq_.novelty\0")
while got[0] != b"Z":
    got = read(stream)
    if got == ASKS_FOR_PASSWORD:
        raw.sendall(password())
    if got[0] == b"E":
        print(got[1])
raw.sendall(query("SELECT 1"))
print([read(stream)[0].decode() for _ in range(4)])
