"""Run two or three transactions statement by statement, in every order: who waits is asked of PostgreSQL, not guessed.

The same idea as the laboratory of `mainstay diagnose`, for actors that are no HTTP services. An actor is one
connection and a list of steps; a schedule says whose step is next. A step that waits for a lock stays under way while
others go on, and its actor's next steps follow when it has come back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import permutations
from typing import Any

import psycopg

from mainstay.patterns.messages import driver

Run = Callable[[psycopg.AsyncConnection[Any]], Any]
Step = tuple[str, Run]
"""What it is, for people; and what it does."""


def schedules(steps: Mapping[str, int]) -> Iterator[str]:
    """Every order of the steps of all actors, as a word: ``aabb``, ``abab``, …"""
    yield from sorted(set(map("".join, permutations("".join(name * count for name, count in steps.items())))))


class Stage:
    """Connections for the actors, and one that watches."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connections: dict[str, psycopg.AsyncConnection[Any]] = {}

    async def __aenter__(self) -> Stage:
        self._watch = await psycopg.AsyncConnection.connect(self._dsn, autocommit=True)
        return self

    async def __aexit__(self, *error: object) -> None:
        for connection in [*self._connections.values(), self._watch]:
            await connection.close()

    async def _connection(self, name: str) -> psycopg.AsyncConnection[Any]:
        if name not in self._connections:
            connection = await psycopg.AsyncConnection.connect(self._dsn, autocommit=True)
            await connection.execute(driver._PLANS)
            await connection.execute("SET deadlock_timeout = '50ms'")
            self._connections[name] = connection
        return self._connections[name]

    async def play(self, actors: Mapping[str, Sequence[Step]], schedule: str) -> dict[str, BaseException]:
        """Run one schedule; the error of each actor that had one, after which its other steps are left out."""
        connections = {name: await self._connection(name) for name in actors}
        waiting = {name: list(steps) for name, steps in actors.items()}
        owed = dict.fromkeys(actors, 0)
        under_way: dict[str, asyncio.Task[Any]] = {}
        errors: dict[str, BaseException] = {}

        def reap() -> bool:
            gone = [name for name, task in under_way.items() if task.done()]
            for name in gone:
                if (error := under_way.pop(name).exception()) is not None:
                    errors[name] = error
                    waiting[name].clear()
            return bool(gone)

        def begin() -> bool:
            begun = False
            for name in actors:
                if owed[name] and name not in under_way:
                    owed[name] -= 1
                    if waiting[name]:
                        _, run = waiting[name].pop(0)
                        under_way[name] = asyncio.ensure_future(run(connections[name]))
                        begun = True
            return begun

        async def settle() -> None:
            """Until every step under way has come back, or waits for a lock."""
            async with asyncio.timeout(20):
                while True:
                    if under_way:
                        await asyncio.wait(under_way.values(), timeout=0.005)
                    if reap() or begin():
                        continue
                    if not under_way:
                        return
                    cursor = await self._watch.execute(
                        "SELECT count(*) FROM unnest(%s::int[]) AS pid WHERE cardinality(pg_blocking_pids(pid)) > 0",
                        ([connections[name].info.backend_pid for name in under_way],),
                    )
                    (row,) = await cursor.fetchall()
                    if row[0] == len(under_way) and not any(task.done() for task in under_way.values()):
                        return

        for name in schedule:
            owed[name] += 1
            begin()
            await settle()
        async with asyncio.timeout(20):
            while under_way or any(owed.values()):
                if under_way:
                    await asyncio.wait(under_way.values(), return_when=asyncio.FIRST_COMPLETED)
                reap()
                begin()
        for connection in connections.values():
            await connection.rollback()
        return errors
