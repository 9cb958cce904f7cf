"""psycopg2: pools, enums, composites, execute_batch and execute_values, named cursors, COPY, LISTEN."""

import io
import select

import psycopg2
from psycopg2 import extras, pool
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT

connections = pool.ThreadedConnectionPool(1, 3, "")
connection = connections.getconn()
connection.set_client_encoding("UTF8")
extras.register_composite("money_amount", connection)
extras.register_default_jsonb(connection)
with connection, connection.cursor() as cursor:
    cursor.execute(
        "SELECT ROW(1.5, 'EUR')::money_amount, 'ok'::mood, ARRAY['sad']::mood[], '{\"a\": 1}'::jsonb"
    )
    print("types", cursor.fetchone())
    cursor.execute(
        "INSERT INTO authors (name, email) VALUES (%s, %s) RETURNING id, mood", ("Cleo", "cleo@example.com")
    )
    print("inserted", cursor.fetchone())
    cursor.execute("SELECT title FROM posts WHERE author_id = 1 ORDER BY id FOR UPDATE")
    print("locked", cursor.rowcount)
with connection, connection.cursor() as cursor:
    extras.execute_batch(
        cursor, "UPDATE posts SET version = %s WHERE id = %s", [(n, n) for n in range(1, 50)], page_size=20
    )
    rows = [(3, f"bulk {n}") for n in range(30)]
    sql = "INSERT INTO posts (author_id, title) VALUES %s RETURNING id"
    print("values", len(extras.execute_values(cursor, sql, rows, page_size=10, fetch=True)))
    extras.execute_values(
        cursor,
        "UPDATE posts SET body = d.body FROM (VALUES %s) AS d (id, body) WHERE posts.id = d.id",
        [(n, "new") for n in range(1, 10)],
    )
    print("updated", cursor.rowcount)
    cursor.execute("UPDATE labels SET name = 'new' WHERE id = 1; SELECT name FROM labels WHERE id = 1")
    print("two in one text", cursor.fetchone())
    cursor.execute(
        "WITH gone AS (DELETE FROM posts WHERE title LIKE 'bulk%' RETURNING id), "
        "kept AS (INSERT INTO labels (name) SELECT 'gone ' || count(*) FROM gone RETURNING name) "
        "SELECT name FROM kept"
    )
    print("moved", cursor.fetchone())
with connection, connection.cursor("many", withhold=True) as cursor:
    cursor.itersize = 40
    cursor.execute("SELECT id FROM posts")
    print("named cursor", sum(1 for _ in cursor))
with connection, connection.cursor() as cursor:
    cursor.execute("SAVEPOINT a")
    try:
        cursor.execute("INSERT INTO authors (name, email) VALUES ('x', 'ada@example.com')")
    except psycopg2.errors.UniqueViolation as error:
        print("duplicate", error.pgcode)
        cursor.execute("ROLLBACK TO SAVEPOINT a")
    cursor.execute("RELEASE SAVEPOINT a")
    cursor.copy_expert("COPY labels (name) FROM STDIN WITH (FORMAT csv)", io.StringIO("copied\nalso\n"))
    print("copied", cursor.rowcount)
    out = io.StringIO()
    cursor.copy_expert("COPY (SELECT name FROM labels ORDER BY id) TO STDOUT WITH CSV HEADER", out)
    print("copied out", out.getvalue().split())
    cursor.execute("CREATE TEMP TABLE staging (id bigint PRIMARY KEY, title text) ON COMMIT DROP")
    cursor.copy_from(io.StringIO("1\tone\n2\ttwo\n"), "staging")
    cursor.execute("UPDATE posts SET title = s.title FROM staging s WHERE posts.id = s.id")
    print("staged", cursor.rowcount)
with connection, connection.cursor() as cursor:
    cursor.execute("CREATE TEMPORARY TABLE chosen AS SELECT id FROM posts WHERE published")
    cursor.execute("SELECT id INTO TEMP few FROM posts LIMIT 3")
    cursor.execute("CREATE INDEX ON pg_temp.chosen (id)")
    cursor.execute("SELECT count(*) FROM chosen JOIN posts USING (id)")
    print("temporary", cursor.fetchone())
    cursor.execute("DROP TABLE pg_temp.chosen, pg_temp.few")
    cursor.execute("SELECT setval(pg_get_serial_sequence('labels', 'id'), (SELECT max(id) FROM labels))")
    print("sequence", cursor.fetchone())
    cursor.execute("SELECT pg_try_advisory_xact_lock(42), pg_advisory_lock(43), pg_advisory_unlock(43)")
    print("advisory", cursor.fetchone()[0])
    cursor.execute("DELETE FROM post_labels")
    print("deleted", cursor.rowcount)
    cursor.execute("TRUNCATE post_labels RESTART IDENTITY")
    print("emptied", cursor.statusmessage)
    cursor.execute("LOCK TABLE labels IN SHARE ROW EXCLUSIVE MODE")
    print("table lock", cursor.statusmessage)
connection.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
with connection.cursor() as cursor:
    cursor.execute("LISTEN news")
    other = connections.getconn()
    with other, other.cursor() as sender:
        sender.execute("NOTIFY news, 'one'")
        sender.execute("SELECT pg_notify('news', 'two')")
    connections.putconn(other)
    heard = []
    while len(heard) < 2:
        select.select([connection], [], [], 30)
        connection.poll()
        heard += [note.payload for note in connection.notifies]
        connection.notifies.clear()
    print("heard", heard)
    cursor.execute("UNLISTEN *")
connections.putconn(connection)
connections.closeall()
print("done")
