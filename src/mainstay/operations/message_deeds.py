"""What `mainstay messages` does to messages, by id or by filter: retry, cancel, redrive, delete.

By filter, the messages are counted first; what was agreed to is done to these and no others. Each statement looks at
the state again, so what has moved on meanwhile is left alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from mainstay.errors import MainstayError, complain
from mainstay.operations.database import DatabaseUrl, on_database
from mainstay.operations.display import Json, States, Yes, agree, print_json, print_lines
from mainstay.operations.message_filter import (
    ErrorText,
    Filter,
    Key,
    Kind,
    Queue,
    make_filter,
)
from mainstay.patterns import Database
from mainstay.patterns.messages.control import Control, State

app = typer.Typer()

AT_ONCE = 1000
"""Messages in one statement."""
EXPLAINED = 20
"""Ids for which the reason is looked up why nothing was done."""

Ids = Annotated[list[int] | None, typer.Argument(metavar="ID", help="The messages.", show_default=False)]
All = Annotated[bool, typer.Option("--all", help="All that it can be done to, without a filter.")]


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that is done to messages, and the command for it.

    Attributes:
        verb, done: such as ``cancel`` and ``cancelled``.
        possible: the states in which it can be done.
        usual: the states that are meant by a filter without `--state`.
        act: does it; the state of each message to which it was done.
        help, examples: of the command.
    """

    verb: str
    done: str
    possible: Sequence[State]
    usual: Sequence[State]
    act: Callable[[Control, Sequence[int]], Awaitable[dict[int, str]]]
    help: str
    examples: Sequence[str]


async def _retry(control: Control, ids: Sequence[int]) -> dict[int, str]:
    return dict.fromkeys(await control.retry(*ids), "waiting")


async def _cancel(control: Control, ids: Sequence[int]) -> dict[int, str]:
    return await control.cancel(*ids)


async def _redrive(control: Control, ids: Sequence[int]) -> dict[int, str]:
    return dict.fromkeys(await control.redrive(*ids, states=None, most=len(ids)), "waiting")


async def _delete(control: Control, ids: Sequence[int]) -> dict[int, str]:
    return dict.fromkeys(await control.delete(*ids), "deleted")


OPEN: Sequence[State] = ("scheduled", "waiting", "blocked", "running")
ENDED: Sequence[State] = ("succeeded", "dead", "cancelled", "expired")
RETRY = Deed(
    "retry",
    "due now",
    ("scheduled",),
    ("scheduled",),
    _retry,
    "Make due now what is scheduled: what was delayed, or waits for its next attempt.",
    ("retry 4711", "retry --queue mail --error Timeout"),
)
CANCEL = Deed(
    "cancel",
    "cancelled",
    OPEN,
    OPEN,
    _cancel,
    "Call messages off. The handler of one that is running is asked to stop, and does unless it is done before.",
    ("cancel 4711 4712", "cancel --kind shop.mail.send --yes"),
)
REDRIVE = Deed(
    "redrive",
    "redriven",
    ("dead", "cancelled", "expired"),
    ("dead",),
    _redrive,
    "Start over what was given up, with all of its attempts before it. By filter: dead ones, unless --state says.",
    ("redrive 4711", "redrive --queue mail --error Timeout", "redrive --all --yes"),
)
DELETE = Deed(
    "delete",
    "deleted",
    ENDED,
    ENDED,
    _delete,
    "Forget messages that have ended.",
    ("delete 4711", "delete --state dead --kind shop.mail.old"),
)


def _command(deed: Deed) -> None:
    examples = "   |   ".join(f"mainstay messages {example}" for example in deed.examples)

    @app.command(deed.verb, help=deed.help, epilog=f"Examples:  {examples}")
    def command(
        ids: Ids = None,
        state: States = None,
        queue: Queue = None,
        kind: Kind = None,
        key: Key = None,
        error: ErrorText = None,
        all: All = False,
        yes: Yes = False,
        database_url: DatabaseUrl = None,
        json: Json = False,
    ) -> None:
        _do(deed, ids, make_filter(state, queue, kind, key, error), all, yes, database_url, json)


for _deed in (RETRY, CANCEL, REDRIVE, DELETE):
    _command(_deed)


def no_such(id: int) -> str:
    """What is said of an id that is not there."""
    return f"there is no message {id}, or no longer: most are deleted as they succeed"


def _do(
    deed: Deed,
    ids: list[int] | None,
    wanted: Filter,
    all: bool,
    yes: bool,
    url: str | None,
    json: bool,
) -> None:
    if bool(ids) + bool(wanted) + all != 1:
        raise MainstayError(
            f"say which to {deed.verb}: ids, or a filter such as --queue mail, or --all; one of the three."
        )
    if wrong := [state for state in wanted.states if state not in deed.possible]:
        raise MainstayError(f"what is {wrong[0]} cannot be {deed.done}; {_possible(deed)} can.")
    chosen = list(dict.fromkeys(ids or ()))
    if not ids:
        wanted = Filter(
            wanted.states or list(deed.usual), wanted.queue, wanted.kind, wanted.key, wanted.error
        )
        chosen = on_database(url, _finding(wanted))
        if chosen:
            agree(f"{deed.verb} {_messages(len(chosen))}", yes=yes)
    outcome, reasons = on_database(url, _doing(deed, chosen, explain=bool(ids))) if chosen else ({}, {})
    stopping = [id for id in chosen if outcome.get(id) == "running"]
    done = [id for id in chosen if outcome.get(id, "running") != "running"]
    if json:
        document: dict[str, Any] = {deed.done.replace(" ", "_"): done}
        if deed is CANCEL:
            document["asked_to_stop"] = stopping
        print_json(document | {"not_done": {str(id): reason for id, reason in reasons.items()}})
    else:
        _say(deed, chosen, done, stopping, by_filter=not ids)
    for reason in reasons.values():
        complain(reason)
    if ids and len(outcome) < len(chosen):
        if (untold := len(chosen) - len(outcome) - len(reasons)) > 0:
            complain(f"the same or the like of {untold} more")
        raise typer.Exit(2)


def _finding(wanted: Filter) -> Callable[[Database], Awaitable[list[int]]]:
    async def work(database: Database) -> list[int]:
        control = Control(database)
        found = await wanted.ids(control)
        if not found:
            await wanted.check_queue(control)
        return found

    return work


def _doing(
    deed: Deed, ids: Sequence[int], *, explain: bool
) -> Callable[[Database], Awaitable[tuple[dict[int, str], dict[int, str]]]]:
    """Does it; the state of each that it was done to, and reasons for those that it was not."""

    async def work(database: Database) -> tuple[dict[int, str], dict[int, str]]:
        control = Control(database)
        outcome: dict[int, str] = {}
        for at in range(0, len(ids), AT_ONCE):
            outcome |= await deed.act(control, ids[at : at + AT_ONCE])
        left = [id for id in ids if id not in outcome] if explain else []
        return outcome, {id: await _reason(control, deed, id) for id in left[:EXPLAINED]}

    return work


async def _reason(control: Control, deed: Deed, id: int) -> str:
    found = await control.show(id)
    if found is None:
        return no_such(id)
    return f"message {id} is {found['state']}; {_possible(deed)} can be {deed.done}"


def _say(
    deed: Deed, chosen: Sequence[int], done: Sequence[int], stopping: Sequence[int], *, by_filter: bool
) -> None:
    if not chosen:
        print_lines("no message matches")
        return
    if done or not stopping:
        print_lines(f"{deed.done}: {_told(done)}")
    if stopping:
        print_lines(f"asked to stop: {_told(stopping)}")
    if by_filter and (moved := len(chosen) - len(done) - len(stopping)):
        print_lines(f"moved on meanwhile: {_messages(moved)}")


def _told(ids: Sequence[int]) -> str:
    if not ids:
        return "none"
    return (
        f"message{'s' if len(ids) > 1 else ''} {', '.join(map(str, ids))}"
        if len(ids) <= 10
        else _messages(len(ids))
    )


def _messages(number: int) -> str:
    return "1 message" if number == 1 else f"{number} messages"


def _possible(deed: Deed) -> str:
    *others, last = deed.possible
    return f"what is {', '.join(others)} or {last}" if others else f"what is {last}"
