"""One process at a time does a thing, and the others stand by: an advisory lock of PostgreSQL tells which.

The lock belongs to a connection that does nothing else. A process that dies loses it at once; of one that is stopped
or cut off, PostgreSQL ends that connection after `SILENT` seconds. Who notices that its connection has ended gives up
its work, within `BEAT` seconds, and who takes over waits for twice as long before it begins. So two are at work only
where one was stopped for longer than `SILENT` and goes on: until it notices.
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
"""Seconds without a sign of life after which the lock is free. (A server before version 14 keeps it for longer.)"""

_TAKE = parse("take", "SELECT pg_try_advisory_lock(:number::bigint)")
_LIVE = parse("live", "SELECT true")
_LIMIT = parse(
    "limit",
    "SELECT set_config(name, :seconds::text || 's', false) FROM pg_settings WHERE name = 'idle_session_timeout'",
)


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
    beside the pool of `database`, which must lead to the server itself or through a pooler by session: one that
    hands out servers by transaction (PgBouncer in transaction mode) keeps nobody from the lock.

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
            await driver.fetch(_LIMIT, seconds=str(max(1, round(silent))))
            while not (await driver.fetch(_TAKE, number=lock_number(name)))[0][0]:
                heed_cancellation()
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
                    await driver.fetch(_LIVE)
            except Exception as error:  # whatever a driver raises whose connection is gone
                log.warning("%s: this process gives up its turn, for it was cut off: %r", name, error)
                return False
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
