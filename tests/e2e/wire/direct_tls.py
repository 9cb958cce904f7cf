# Client → lineal: a TLS handshake at once, with and without the ALPN name "postgresql", then a startup
# message. Back: the server's login request ("R") for "postgresql", a closed connection without a name, a
# refused handshake for another name.
import ssl
def begin(protocols):
    context = ssl.create_default_context()
    if protocols:
        context.set_alpn_protocols(protocols)
    secured = context.wrap_socket(connect(), server_hostname="shop.example")
    try:
        secured.sendall(startup("app"))
        return secured.recv(1).decode()
    except OSError as error:
        return "broken"
def attempt(protocols):
    try:
        return begin(protocols) or "closed"
    except ssl.SSLError as error:
        return "refused"
print(attempt(["postgresql"]), attempt(None), attempt(["h2"]))
