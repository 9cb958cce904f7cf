# Client → lineal: an SSLRequest with a plaintext startup message right behind it, in one piece and in two.
# Back: an error ("E") that names the cause; in two pieces "S" and then the end, never the server's SCRAM
# request.
raw = connect()
raw.sendall(untyped(SSL_REQUEST) + startup("app"))
got = b""
while piece := raw.recv(65536):
    got += piece
print(got[:1].decode(), b"data behind an encryption request" in got)
# In two pieces: lineal has granted TLS by then, and a startup message is not a handshake.
raw = connect()
raw.sendall(untyped(SSL_REQUEST))
print(raw.recv(1).decode())
raw.sendall(startup("app"))
print(b"SCRAM" in read_to_end(raw))
