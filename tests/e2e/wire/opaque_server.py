# A server whose clients say by their first byte how the connection is to end. It prints its port, then for
# each client how that ended the connection: "end", "reset", or "left" if the server left first.
import socket, struct, time
def fails(client):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
def to_the_end(client):
    count = 0
    try:
        while piece := client.recv(65536):
            count += len(piece)
        return count, "end"
    except ConnectionResetError:
        return count, "reset"
def serve(client):
    wish = client.recv(1)
    if wish in b"rf":
        client.sendall(bytes(100000))
        client.recv(1)
        fails(client) if wish == b"r" else client.close()
    elif wish == b"h":
        count, ended = to_the_end(client)
        client.sendall(b"%6d" % count)
        client.close()
        return ended
    elif wish == b"u":
        # Closing with unread bytes is a reset.
        client.recv(1, socket.MSG_PEEK)
        client.close()
    elif wish == b"c":
        client.sendall(b"k")
        return to_the_end(client)[1]
    elif wish == b"p":
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while client.recv(1):
            for piece in (b"1", b"2", b"3"):
                client.sendall(piece)
                time.sleep(0.002)  # So that the next piece is one of its own on the way, too.
        return "end"
    return "left"
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1])
while True:
    print(serve(listener.accept()[0]))
