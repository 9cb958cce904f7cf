"""A job that never rests: statements over sessions of their own, from itself and from daemons it forks, and attempts to
reach what nobody declared.

    load.py NAME PORT

Each line of standard input is answered when a statement has been served that began after it was read. PORT is where the
outside world listens.
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
    global serial
    serial += 1
    return f"crash {NAME} {by} {os.getpid()} {serial}"


def session(by, statements):
    """Whether all of them were served."""
    try:
        with psycopg.connect(connect_timeout=20, autocommit=True) as connection:
            for _ in range(statements):
                connection.execute(f"SELECT '{mark(by)}'")
        return True
    except psycopg.Error:
        return False


def escape():
    """What must never be seen from outside."""
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"), (socket.AF_INET6, "::ffff:127.0.0.1")):
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
    """What has been asked since; false at the end."""
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
