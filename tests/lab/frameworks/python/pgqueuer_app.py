"""PgQueuer at run time, on asyncpg: its schema stands already, or is made if the argument is "install"."""

import asyncio
import os
import sys

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries
from pgqueuer.types import QueueExecutionMode


async def main():
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    queries = Queries(AsyncpgDriver(connection))
    if sys.argv[1:] == ["install"]:
        await queries.install()
        return
    done = []
    queuer = PgQueuer(AsyncpgDriver(connection))

    @queuer.entrypoint("add")
    async def add(job):
        done.append(job.payload.decode())

    await queries.enqueue(["add"] * 5, [str(n).encode() for n in range(5)], [0] * 5)
    print("queued", [(row.entrypoint, row.count) for row in await queries.queue_size()])
    await queuer.run(mode=QueueExecutionMode.drain)
    print("worked", sorted(done))
    await connection.close()


asyncio.run(main())
print("done")
