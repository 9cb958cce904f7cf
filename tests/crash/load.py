"""A job that works without pause: it and the daemons that it forks run statements over one session after
another, and try to reach a destination that no policy declares.

    load.py NAME PORT

PORT is where that destination, the outside world, listens. A line of standard input is answered once a
statement was served that began after the line was read.
"""

import os
import select
import socket
import sys
import time

import psycopg

NAME, PORT = sys.argv[1], int(sys.argv[2])
PAUSE = 0.005
serial = 0
unread = b""
asked = []


def mark(by):
    """A text for a statement that says which job and process ran it; no two are alike."""
    global serial
    serial += 1
    return f"crash {NAME} {by} {os.getpid()} {serial}"


def session(by, statements):
    """Runs statements over a new session; whether all of them were served."""
    try:
        with psycopg.connect(connect_timeout=20, autocommit=True) as connection:
            for _ in range(statements):
                connection.execute(f"SELECT '{mark(by)}'")
        return True
    except psycopg.Error:
        return False


def escape():
    """Sends what the outside world must never receive."""
    destinations = (
        (socket.AF_INET, "127.0.0.1"),
        (socket.AF_INET6, "::1"),
        (socket.AF_INET6, "::ffff:127.0.0.1"),
    )
    for family, host in destinations:
        with socket.socket(family) as stream:
            stream.settimeout(20)
            try:
                stream.connect((host, PORT))
                stream.sendall(b"out")
            except OSError:
                pass
        with socket.socket(family, socket.SOCK_DGRAM) as datagrams:
            try:
                datagrams.sendto(b"out", (host, PORT))
            except OSError:
                pass


def daemon():
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            session("daemon", 1)
            escape()
        os._exit(0)
    os.waitpid(child, 0)


def read():
    """Reads the lines that came since the last call into `asked`; false once standard input has closed."""
    global unread
    while select.select([0], [], [], 0)[0]:
        piece = os.read(0, 4096)
        if not piece:
            return False
        *lines, unread = (unread + piece).split(b"\n")
        asked.extend(lines)
    return True


rounds = 0
while read():
    rounds += 1
    due = len(asked)
    if session("self", 1 + rounds % 4):
        for line in asked[:due]:
            print(line.decode(), flush=True)
        del asked[:due]
    else:
        time.sleep(PAUSE)
    escape()
    if rounds % 3 == 0:
        daemon()
