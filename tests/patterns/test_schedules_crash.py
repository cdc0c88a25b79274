"""A worker process is killed at the tick, wherever it stands; the tick is fired exactly once."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest
from jobs_lab import HOURLY, LAST_TICK, empty_tables, sql, until, until_done
from schedules_program import declared

from mainstay.patterns import Database

PROGRAM = Path(__file__).with_name("schedules_program.py")


async def started(db: Database, moment: str) -> asyncio.subprocess.Process:
    """A worker process that dies at its first firing; ``within``: that the test kills while the statement runs."""
    url = db.engine.url.render_as_string(hide_password=False)
    return await asyncio.create_subprocess_exec(sys.executable, str(PROGRAM), url, moment, HOURLY)


async def past_tick(db: Database) -> None:
    """Make the schedule known, and its next tick two hours old."""
    async with declared(db, HOURLY).worker():
        pass
    await sql(db, f"UPDATE mainstay.schedule SET next_at = {LAST_TICK} - interval '2 hours'")


@pytest.mark.parametrize("moment", ["before", "within", "after"])
async def test_killed_at_the_tick(db: Database, moment: str) -> None:
    """Before the statement that fires, while it runs and after it: the next worker finds one firing, or makes it."""
    await empty_tables(db)
    await past_tick(db)
    if moment == "within":
        async with db.engine.connect() as holder:
            # The statement has its row, and waits for the table of messages.
            await holder.exec_driver_sql("LOCK TABLE mainstay.message IN SHARE MODE")
            process = await started(db, moment)
            try:

                async def fires() -> bool:
                    return await sql(
                        db,
                        "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'mainstay.message'::regclass"
                        " AND mode = 'RowExclusiveLock'"
                        " AND EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE '%last_fired%'"
                        " AND pg_stat_activity.pid = pg_locks.pid)",
                    ) == [(1,)]

                await until(fires, 90)
            finally:
                process.send_signal(signal.SIGKILL)
                await process.wait()
            await holder.rollback()
    else:
        process = await started(db, moment)
        async with asyncio.timeout(90):
            assert await process.wait() == -signal.SIGKILL
    async with declared(db, HOURLY).worker(poll=0.1):

        async def written() -> bool:
            return await sql(db, "SELECT count(*) > 0 FROM effect") == [(True,)]

        await until(written)
        await until_done(db)
    rows = await sql(
        db, "SELECT what::timestamptz = last_fired, next_at > now() FROM effect, mainstay.schedule"
    )
    assert rows == [(True, True)]


async def test_both_at_once(db: Database) -> None:
    """Two processes and this one meet at the same tick, again and again; none is fired twice."""
    await empty_tables(db)
    await past_tick(db)
    processes = [await started(db, "never") for _ in range(2)]
    try:
        async with declared(db, HOURLY).worker(poll=0.1):

            async def three() -> bool:
                return await sql(db, "SELECT count(*) FROM mainstay.worker") == [(3,)]

            async def gone() -> bool:
                return await sql(db, "SELECT count(*) FROM mainstay.schedule WHERE next_at <= now()") == [
                    (0,)
                ]

            await until(three, 90)
            await until(gone)
            await until_done(db)
            for n in range(10):
                # A new schedule of the same definition, due since a while.
                await sql(
                    db,
                    "WITH old AS (DELETE FROM mainstay.schedule RETURNING definition)"
                    " INSERT INTO mainstay.schedule (name, definition, next_at)"
                    f" SELECT 'hourly', definition, {LAST_TICK} - interval '2 hours' FROM old",
                )
                await until(gone)
                await until_done(db)
                assert await sql(db, "SELECT count(*) FROM effect") == [(n + 2,)]
    finally:
        for process in processes:
            process.kill()
            await process.wait()
