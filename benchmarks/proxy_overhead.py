"""The wire proxy: what one statement costs more when it goes through it.

The client and the proxy are two processes, as the service and the laboratory are; the server is embedded; direct and
proxied rounds alternate in one run. Every statement passes an open gate and is recorded. Bounded: some 20 s.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

import asyncpg
import psycopg
from measure import table

from mainstay.architect.diagnose.postgres import Postgres
from mainstay.architect.diagnose.proxy import Proxy

ROUNDS, STATEMENTS = 7, 400
SQL = "SELECT id, name FROM item WHERE id = "

Time = Callable[[str], Awaitable[float]]


async def serve() -> None:
    """The laboratory's process: prints both addresses, then serves until its input ends."""
    async with await Postgres.embedded() as postgres:
        database = await postgres.create()
        session = await postgres.connect(database)
        await session.execute("CREATE TABLE item (id int PRIMARY KEY, name text)")
        await session.execute("INSERT INTO item SELECT n, 'item ' || n FROM generate_series(1, 1000) AS n")
        proxy = Proxy(postgres, "alice")
        await proxy.start()
        await proxy.attach(database)
        print(f"postgresql://postgres@/{database.name}?host={postgres.host}&port={postgres.port}")
        print(proxy.url(), flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await proxy.close()


async def with_psycopg(url: str) -> float:
    """Seconds for `STATEMENTS` reads by primary key, one after the other; likewise below."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as client:
        await client.execute("SELECT 1")
        started = time.perf_counter()
        for n in range(STATEMENTS):
            await client.execute(SQL + "%s", (n + 1,))
        return time.perf_counter() - started


async def with_asyncpg(url: str) -> float:
    client = await asyncpg.connect(url)
    await client.fetch(SQL + "$1", 1)
    started = time.perf_counter()
    for n in range(STATEMENTS):
        await client.fetch(SQL + "$1", n + 1)
    seconds = time.perf_counter() - started
    await client.close()
    return seconds


async def pipelined(url: str) -> float:
    """asyncpg's executemany: all in one batch, which the proxy takes apart to hold each statement by itself."""
    client = await asyncpg.connect(url)
    started = time.perf_counter()
    await client.executemany(
        "UPDATE item SET name = $2 WHERE id = $1", [(n + 1, "x") for n in range(STATEMENTS)]
    )
    seconds = time.perf_counter() - started
    await client.close()
    return seconds


async def measure(direct: str, proxied: str) -> list[tuple[str, ...]]:
    """A row of the table for each way of asking."""
    rows: list[tuple[str, ...]] = []
    kinds: list[tuple[str, Time]] = [
        ("psycopg 3", with_psycopg),
        ("asyncpg", with_asyncpg),
        ("asyncpg executemany", pipelined),
    ]
    for name, ask in kinds:
        straight, around = [], []
        for _ in range(ROUNDS):
            straight.append(await ask(direct) / STATEMENTS * 1e6)
            around.append(await ask(proxied) / STATEMENTS * 1e6)
        one, two = statistics.median(straight), statistics.median(around)
        rows.append((name, f"{one:.0f}", f"{two:.0f}", f"{two - one:.0f}", f"{two / one:.1f}×"))
    return rows


def main() -> None:
    laboratory = subprocess.Popen(
        [sys.executable, __file__, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert laboratory.stdin is not None and laboratory.stdout is not None
    direct, proxied = laboratory.stdout.readline().strip(), laboratory.stdout.readline().strip()
    try:
        rows = asyncio.run(measure(direct, proxied))
    finally:
        laboratory.stdin.close()
        laboratory.wait()
    print("## Overhead of the wire proxy\n")
    print(
        f"Microseconds a statement: a read by primary key ({STATEMENTS} in a round, median of {ROUNDS} rounds). "
        "The direct connection is a Unix socket, the way to the proxy is TCP on loopback.\n"
    )
    print(table(("driver", "direct", "through the proxy", "more", "ratio"), rows))


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        asyncio.run(serve())
    else:
        main()
