"""Size and dead rows while a million messages pass through: ``python tests/chaos/bloat.py --messages 1000000``.

A PostgreSQL server of its own, with autovacuum as it is shipped. Publishing and draining go on side by side, by the
engine's own statements: batches are published, leased and completed as workers do it; the backlog stays about the same.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psycopg

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "messages")]
from cluster import Cluster  # noqa: E402
from engine_statements import SQL, Hand  # noqa: E402

from mainstay.patterns import Database  # noqa: E402
from mainstay.patterns.schema import upgrade  # noqa: E402

LOOK = """
SELECT pg_total_relation_size('mainstay.message'), pg_relation_size('mainstay.message'),
       pg_indexes_size('mainstay.message'), n_dead_tup, n_live_tup, autovacuum_count
FROM pg_stat_user_tables WHERE relid = 'mainstay.message'::regclass
"""


def drain(dsn: str, total: int, done: list[int], batch: int) -> None:
    """One worker: lease and complete until all are gone."""
    with Hand(dsn) as hand:
        worker = hand.register(3600.0)
        while sum(done) < total:
            leases = hand.lease(worker, ["q"], batch)
            if not leases:
                time.sleep(0.002)
                continue
            hand.run(
                "complete",
                worker=worker,
                ids=[one.id for one in leases],
                leases=[one.number for one in leases],
            )
            done.append(len(leases))


def measure(total: int, batch: int, backlog: int, workers: int) -> list[dict[str, Any]]:
    """A row for each twentieth of the messages."""
    seen: list[dict[str, Any]] = []
    with Cluster() as cluster:

        async def prepare() -> None:
            async with Database(cluster.dsn) as db:
                await upgrade(db)

        asyncio.run(prepare())
        done: list[int] = []
        threads = [
            threading.Thread(target=drain, args=(cluster.dsn, total, done, batch), daemon=True)
            for _ in range(workers)
        ]
        for thread in threads:
            thread.start()
        begun = time.monotonic()
        published, step = 0, max(batch, total // 20)
        with psycopg.connect(cluster.dsn, autocommit=True) as connection:
            while sum(done) < total:
                if published < total and published - sum(done) < backlog:
                    values = {
                        "kinds": ["k"] * batch,
                        "queues": ["q"] * batch,
                        "payloads": ['{"to": 17}'] * batch,
                    }
                    connection.execute(SQL["publish_many"].named, values)
                    published += batch
                else:
                    time.sleep(0.002)
                if sum(done) >= step * (len(seen) + 1):
                    row = connection.execute(LOOK).fetchall()[0]
                    names = ("all", "table", "indexes", "dead", "live", "vacuums")
                    seen.append(
                        {
                            "done": sum(done),
                            "seconds": time.monotonic() - begun,
                            **dict(zip(names, row, strict=True)),
                        }
                    )
        for thread in threads:
            thread.join()
    return seen


def describe(seen: list[dict[str, Any]]) -> str:
    """A table as Markdown."""
    lines = [
        "| messages done | seconds | table, MB | indexes, MB | dead rows | autovacuums |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {one['done']} | {one['seconds']:.0f} | {one['table'] / 1e6:.1f} | {one['indexes'] / 1e6:.1f} |"
        f" {one['dead']} | {one['vacuums']} |"
        for one in seen
    ]
    return "\n".join(lines)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=200)
    parser.add_argument("--backlog", type=int, default=5_000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    print(describe(measure(options.messages, options.batch, options.backlog, options.workers)))


if __name__ == "__main__":
    main()
