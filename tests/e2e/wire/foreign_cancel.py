# Client → lineal: a CancelRequest with the key of another job's session. Back: the connection ends, as it
# always does after a CancelRequest, and the other job's query runs on.
request = connect(60)
request.sendall(untyped(CANCEL_REQUEST, bytes.fromhex(sys.argv[1])))
print(request.recv(1))
