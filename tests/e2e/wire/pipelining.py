# Client → lineal → server: Executes that fetch a portal two rows at a time, a Flush without a Sync, Syncs
# ahead of their answers, a failing statement, a denied one, a FunctionCall. Back: each answer in its place;
# after an error, only the messages up to the next Sync are skipped.
FLUSH = message(b"H", b"")
raw.sendall(query("BEGIN") + parse("", "SELECT generate_series(1, 5)") + bind("five", "")
            + execute("five", 2) + execute("five", 2) + execute("five", 2) + SYNC)
print(replies(2))
# A Flush alone, without a Sync, brings the answers, up to PortalSuspended (s).
raw.sendall(bind("again", "") + execute("again", 1) + FLUSH)
kinds = b""
while kinds[-1:] != b"s":
    header = raw.recv(5, socket.MSG_WAITALL)
    raw.recv(struct.unpack("!I", header[1:])[0] - 4, socket.MSG_WAITALL) if header[1:] != b"\0\0\0\4" else b""
    kinds += header[:1]
print(kinds.decode())
raw.sendall(SYNC + SYNC + SYNC + query("ROLLBACK"))
print(replies(4))
# The server's error and lineal's denial each skip the rest of their segment, and the next segment runs.
raw.sendall(parse("", "SELECT 1/0") + bind("", "") + execute("") + parse("", "SELECT 7") + SYNC
            + parse("", "SELECT 8") + bind("", "") + execute("") + SYNC
            + parse("", "SELECT * FROM forbidden") + bind("", "") + execute("") + SYNC
            + parse("", "SELECT 9") + bind("", "") + execute("") + SYNC)
print(replies(4))
# abs(integer), by its OID.
raw.sendall(message(b"F", struct.pack("!IHHI2sH", 1397, 0, 1, 2, b"-7", 0)))
print(replies(1))
