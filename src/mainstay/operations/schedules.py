"""`mainstay schedules`: what runs by the clock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Annotated, TypeVar

import typer

from mainstay.errors import MainstayError
from mainstay.nearest import nearest
from mainstay.operations.database import DatabaseUrl, database_now, on_database
from mainstay.operations.display import Column, Json, ago, print_answer, print_json, print_lines, print_table
from mainstay.patterns import Database
from mainstay.patterns.schedules import control

T = TypeVar("T")

app = typer.Typer(help="Look at schedules: list, pause, resume, fire now.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="SCHEDULE", help="Its name.", show_default=False)]


@app.command("list", epilog="Examples:  mainstay schedules list   |   mainstay schedules list --json")
def list_schedules(database_url: DatabaseUrl = None, json: Json = False) -> None:
    """List all schedules with their next tick, and what became of the last one."""

    async def work(database: Database) -> tuple[Sequence[control.Schedule], datetime]:
        return await control.list_schedules(database), await database_now(database)

    found, now = on_database(database_url, work)
    if json:
        print_json(found)
        return
    print_table(
        (
            Column("schedule", fold=True),
            Column("ticks", fold=True),
            Column("state"),
            Column("next"),
            Column("last"),
            Column("its job", wide=True),
            Column("job", wide=True, fold=True),
        ),
        (
            (
                one.name,
                one.ticks,
                one.state,
                "" if one.state == "paused" else ago(one.next_at, now),
                ago(one.last_fired, now),
                _last(one),
                one.job if one.job != one.name else "",
            )
            for one in found
        ),
        none="there are no schedules; a worker makes its schedules known as it starts",
    )
    if any(one.state == "undeclared" for one in found):
        print_lines("", "undeclared: no live worker has it, so nothing fires it")


@app.command(epilog="Example:  mainstay schedules pause shop.reports.nightly")
def pause(name: Name, database_url: DatabaseUrl = None, json: Json = False) -> None:
    """Let no tick be fired until it is resumed. A job that has been enqueued runs all the same."""
    _on_schedule(database_url, name, lambda database: control.pause(database, name))
    print_answer(json, {"schedule": name, "paused": True}, f"schedule {name} is paused")


@app.command(epilog="Example:  mainstay schedules resume shop.reports.nightly")
def resume(name: Name, database_url: DatabaseUrl = None, json: Json = False) -> None:
    """Let a paused schedule go on. Ticks that passed meanwhile are not made up for."""
    following = _on_schedule(database_url, name, lambda database: control.resume(database, name))
    print_answer(
        json,
        {"schedule": name, "paused": False, "next_at": following},
        f"schedule {name} goes on, next at {following.isoformat(sep=' ', timespec='seconds')}",
    )


@app.command(epilog="Example:  mainstay schedules fire shop.reports.nightly")
def fire(name: Name, database_url: DatabaseUrl = None, json: Json = False) -> None:
    """Enqueue the job of a schedule now, beside its ticks, paused or not."""
    id = _on_schedule(database_url, name, lambda database: control.fire_now(database, name))
    if id is None:
        raise MainstayError(
            f"a job of schedule {name} has not ended yet, and it may not overlap with another."
        )
    print_answer(json, {"schedule": name, "message": id}, f"schedule {name}: message {id}")


def _on_schedule(url: str | None, name: str, act: Callable[[Database], Awaitable[T]]) -> T:
    async def work(database: Database) -> T:
        try:
            return await act(database)
        except control.UnknownSchedule as error:
            known = [one.name for one in await control.list_schedules(database)]
            raise MainstayError(f"{error}{nearest(name, known)}.") from None

    return on_database(url, work)


def _last(one: control.Schedule) -> str:
    if one.last_message is None:
        return ""
    return f"{one.last_message} {one.last_state or 'has ended'}"
