"""What the processes do that test_death kills: each program is one pattern, as its page shows it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import asyncpg  # noqa: F401 (imported once, before the processes are forked)
import psycopg  # noqa: F401
from pattern_models import Account, Document, Entry
from sqlalchemy import select, text

from mainstay.patterns import (
    ConditionFailed,
    Database,
    HttpClient,
    Repository,
    StaleWrite,
    Transaction,
    transactional,
    update_one,
)

MARKER = "the program begins"
accounts = Repository(Account)
documents = Repository(Document)

State = tuple[tuple[tuple[str, int], ...], tuple[int, ...], tuple[tuple[str, int], ...]]
"""Accounts by owner with balance, amounts of entries, documents by title with version."""


def state(
    *others: tuple[str, int],
    ann: int = 100,
    entries: tuple[int, ...] = (),
    document: tuple[str, int] = ("draft", 1),
) -> State:
    return tuple(sorted([("ann", ann), *others])), entries, (document,)


async def ann(tx: Transaction) -> int:
    return await tx.scalar(select(Account.id).where(Account.owner == "ann")) or 0


async def unit_of_work(db: Database) -> None:
    async with db.transaction() as tx:
        await accounts.add(tx, Account(owner="bob"))
        account = await accounts.get(tx, await ann(tx))
        account.balance -= 10
        await tx.flush()
        tx.add(Entry(account_id=account.id, amount=-10))


async def after_commit_hook(db: Database) -> None:
    async def hook() -> None:
        async with db.transaction() as tx:
            tx.add(Entry(account_id=await ann(tx), amount=1))

    async with db.transaction() as tx:
        await accounts.add(tx, Account(owner="bob"))
        tx.after_commit(hook)


async def nested(db: Database) -> None:
    async with db.transaction() as tx:
        await accounts.add(tx, Account(owner="bob"))
        with contextlib.suppress(KeyError):
            async with db.transaction():
                await accounts.add(tx, Account(owner="eve"))
                raise KeyError
        async with db.transaction(statement_timeout=30):
            tx.add(Entry(account_id=await ann(tx), amount=5))


@transactional
async def book(tx: Transaction, amount: int) -> None:
    account = await accounts.lock(tx, await ann(tx))
    account.balance += amount
    tx.add(Entry(account_id=account.id, amount=amount))


@transactional
async def book_twice(tx: Transaction) -> None:
    await book(tx, -1)
    await book(tx, -2)


async def service_layer(db: Database) -> None:
    await book_twice(db)


async def row_lock(db: Database) -> None:
    await book(db, -80)


async def advisory_lock(db: Database) -> None:
    async with db.transaction() as tx:
        await tx.advisory_lock("gate")
        tx.add(Account(owner="bob"))


async def serialization_retry(db: Database) -> None:
    tries = 0

    async def work(tx: Transaction) -> None:
        nonlocal tries
        tries += 1
        await accounts.add(tx, Account(owner="bob"))
        if tries == 1:
            await tx.execute(text("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$"))

    await db.run(work, random=lambda: 0.0)


async def conditional_update(db: Database) -> None:
    with contextlib.suppress(ConditionFailed):
        async with db.transaction() as tx:
            await update_one(
                tx, Account, Account.owner == "ann", Account.balance >= 80, balance=Account.balance - 80
            )
            tx.add(Entry(account_id=await ann(tx), amount=-80))


async def version_column(db: Database) -> None:
    with contextlib.suppress(StaleWrite):
        async with db.transaction() as tx:
            id = await tx.scalar(select(Document.id))
            await documents.update(tx, id, version=1, title="final")
            tx.add(Entry(account_id=await ann(tx), amount=7))


async def http_client(db: Database) -> None:
    async with db.transaction() as tx:
        charge = await tx.scalar(select(Account).where(Account.owner == "charge-1"))
        if charge is None:
            charge = await accounts.add(tx, Account(owner="charge-1"))
    async with HttpClient(os.environ["PROVIDER"]) as provider:
        await provider.post("/charges", idempotency_key=charge.owner)
    async with db.transaction() as tx:
        (await accounts.lock(tx, charge.id)).balance = 1


@dataclass(frozen=True)
class Program:
    """What runs, and what the database holds once the server has received so many COMMITs of it."""

    run: Callable[[Database], Awaitable[None]]
    states: tuple[State, ...]
    repeatable: bool = False
    """Run again by whoever finds no outcome, it ends where one undisturbed run does."""


booked = state(ann=20, entries=(-80,))
PROGRAMS = {
    "unit-of-work": Program(unit_of_work, (state(), state(("bob", 0), ann=90, entries=(-10,)))),
    "nested": Program(nested, (state(), state(("bob", 0), entries=(5,)))),
    "service-layer": Program(service_layer, (state(), state(ann=97, entries=(-2, -1)))),
    "after-commit-hook": Program(
        after_commit_hook, (state(), state(("bob", 0)), state(("bob", 0), entries=(1,)))
    ),
    "serialization-retry": Program(serialization_retry, (state(), state(("bob", 0)))),
    "row-lock": Program(row_lock, (state(), booked)),
    "advisory-lock": Program(advisory_lock, (state(), state(("bob", 0)))),
    "conditional-update": Program(conditional_update, (state(), booked), repeatable=True),
    "version-column": Program(
        version_column, (state(), state(entries=(7,), document=("final", 2))), repeatable=True
    ),
    "http-client": Program(
        http_client, (state(), state(("charge-1", 0)), state(("charge-1", 1))), repeatable=True
    ),
}


async def live(name: str, url: str, provider: str) -> None:
    """The life of one process: connect, say so to the wire, run the program, report its end."""
    os.environ["PROVIDER"] = provider
    async with Database(url, pool_size=1) as db:
        async with db.engine.connect() as connection:
            await connection.execute(text(f"SELECT '{MARKER}'"))
        await PROGRAMS[name].run(db)
        os.write(1, b"done\n")


def serve() -> None:
    """Fork a process for each line of standard input; tell its id, and at its end how it ended.

    Forked, because a process that starts from nothing spends a second on imports.
    """
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            try:
                asyncio.run(live(*json.loads(line)))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        os.write(1, f"process {process}\n".encode())
        os.write(1, f"ended {os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])}\n".encode())


if __name__ == "__main__":
    serve()
