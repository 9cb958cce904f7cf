"""asyncpg: a pool and what it sends to reset a connection, enums, composites, cursors, locks."""

import asyncio
import os

import asyncpg


async def main():
    pool = await asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=2, max_size=4)
    async with pool.acquire() as connection:
        await connection.set_type_codec("jsonb", encoder=str, decoder=str, schema="pg_catalog")
        row = await connection.fetchrow(
            "SELECT $1::mood AS mood, $2::mood[] AS moods", "happy", ["sad", "ok"]
        )
        print("enums", dict(row))
        row = await connection.fetchrow(
            "SELECT ROW(1.5, 'EUR')::money_amount AS amount, 'a@b'::email_address AS mail"
        )
        print("composite", tuple(row["amount"]), row["mail"])
        author = await connection.fetchrow(
            "INSERT INTO authors (name, email, mood, keywords) VALUES ($1, $2, $3, $4) RETURNING id, mood",
            "Cleo",
            "cleo@example.com",
            "sad",
            ["a", "b"],
        )
        print("inserted", dict(author))
    # The connection went back to the pool, and was reset.
    async with pool.acquire() as connection, connection.transaction(isolation="serializable"):
        await connection.execute("UPDATE posts SET version = version + 1 WHERE id = $1", 1)
        try:
            async with connection.transaction():
                await connection.execute("UPDATE posts SET title = 'inner' WHERE id = 1")
                raise ValueError("back")
        except ValueError as error:
            print("savepoint", error)
        print("locked", await connection.fetchval("SELECT title FROM posts WHERE id = 1 FOR NO KEY UPDATE"))
        count = 0
        async for _ in connection.cursor("SELECT id FROM posts WHERE id > $1", 0, prefetch=30):
            count += 1
        print("cursor", count)
        statement = await connection.prepare("SELECT count(*) FROM posts WHERE published = $1")
        print("prepared", await statement.fetchval(True), [a.name for a in statement.get_attributes()])
    await pool.executemany("UPDATE posts SET body = $2 WHERE id = $1", [(n, "new") for n in range(1, 40)])
    out = []

    async def take(data):
        out.append(len(data))

    async with pool.acquire() as connection:
        await connection.copy_from_query("SELECT id FROM posts WHERE id < $1", 50, output=take)
        print("copied out", sum(out) > 0)
    many = await asyncio.gather(
        *[pool.fetchval("SELECT id FROM posts WHERE id = $1", n) for n in range(1, 30)]
    )
    print("many", sum(many))
    await pool.close()
    print("done")


asyncio.run(main())
