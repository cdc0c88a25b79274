"""`mainstay subscriptions`: who gets which events."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated, Any

import typer
from sqlalchemy.exc import DBAPIError

from mainstay.errors import MainstayError
from mainstay.nearest import nearest
from mainstay.operations.database import DatabaseUrl, database_now, explained, on_database, reach
from mainstay.operations.display import Column, Json, Yes, ago, agree, print_json, print_lines, print_table
from mainstay.operations.target import load, resolve
from mainstay.patterns import Database
from mainstay.patterns.errors import PatternError
from mainstay.patterns.events import control
from mainstay.patterns.messages import Messages

app = typer.Typer(
    help="Make the subscribers of events known, look at them, and retire one that is gone: declare, list, retire.",
    no_args_is_help=True,
)


@app.command(epilog="Example:  mainstay db upgrade && mainstay subscriptions declare shop.worker:messages")
def declare(
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:APP",
            help="Where the app's Messages is, or a function that makes it, as for a worker.",
            show_default=False,
        ),
    ],
    json: Json = False,
) -> None:
    """Make an app's subscribers known in its database: in a deploy, before what publishes is started.

    A worker does so too as it starts. But an event that is published before any is known goes to the first alone.
    """
    found = load(target)

    async def work() -> list[dict[str, Any]]:
        messages = await resolve(found, target)
        if not isinstance(messages, Messages):
            raise MainstayError(f"{target!r} has no subscribers: name a Messages.")
        async with messages.database:
            await reach(messages.database)
            try:
                return await messages.declare()
            except (PatternError, DBAPIError, OSError) as error:
                raise explained(error) from error

    declared = asyncio.run(work())
    if json:
        print_json(declared)
        return
    print_table(
        (
            Column("subscriber", fold=True),
            Column("event", fold=True),
            Column("queue", wide=True, fold=True),
            Column("state"),
        ),
        ((one["subscriber"], one["event"], one["queue"], one["state"]) for one in declared),
        none=f"{target} subscribes to no events",
    )


@app.command("list", epilog="Example:  mainstay subscriptions list")
def list_subscriptions(database_url: DatabaseUrl = None, json: Json = False) -> None:
    """List who gets which events, and how many of them wait or are dead."""

    async def work(database: Database) -> tuple[list[dict[str, Any]], datetime]:
        return await control.list_subscriptions(database), await database_now(database)

    found, now = on_database(database_url, work)
    if json:
        print_json(found)
        return
    print_table(
        (
            Column("subscriber", fold=True),
            Column("event", fold=True),
            Column("queue", wide=True, fold=True),
            Column("state"),
            Column("waiting", right=True),
            Column("dead", right=True),
            Column("declared"),
            Column("relay", wide=True),
        ),
        (
            (
                one["subscriber"],
                one["event"],
                one["queue"],
                one["state"],
                one["waiting"] or "",
                one["dead"] or "",
                ago(one["declared_at"], now),
                one["relay"] and "relay",
            )
            for one in found
        ),
        none="there are no subscriptions; a worker makes its subscribers known as it starts, or: subscriptions declare",
    )


@app.command(epilog="Example:  mainstay subscriptions retire shop.reports.count_sale")
def retire(
    subscriber: Annotated[str, typer.Argument(metavar="SUBSCRIBER", help="Its name.", show_default=False)],
    yes: Yes = False,
    database_url: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Retire a subscriber that is gone from the code: it gets no more events, and those that wait are called off."""

    async def look(database: Database) -> int:
        rows = [one for one in await control.list_subscriptions(database) if one["state"] != "retired"]
        mine = [one for one in rows if one["subscriber"] == subscriber]
        if not mine:
            known = {one["subscriber"] for one in rows}
            raise MainstayError(
                f"there is no subscriber {subscriber!r}{nearest(subscriber, known)}, or it is retired."
            )
        return sum({one["queue"]: int(one["waiting"]) for one in mine}.values())

    waiting = on_database(database_url, look)
    agree(f"retire {subscriber} and call off {waiting} waiting messages", yes=yes)
    cancelled = on_database(database_url, lambda database: control.retire(database, subscriber))
    if json:
        print_json({"subscriber": subscriber, "cancelled": cancelled})
    else:
        print_lines(f"{subscriber} is retired; messages called off: {cancelled}")
