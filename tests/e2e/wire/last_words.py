# Client → lineal, in one send: two queries and the session's end, by a Terminate or by closing the client's
# direction alone. Back: both answers, then the end.
connection.execute("CREATE TABLE last_words (id int)")
answers = 0
for number in range(60):
    ending = psycopg.connect(autocommit=True, sslmode="disable")
    stream = socket.socket(fileno=os.dup(ending.fileno()))
    stream.setblocking(True)
    stream.settimeout(20)
    requests = query(f"INSERT INTO last_words VALUES ({number})") + query("SELECT count(*) FROM last_words")
    if number % 2:
        stream.sendall(requests + message(b"X", b""))
    else:
        stream.sendall(requests)
        stream.shutdown(socket.SHUT_WR)
    got = read_to_end(stream)
    answers += got.count(b"INSERT 0 1\0") + got.count(b"SELECT 1\0")
print(answers, connection.execute("SELECT count(*) FROM last_words").fetchone()[0])
connection.execute("DROP TABLE last_words")
