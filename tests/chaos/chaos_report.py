"""What a campaign did, what came of it, and how that is told."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from chaos_sagas import FATES, PURSES


@dataclass
class Result:
    """What was done and what came of it."""

    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    published: Counter[str] = field(default_factory=Counter)
    sagas: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By fate and state at the end."""
    faults: list[str] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    clock: str = ""
    server: str = ""
    brokers: list[str] = field(default_factory=list)


def describe(result: Result, chances: Sequence[str], *, workers: int, services: int, lease: float) -> str:
    """The report, as Markdown.

    Args:
        chances: what may happen.
        workers, services: processes.
        lease: seconds.
    """
    rows = "\n".join(f"| {what} | {result.kills[what]} |" for what in chances)
    kinds = "\n".join(f"| {kind} | {number} |" for kind, number in sorted(result.published.items()))
    states = ("completed", "compensated", "compensating", "finishing")
    sagas = "\n".join(
        f"| {fate} | {FATES[fate].told} | "
        + " | ".join(str(result.sagas[fate, state] or "") for state in states)
        + " |"
        for fate in FATES
    )
    notes = "\n".join(f"- {what}: {value}" for what, value in result.notes.items())
    verdict = (
        "**Nothing lost, nothing doubled; every saga ended or visibly stuck with its reason.**"
        if not result.faults
        else "**Faults:**\n\n" + "\n".join(f"- {fault}" for fault in result.faults)
    )
    return f"""# Chaos: the last campaign

Written by `make chaos` (`tests/chaos/campaign.py`). {workers} workers (leases of {lease:g} s) and {services} services
as processes of their own, on both drivers, two of three through a TCP proxy; a PostgreSQL server and brokers of its
own, these too with a proxy in front. Whatever is killed is started anew.

{verdict}

{result.kills.total()} times in {result.seconds:.0f} seconds, seed {result.seed}; PostgreSQL {result.server},
{", ".join(result.brokers) or "no broker"}; Python {platform.python_version()}, psycopg {version("psycopg")},
asyncpg {version("asyncpg")}. Clock steps are {result.clock}: half a second to twenty
seconds back or forth, or an hour forth.

| what | times |
|---|---|
{rows}

## Messages and events

What committed transactions had published, and the audit found done:

| kind | things |
|---|---|
{kinds}

- `transfer`, `keyed`, `slotted`, `limited`, `failing`: handlers with a transaction; each has its effect exactly once.
  Balances add up. Of a key with a limit of one, effects are in the order of publishing.
- `outside`: calls to a stub provider; each was called for at least once, always under the same idempotency key, and no
  two under the same one.
- `delivered`: published two or three times and shuffled; one effect each, by the inbox.
- `doomed`: gives up; is dead, with its error history, and has no effect.
- `blocking`: plain functions in threads; done.
- `told`: an event. It has one effect by a subscriber, in order. Relays send it to each broker, where it is in order too
  by its first arrival; now and then they send again what they had sent before, shuffled. From there it comes back in
  two ways, each with one effect: by `Messages.receive` to a subscriber (`told over …`), and by `receive` with the inbox
  alone (`taken from …`; one failure of the handler would have made it a dead letter). Brokers hand out again what a
  dead or stopped worker held, after 2 s. In the end nothing was left unacknowledged.

## Sagas

Payments of five steps (withdraw here, reserve outside, note here; send outside, the pivot; deposit here), which
change {PURSES} purses. Of those that draw on one purse, one is at work at a time, by their lock; as targets they meet.
Some are started twice in a transaction, and their key lets one be. Each had its fate before it started, and the audit
found the end that belongs to it: every effect in the database once and in order, every undo once for each step done,
every balance right; outside, one key a step, nothing left that was undone, nothing missing that was done.

| fate | | completed | compensated | stuck on the way back | stuck behind the pivot |
|---|---|---|---|---|---|
{sagas}

The stuck ones are those that had to be, and `saga_status` names the step and its error.

## Beside that

{notes}

A seed repeats what is struck, in which order and after which pause; not what a process is doing at that moment. Kills
at single statements are in `tests/messages/test_crash.py` and `tests/patterns/test_saga_crash.py`.
"""
