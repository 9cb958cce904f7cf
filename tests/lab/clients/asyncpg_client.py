"""The steps that every tested driver runs, with asyncpg: prints a line for each. The environment holds
libpq's variables, and libpq's sslmode in MODE."""

import asyncio
import os
import ssl

import asyncpg


async def main():
    secured = ssl.create_default_context() if os.environ["MODE"] == "verify-full" else False
    connection = await asyncpg.connect(ssl=secured)
    print("select", await connection.fetchval("SELECT 1"))
    prepared = await connection.prepare("SELECT id FROM orders WHERE id = $1")
    print("prepared", *[await prepared.fetchval(number) for number in (41, 42, 43)])
    try:
        await connection.execute("DROP TABLE orders")
    except asyncpg.PostgresError as error:
        print("denied", error.sqlstate)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("UPDATE orders SET status = $1 WHERE id = $2", "lost", 2001)
    try:
        await connection.execute("DELETE FROM orders")
    except asyncpg.PostgresError as error:
        print("denied", error.sqlstate)
    await transaction.rollback()
    print("kept", await connection.fetchval("SELECT count(*) FROM orders WHERE status = 'lost'"))
    update = "UPDATE orders SET status = $1 WHERE id = $2"
    await connection.executemany(update, [("paid", n) for n in range(1, 20)])
    print("rows", len(await connection.fetch("SELECT * FROM orders")))
    try:
        await connection.fetch("SELECT 1/0")
    except asyncpg.PostgresError as error:
        print("error", error.sqlstate)
    try:
        await connection.fetch("SELECT count(*) FROM generate_series(1, 10000000000)", timeout=1)
    except asyncio.TimeoutError:
        print("cancelled")
    print("goes on", await connection.fetchval("SELECT 2"))
    await connection.close()


asyncio.run(main())
