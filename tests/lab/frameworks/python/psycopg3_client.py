"""psycopg 3: sync and async pools, enums, composites, pipelines, server cursors, nested transactions."""

import asyncio
import enum

import psycopg
from psycopg.rows import dict_row
from psycopg.types.composite import CompositeInfo, register_composite
from psycopg.types.enum import EnumInfo, register_enum
from psycopg_pool import AsyncConnectionPool, ConnectionPool


class Mood(enum.Enum):
    sad = 1
    ok = 2
    happy = 3


def configure(connection):
    register_enum(EnumInfo.fetch(connection, "mood"), connection, Mood)
    register_composite(CompositeInfo.fetch(connection, "money_amount"), connection)
    connection.commit()


with ConnectionPool(
    "", min_size=1, max_size=3, configure=configure, check=ConnectionPool.check_connection
) as pool:
    with pool.connection() as connection:
        print(
            "types",
            connection.execute("SELECT %s::mood, ROW(1.5, 'EUR')::money_amount", (Mood.sad,)).fetchone(),
        )
        insert = "INSERT INTO authors (name, email, mood) VALUES (%s, %s, %s) RETURNING id, mood"
        print("inserted", connection.execute(insert, ("Cleo", "cleo@example.com", Mood.happy)).fetchone())
        with connection.transaction():
            try:
                with connection.transaction("inner"):
                    connection.execute("UPDATE posts SET title = 'inner' WHERE id = 1")
                    raise ValueError("back")
            except ValueError as error:
                print("savepoint", error)
            lock = "SELECT title FROM posts WHERE id = 1 FOR UPDATE OF posts NOWAIT"
            print("locked", connection.execute(lock).fetchone())
        with connection.pipeline():
            for number in range(1, 30):
                connection.execute(
                    "UPDATE posts SET version = %s WHERE id = %s", (number, number), prepare=True
                )
        with connection.cursor(name="many", row_factory=dict_row, scrollable=True) as cursor:
            cursor.execute("SELECT id FROM posts ORDER BY id")
            cursor.scroll(100)
            print("server cursor", cursor.fetchone(), len(cursor.fetchmany(20)))
        with psycopg.ClientCursor(connection) as cursor:
            cursor.executemany(
                "UPDATE posts SET body = %s WHERE id = %s", [("new", n) for n in range(1, 20)]
            )
            print("many", cursor.rowcount)
    with pool.connection() as connection:
        connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        connection.read_only = True
        print("read only", connection.execute("SHOW transaction_isolation").fetchone())


async def main():
    async with AsyncConnectionPool("", min_size=2, max_size=4) as pool:

        async def one(number):
            async with pool.connection() as connection:
                cursor = await connection.execute("SELECT id FROM posts WHERE id = %s", (number,))
                return (await cursor.fetchone())[0]

        print("async", sum(await asyncio.gather(*[one(number) for number in range(1, 30)])))
        async with pool.connection() as connection:
            async with connection.cursor().copy("COPY posts (id, title) TO STDOUT") as copy:
                print("copied out", len([row async for row in copy.rows()]))


asyncio.run(main())
print("done")
