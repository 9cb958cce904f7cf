# Client → lineal → server (`opaque_server.py`): a byte; back: three bytes in pieces of their own. Prints in
# how many of 40 rounds they took as long as the kernel delays an acknowledgement.
import socket, time
raw = socket.create_connection(("127.0.0.1", PORT), timeout=20)
raw.sendall(b"p")
slow = 0
for _ in range(40):
    begun = time.monotonic()
    raw.sendall(b"q")
    count = 0
    while count < 3:
        count += len(raw.recv(3))
    slow += time.monotonic() - begun > 0.035
print(slow)
