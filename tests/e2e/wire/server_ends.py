# Client → lineal → server: a query that sleeps, and behind it as much as the connections hold, so that the
# server leaves it unread; then another session terminates the first one. Back: the server's reason (57P01).
import select
many = query("SELECT 1 /* " + "x" * 100000 + " */") * 600
for _ in range(6):
    ending = psycopg.connect(autocommit=True, sslmode="disable")
    raw = socket.socket(fileno=os.dup(ending.fileno()))
    raw.setblocking(False)
    raw.sendall(query("SELECT pg_sleep(600)"))
    unsent = memoryview(many)
    while select.select([], [raw], [], 0.3)[1]:
        unsent = unsent[raw.send(unsent):]
    assert unsent, "the connections hold more than this"
    connection.execute("SELECT pg_terminate_backend(%s)", (ending.info.backend_pid,))
    raw.setblocking(True)
    raw.settimeout(20)
    print(b"C57P01" in read_to_end(raw))
