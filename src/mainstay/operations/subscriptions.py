"""`mainstay subscriptions`: who gets which events."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from mainstay.errors import MainstayError
from mainstay.nearest import nearest
from mainstay.operations.database import DatabaseUrl, database_now, on_database
from mainstay.operations.display import Column, Json, Yes, ago, agree, print_json, print_lines, print_table
from mainstay.patterns import Database
from mainstay.patterns.events import control

app = typer.Typer(
    help="Look at the subscribers of events, and retire one that is gone: list, retire.", no_args_is_help=True
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
        none="there are no subscriptions; a worker makes its subscribers known as it starts",
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
