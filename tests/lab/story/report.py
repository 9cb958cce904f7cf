"""The job's second generation: runs statements over one session, starts a daemon, tries a tunnel, and then
keeps its session open until it is cut. Prints what came of each step, one JSON object a line, which the story
(tests/src/story.rs) checks. It knows nothing of lineal."""

import json
import os
import select
import sys

import psycopg

STATEMENTS = [
    ("SELECT count(*) FROM orders", ()),
    ("UPDATE orders SET status = 'reviewed' WHERE id = %s", (17,)),
    ("DROP TABLE orders", ()),
    ("DELETE FROM orders", ()),
    ("WITH gone AS (DELETE FROM orders WHERE id = 18 RETURNING id) SELECT id FROM gone", ()),
    ("SELECT 1; DELETE FROM orders WHERE id = 19", ()),
    ("SELECT count(*) FROM orders", ()),
]


def say(**what):
    print(json.dumps({"who": "report.py"} | what), flush=True)


def attempt(connection, statement, parameters=()):
    """Executes one statement and prints its result or its error."""
    try:
        cursor = connection.execute(statement, parameters or None)
        value = str(cursor.fetchone()[0]) if cursor.description else None
        say(statement=statement, rows=cursor.rowcount, value=value)
    except psycopg.Error as error:
        say(statement=statement, sqlstate=error.sqlstate, message=str(error).strip())


def daemonise(*command):
    """Runs a command as a daemon, two forks away and in a session of its own; returns the lines it prints."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        null = os.open(os.devnull, os.O_RDWR)
        for target, source in ((0, null), (1, writer), (2, null)):
            os.dup2(source, target)
        os.execv(command[0], command)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as output:
        return output.read().splitlines()


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    with psycopg.connect(autocommit=True) as connection:
        for statement, parameters in STATEMENTS:
            attempt(connection, statement, parameters)

        say(helper=daemonise("/bin/sh", os.path.join(here, "helper.sh")))

        host, port = os.environ["TUNNEL"].split(":")
        try:
            psycopg.connect(host=host, port=port, connect_timeout=20).close()
            say(tunnel="open")
        except psycopg.OperationalError as error:
            say(tunnel="refused", message=str(error).strip())

        say(waiting=True)
        # The session's socket becomes readable when it is cut, and standard input when the story has ended.
        readable, _, _ = select.select([connection.fileno(), sys.stdin], [], [])
        say(cut=connection.fileno() in readable)
        attempt(connection, "SELECT count(*) FROM orders")
    try:
        psycopg.connect(connect_timeout=20).close()
        say(connect="open")
    except psycopg.OperationalError as error:
        say(connect="refused", message=str(error).strip())


main()
