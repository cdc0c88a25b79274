"""One process at a time does a thing, and the others stand by: an advisory lock of PostgreSQL tells which.

The lock belongs to a transaction that does nothing else, on a connection of its own. So it also holds behind a pooler,
and it is free as soon as that connection ends, whoever ends it: a process that dies loses it at once, one that is
stopped or cut off after `SILENT` seconds, by PostgreSQL's idle_in_transaction_session_timeout. Under READ COMMITTED a
transaction at rest has no snapshot, so it keeps vacuum from nothing.

Who notices that its connection has ended gives up its work, within `BEAT` seconds, and who takes over waits for twice
as long before it begins. So two are at work only where one was stopped for longer than `SILENT` and goes on: until it
notices.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from mainstay.patterns.brokers.holding import heed_cancellation
from mainstay.patterns.database import Database
from mainstay.patterns.messages.driver import Driver, connect
from mainstay.patterns.messages.statements import parse
from mainstay.patterns.transaction import lock_number

log = logging.getLogger("mainstay.patterns.brokers")

LOOK = 1.0
"""Seconds between two looks whether the lock is free, and between two attempts to reach the database."""
BEAT = 1.0
"""Seconds between two signs of life; one may take five times as long."""
SILENT = 30.0
"""Seconds without a sign of life after which the lock is free."""

_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
# The second limit came with version 17, and would end the transaction however lively it is.
_LIMIT = parse(
    "limit",
    "SELECT set_config(name, CASE name WHEN 'transaction_timeout' THEN '0' ELSE :silent::text END, true)"
    " FROM pg_settings WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')",
)
_TAKE = parse("take", "SELECT pg_try_advisory_xact_lock(:number::bigint)")
_LIVE = "SELECT true"


async def while_alone(
    database: Database,
    name: str,
    work: Callable[[], Awaitable[None]],
    *,
    look: float = LOOK,
    beat: float = BEAT,
    silent: float = SILENT,
) -> None:
    """Do `work` while this process is the one that holds the lock `name`; stand by otherwise.

    When the lock is lost, `work` is cancelled, and begun again when it has been got back. This takes one connection
    beside the pool of `database`, which is idle in a transaction all the while, as ``mainstay stands by``.

    Returns:
        When `work` does. What it raises is raised here.
    """
    while True:
        driver = await _locked(database, name, look, beat, silent)
        try:
            if await _at_work(name, work, driver, beat):
                return
        finally:
            await driver.close()
        await asyncio.sleep(look)


async def _locked(database: Database, name: str, look: float, beat: float, silent: float) -> Driver:
    """A connection that holds the lock, however long that takes."""
    told = False
    while True:
        heed_cancellation()
        driver: Driver | None = None
        try:
            driver = await connect(database, "stands by")
            while True:
                heed_cancellation()
                await driver.run(_BEGIN)
                await driver.fetch(_LIMIT, silent=f"{round(silent * 1000)}ms")
                if (await driver.fetch(_TAKE, number=lock_number(name)))[0][0]:
                    await driver.run(
                        _LIVE
                    )  # by the simple protocol, whose end lets go of the last one's snapshot
                    break
                await driver.run("ROLLBACK")
                if not told:
                    log.info("%s: another process is at work, and this one stands by", name)
                told = True
                await asyncio.sleep(look)
            if told:
                log.info("%s: this process takes over", name)
                await asyncio.sleep(2 * beat)
            return driver
        except BaseException as error:  # cancelled, or whatever a driver raises whose database is away
            if driver is not None:
                await driver.close()
            if not isinstance(error, Exception):
                raise
            log.warning("%s: the database cannot be asked whose turn it is: %r", name, error)
        await asyncio.sleep(look)


async def _at_work(name: str, work: Callable[[], Awaitable[None]], driver: Driver, beat: float) -> bool:
    """Whether `work` has come to its end; False where the lock was lost, and it was cancelled."""
    task = asyncio.ensure_future(work())
    try:
        while True:
            heed_cancellation()
            await asyncio.wait((task,), timeout=beat)
            if task.done():
                task.result()
                return True
            try:
                async with asyncio.timeout(5 * beat):
                    await driver.run(_LIVE)
            except Exception as error:  # whatever a driver raises whose connection is gone
                log.warning("%s: this process gives up its turn, for it was cut off: %r", name, error)
                return False
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
