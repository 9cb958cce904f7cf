"""Procrastinate at run time: its schema stands already, or is made if the argument is "install"."""

import asyncio
import sys

import procrastinate

app = procrastinate.App(connector=procrastinate.PsycopgConnector())
done = []


@app.task(queue="sums", retry=1)
async def add(a, b):
    done.append(a + b)


@app.task(queue="sums", lock="one", queueing_lock="only")
async def locked():
    done.append("locked")


async def main():
    async with app.open_async():
        if sys.argv[1:] == ["install"]:
            await app.schema_manager.apply_schema_async()
            return
        await add.defer_async(a=1, b=2)
        await add.batch_defer_async(*({"a": n, "b": n} for n in range(10)))
        await locked.defer_async()
        try:
            await locked.defer_async()
        except procrastinate.exceptions.AlreadyEnqueued:
            print("enqueued already")
        await app.run_worker_async(
            wait=False, install_signal_handlers=False, concurrency=2, listen_notify=True
        )
        print("worked", sorted(map(str, done)))
        print("listed", len(list(await app.job_manager.list_jobs_async(status="succeeded"))))


asyncio.run(main())
print("done")
