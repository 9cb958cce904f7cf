# Client → lineal → server: COPYs whose data and end are sent ahead of the server's answer, one of them
# denied, one failed by the client, one by the extended protocol. Back: one answer each, and the queries
# behind them answered.
data = message(b"d", b"1\n") * 1000
raw.sendall(query("COPY forbidden FROM STDIN"))
print(replies(1))
raw.sendall(query("CREATE TEMP TABLE here (n integer)")
            + query("COPY here FROM STDIN") + data + message(b"c", b"")
            + query("SELECT * FROM forbidden") + query("SELECT count(*) FROM here"))
print(replies(4))
raw.sendall(query("COPY here FROM STDIN") + data + message(b"f", b"changed my mind\0") + query("SELECT 1"))
print([said.replace("COPY from stdin failed: ", "") for said in replies(2)])
# libpq's way: Execute and Sync at once, the data after.
raw.sendall(parse("", "COPY here FROM STDIN") + bind("", "") + execute("") + SYNC
            + data + message(b"c", b"") + SYNC)
print(replies(1))
