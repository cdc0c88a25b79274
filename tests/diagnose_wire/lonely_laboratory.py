"""A small laboratory in a process of its own, for the tests to interrupt and to kill."""

from __future__ import annotations

import asyncio
import signal
import sys

from mainstay.architect.diagnose.postgres import Postgres
from mainstay.architect.diagnose.proxy import Proxy
from mainstay.architect.diagnose.service import Service

CHILD = (
    "import http.server, sys; http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), None).serve_forever()"
)


async def work(url: str) -> None:
    async with await (Postgres.at(url) if url else Postgres.embedded()) as postgres:
        database = await postgres.create()
        proxy = Proxy(postgres, "alice")
        await proxy.start()
        await proxy.attach(database)
        async with Service([sys.executable, "-c", CHILD, "$PORT"]) as service:
            session = await postgres.connect(await postgres.create(database))
            print("ready", service.pid, postgres.host, flush=True)
            await session.execute("SELECT pg_sleep(600)")


async def main(url: str) -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await work(url)


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1]))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)
