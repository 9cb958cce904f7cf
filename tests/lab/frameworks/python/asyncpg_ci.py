"""asyncpg, what a test suite needs beside changing rows: COPY, LISTEN, temporary tables, MERGE, scripts."""

import asyncio
import os

import asyncpg


async def main():
    pool = await asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=2, max_size=4)
    async with pool.acquire() as connection:
        rows = [(3 + n, f"label {n}") for n in range(1, 20)]
        print(
            "copied", await connection.copy_records_to_table("labels", records=rows, columns=["id", "name"])
        )
        print(
            "sequence",
            await connection.fetchval("SELECT setval('labels_id_seq', (SELECT max(id) FROM labels))"),
        )
        await connection.execute("CREATE TEMP TABLE staging (id bigint, note text)")
        await connection.copy_records_to_table("staging", records=[(1, "one"), (2, "two")])
        print("staged", await connection.fetchval("SELECT count(*) FROM staging"))
        print(
            "merged",
            await connection.execute(
                "MERGE INTO posts p USING staging s ON p.id = s.id WHEN MATCHED THEN UPDATE SET body = s.note"
            ),
        )
        heard = asyncio.Queue()
        await connection.add_listener("news", lambda *note: heard.put_nowait(note[3]))
        await pool.execute("NOTIFY news, 'one'")
        await pool.execute("SELECT pg_notify($1, $2)", "news", "two")
        print("heard", await heard.get(), await heard.get())
        await connection.remove_listener("news", heard.put_nowait)
    async with pool.acquire() as connection:
        print("gone", await connection.fetchval("SELECT to_regclass('pg_temp.staging') IS NOT NULL"))
        await connection.execute("""
            UPDATE posts SET version = 5 WHERE id = 1;
            INSERT INTO labels (name) VALUES ('script');
            DELETE FROM labels WHERE name = 'script';
        """)
        print("script", await connection.fetchval("SELECT version FROM posts WHERE id = 1"))
    await pool.close()
    print("done")


asyncio.run(main())
