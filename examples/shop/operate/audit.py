"""Place orders while everything that may die is killed; let it settle; see whether the books add up."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import psycopg
from rich.console import Console
from rich.table import Table

from operate.books import Facts, Finding, audit, differences, read
from operate.chaos import Chaos
from operate.load import Clients
from operate.stack import Stack

FAULTS = {"delay": 0.2, "fail": 0.08, "lose": 0.04, "late": 0.04, "twice": 0.05, "refuse": 0.05}
"""How the providers misbehave while the load is on."""
LEASE = 3.0
"""Seconds until the work of a dead worker is taken over."""

NOT_SETTLED = (
    "SELECT (SELECT count(*) FROM mainstay.saga_status WHERE ended_at IS NULL AND stuck IS NULL)"
    " + (SELECT count(*) FROM mainstay.message WHERE state IN ('scheduled', 'waiting', 'blocked', 'running')"
    " AND coalesce(unique_key, '') <> ALL (SELECT 'mainstay.saga:' || id FROM mainstay.saga_status"
    " WHERE ended_at IS NULL AND stuck IS NOT NULL))"
)


async def storm(
    stack: Stack,
    *,
    seconds: float,
    seed: int,
    clients: int,
    every: float | None,
    faults: Mapping[str, float] = FAULTS,
) -> tuple[Clients, Chaos]:
    """Orders and kills at once, for so long. `every`: mean seconds between kills; None kills nothing."""
    load, chaos = Clients(stack.urls["service"], seed), Chaos(stack, every=every or 1.0, seed=seed)
    await stack.set_faults(**faults)
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run(seconds, clients))
        if every is not None:
            group.create_task(chaos.run(seconds))
    await stack.set_faults(delay=0.01)
    return load, chaos


async def settle(stack: Stack, patience: float) -> float:
    """Wait until nothing is at work any more, or what is says what it is stuck at; how many seconds it took."""
    begin = time.monotonic()
    async with await psycopg.AsyncConnection.connect(stack.conninfo, autocommit=True) as connection:
        while time.monotonic() - begin < patience:
            stack.revive()
            row = await (await connection.execute(NOT_SETTLED)).fetchone()
            ledgers = await stack.ledgers()
            if row == (0,) and not any(ledger["underway"] for ledger in ledgers.values()):
                break
            await asyncio.sleep(0.2)
    return time.monotonic() - begin


async def stock(stack: Stack) -> dict[int, int]:
    """What is in stock, by product."""
    return {row["id"]: row["stock"] for row in (await read(stack.conninfo))["products"]}


async def examine(stack: Stack, stock_before: dict[int, int], *loads: Clients) -> list[Finding]:
    """Read all books and compare them."""
    replies = {key: reply for load in loads for key, reply in load.replies.items()}
    differing = [key for load in loads for key in load.differing]
    return audit(Facts(stock_before, replies, differing, await read(stack.conninfo), await stack.ledgers()))


def show(findings: list[Finding], title: str) -> None:
    """Print the audit as a table, and what does not add up below it."""
    console = Console()
    table = Table("", "", "expected", "found", title=title, title_justify="left")
    for one in findings:
        table.add_row("[red]✗[/]" if one.wrong else "[green]✓[/]", one.what, one.expected, one.found)
    console.print(table)
    for sentence in differences(findings):
        console.print(f"  {sentence}", style="red", highlight=False, markup=False)


async def run(
    database_url: str | None,
    *,
    seconds: float,
    seed: int,
    clients: int,
    workers: int,
    every: float,
    patience: float,
) -> bool:
    """All of it; whether the books add up."""
    log = Path(tempfile.gettempdir()) / f"shop-audit-{seed}.log"
    async with Stack(database_url, workers=workers, lease=LEASE, faults=FAULTS, seed=seed, log=log) as stack:
        sys.stdout.write(f"running for {seconds:g} s with seed {seed}; the processes write to {log}\n")
        sys.stdout.flush()
        before = await stock(stack)
        load, chaos = await storm(stack, seconds=seconds, seed=seed, clients=clients, every=every)
        took = await settle(stack, patience)
        findings = await examine(stack, before, load)
        ledgers = await stack.ledgers()
    requests = ", ".join(f"{name} {ledger['requests']}" for name, ledger in ledgers.items())
    kills = ", ".join(f"{n} {what}" for what, n in sorted(chaos.kills.items())) or "nothing"
    show(findings, f"Shop audit, seed {seed}")
    sys.stdout.write(
        f"{len(load.replies)} orders in {load.attempts} attempts, {load.cancels} cancellations accepted; killed:"
        f" {kills}; requests to {requests}; settled after {took:.1f} s\n"
    )
    if not any(entry["state"] == "voided" for entry in ledgers["payments"]["entries"]):
        sys.stdout.write(
            "no payment had to be undone, so this says little of the way back; give it more SECONDS or another SEED\n"
        )
    return not differences(findings)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make shop-audit", description=__doc__)
    parser.add_argument(
        "--database-url", help="an empty database on a server to use; default: a server of its own"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="how long there is load")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--every", type=float, default=1.5, help="mean seconds between two kills")
    parser.add_argument("--patience", type=float, default=90.0, help="seconds to settle at most")
    arguments = vars(parser.parse_args())
    sys.exit(not asyncio.run(run(arguments.pop("database_url"), **arguments)))


if __name__ == "__main__":
    main()
