"""A worker process for the tests of events: ``events_worker.py address point``; it says where it is and stays there.

At `point` it prints the point's name and waits to be killed: `handling` (before the subscriber does anything),
`written` (after its write), `completed` (after the message is completed in the transaction, before COMMIT), `committed`
(right after COMMIT), `declared` (after its subscriptions are declared, before they open); `none` never.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from sqlalchemy import text

from mainstay.patterns import Database, Transaction
from mainstay.patterns.events import Event
from mainstay.patterns.events.subscriptions import Subscriptions
from mainstay.patterns.messages import Messages, Retry, Worker

ADDRESS, POINT = sys.argv[1:3]
db = Database(ADDRESS)
messages = Messages(db)


class Step(Event, key="chain"):
    chain: int
    number: int


async def here(point: str) -> None:
    """Say so and wait for the end, if this is the point."""
    if point == POINT:
        print(point, flush=True)
        await asyncio.Event().wait()


@messages.subscribe(Step, name="first", retry=Retry(attempts=100, first=0.0, most=0.1))
async def first(step: Step, tx: Transaction) -> None:
    await here("handling")
    await tx.execute(
        text("INSERT INTO effect (who, what) VALUES ('first', :what)"),
        {"what": f"{step.chain}.{step.number}"},
    )
    if step.number < 3:
        await tx.publish(Step(chain=step.chain, number=step.number + 1))
    await here("written")


@messages.subscribe(Step, name="second", retry=Retry(attempts=100, first=0.0, most=0.1))
async def second(step: Step, tx: Transaction) -> None:
    await tx.execute(
        text("INSERT INTO effect (who, what) VALUES ('second', :what)"),
        {"what": f"{step.chain}.{step.number}"},
    )


async def main() -> None:
    """Stand in the way at the points that are inside the engine; then work."""
    complete_in, run, declare = Worker.complete_in, Database.run, Subscriptions._declare

    async def completing(self: Worker, *arguments: Any) -> None:
        await complete_in(self, *arguments)
        await here("completed")

    async def running(self: Database, *arguments: Any, **options: Any) -> Any:
        result = await run(self, *arguments, **options)
        await here("committed")
        return result

    async def declaring(self: Subscriptions, worker: Worker) -> None:
        await declare(self, worker)
        await here("declared")

    Worker.complete_in = completing  # type: ignore[method-assign]
    Database.run = running  # type: ignore[method-assign, assignment]
    Subscriptions._declare = declaring  # type: ignore[method-assign]
    print("ready", flush=True)
    await messages.worker(lease=1.0, poll=0.5).run()


asyncio.run(main())
