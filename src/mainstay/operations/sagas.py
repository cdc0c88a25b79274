"""`mainstay sagas`: look at sagas, and get one going that is stuck."""

from __future__ import annotations

import json as json_format
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer

from mainstay.errors import MainstayError, complain
from mainstay.operations.database import DatabaseUrl, database_now, on_database
from mainstay.operations.display import (
    Before,
    Column,
    Json,
    Most,
    States,
    ago,
    first_line,
    moment,
    pretty_json,
    print_errors,
    print_json,
    print_lines,
    print_next_page,
    print_sheet,
    print_table,
    states,
)
from mainstay.patterns import Database
from mainstay.patterns.errors import LockNotAvailable
from mainstay.patterns.saga import control
from mainstay.patterns.saga.moves import State

app = typer.Typer(
    help="Look at sagas, and help one that is stuck: list, show, retry, skip, compensate, cancel.",
    no_args_is_help=True,
)

Ids = Annotated[list[int], typer.Argument(metavar="ID", help="The sagas.", show_default=False)]
Because = Annotated[
    str,
    typer.Option("--because", "-b", help="Why; kept with the saga.", metavar="REASON", show_default=False),
]


@app.command(
    "list",
    epilog="Examples:  mainstay sagas list --stuck   |   mainstay sagas list --state compensating --kind PlaceOrder",
)
def list_sagas(
    state: States = None,
    kind: Annotated[
        str | None, typer.Option("--kind", "-k", help="Of this class.", metavar="KIND", show_default=False)
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", help="With this key.", metavar="KEY", show_default=False)
    ] = None,
    lock: Annotated[
        str | None, typer.Option("--lock", help="With this lock.", metavar="LOCK", show_default=False)
    ] = None,
    stuck: Annotated[
        bool, typer.Option("--stuck", help="Only those that need a person, or a deploy.")
    ] = False,
    before: Before = None,
    most: Most = 50,
    database_url: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """List sagas, newest first, and say why one is stuck."""
    wanted = states(state, State)

    async def work(database: Database) -> tuple[list[dict[str, Any]], datetime]:
        found = await control.list_sagas(
            database,
            states=wanted or None,
            kind=kind,
            key=key,
            lock=lock,
            stuck=stuck,
            before=before,
            most=most,
        )
        return found, await database_now(database)

    found, now = on_database(database_url, work)
    if json:
        print_json(found)
        return
    print_table(
        (
            Column("id", right=True),
            Column("kind", fold=True),
            Column("key", cut=True),
            Column("state"),
            Column("step", fold=True),
            Column("started", wide=True),
            Column("changed"),
            Column("lock", wide=True, cut=True),
            Column("stuck, or why it went back", cut=True),
        ),
        (
            (
                one["id"],
                one["kind"],
                one["key"],
                one["state"],
                one["step"],
                ago(one["started_at"], now),
                ago(one["changed_at"], now),
                one["lock"],
                first_line(one["stuck"] or one["error"]),
            )
            for one in found
        ),
        none="no saga matches" if any((wanted, kind, key, lock, stuck, before)) else "there are no sagas",
    )
    print_next_page(found, most)
    if at := [one["id"] for one in found if one["stuck"]]:
        print_lines("", f"what to do about one that is stuck: sagas show {at[0]}")


@app.command(epilog="Example:  mainstay sagas show 42")
def show(
    id: Annotated[int, typer.Argument(metavar="ID", help="The saga.", show_default=False)],
    database_url: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Show all that is known of one saga: data, each step with its times, and the errors of the step at work."""

    async def work(database: Database) -> tuple[dict[str, Any], datetime]:
        return await control.show(database, id), await database_now(database)

    found, now = on_database(database_url, work)
    if json:
        print_json(found)
        return
    requested = found["requested"] and f"{found['requested']}: {found['because']}"
    print_sheet(
        {
            "saga": f"{id} {found['kind']}",
            "state": found["state"],
            "stuck": found["stuck"],
            "went back": found["error"],
            "key": found["key"],
            "lock": found["lock"],
            "waits for": found["waits_for"],
            "asked for": requested,
            "queue": found["queue"],
            "started": moment(found["started_at"], now),
            "changed": moment(found["changed_at"], now),
            "deadline": moment(found["deadline"], now),
            "ended": moment(found["ended_at"], now),
            "message": found["message"],
            "next attempt": "" if found["message_state"] != "scheduled" else moment(found["due_at"], now),
            "data": pretty_json(found["data"]),
        }
    )
    print_lines("")
    print_table(
        (
            Column("step", fold=True),
            Column("state"),
            Column(""),
            Column("begun"),
            Column("done"),
            Column("undone"),
            Column("error", fold=True),
        ),
        (
            (
                step["name"],
                step["state"],
                "pivot" if step["pivot"] else "can be undone" if step["undoable"] else "",
                ago(step["begun_at"], now),
                ago(step["done_at"], now),
                ago(step["undone_at"], now),
                step["error"],
            )
            for step in found["steps"] or ()
        ),
        none="it has no steps",
    )
    print_errors(found["errors"], now)
    if found["stuck"]:
        print_lines("", "to get it going again:", *(f"  mainstay sagas {each}" for each in _ways_on(found)))


@app.command(epilog="Example:  mainstay sagas retry 42")
def retry(ids: Ids, database_url: DatabaseUrl = None, json: Json = False) -> None:
    """Have the step that a saga is at tried now, also if its message was called off or given up."""
    _each(database_url, ids, json, "is tried now", lambda database, id: control.retry(database, id))


@app.command(
    epilog="Examples:  mainstay sagas skip 42 --because 'paid by bank transfer'   |   mainstay sagas skip 42 "
    "--because 'shipped by hand' --data '{\"tracking\": \"1Z999\"}'"
)
def skip(
    ids: Ids,
    because: Because,
    data: Annotated[
        str | None,
        typer.Option(
            "--data", help="Fields of the saga to set, as a JSON object.", metavar="JSON", show_default=False
        ),
    ] = None,
    database_url: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Count the step that a saga is at as done, or as undone, because a person did it or it need not be done."""
    fields = _object(data)
    _each(
        database_url,
        ids,
        json,
        "is skipped",
        lambda database, id: control.skip(database, id, because=_said_why(because), data=fields),
    )


@app.command(epilog="Example:  mainstay sagas compensate 42 --because 'the provider says that it never was'")
def compensate(ids: Ids, because: Because, database_url: DatabaseUrl = None, json: Json = False) -> None:
    """Undo what a saga has done; a pivot of which nobody knows the outcome counts as not happened: look first."""
    _each(
        database_url,
        ids,
        json,
        "is compensated",
        lambda database, id: control.compensate(database, id, because=_said_why(because)),
    )


@app.command(epilog="Example:  mainstay sagas cancel 42 --because 'the customer called'")
def cancel(ids: Ids, because: Because, database_url: DatabaseUrl = None, json: Json = False) -> None:
    """Undo what a saga has done, but never go back behind a pivot that may have happened."""
    _each(
        database_url,
        ids,
        json,
        "is cancelled",
        lambda database, id: control.cancel(database, id, because=_said_why(because)),
    )


def _each(
    url: str | None,
    ids: Sequence[int],
    json: bool,
    done: str,
    act: Callable[[Database, int], Awaitable[dict[str, Any]]],
) -> None:
    """Do it to each; exit code 2 where one refuses, which does not keep the others from theirs."""

    async def work(database: Database) -> tuple[list[dict[str, Any]], dict[int, str]]:
        answers, reasons = [], {}
        for id in dict.fromkeys(ids):
            try:
                answers.append(await act(database, id))
            except (control.NoSuchSaga, control.TooLate, LockNotAvailable) as error:
                reasons[id] = str(error)
        return answers, reasons

    answers, reasons = on_database(url, work)
    if json:
        print_json({"sagas": answers, "not_done": {str(id): reason for id, reason in reasons.items()}})
    else:
        for one in answers:
            print_lines(f"saga {one['id']}: {_answer(one, done)}")
    for reason in reasons.values():
        complain(reason)
    if reasons:
        raise typer.Exit(2)


def _ways_on(found: dict[str, Any]) -> list[str]:
    """The commands that move a saga that is stuck, and what each means in its state."""
    id, step, why = found["id"], found["step"], "--because REASON"
    if found["state"] == "waiting":
        return [f"cancel {id} {why}  it gives up waiting for its lock"]
    back = found["state"] == "compensating"
    ways = [
        (f"retry {id}", f"what failed is mended: {'undo ' if back else 'try '}{step} now"),
        (f"skip {id} {why}", f"{step} was {'undone' if back else 'done'} by hand, or need not be"),
    ]
    if found["state"] == "running":
        ways.append((f"compensate {id} {why}", f"undo it all; {step} has not happened: look first"))
    width = max(len(command) for command, _ in ways)
    return [f"{command.ljust(width)}  {meaning}" for command, meaning in ways]


def _answer(one: dict[str, Any], done: str) -> str:
    at = f" at step {one['step']}" if one["step"] else ""
    if one["requested"]:
        return f"asked for; it is done as soon as the attempt{at} has ended"
    return f"it {done}; now {one['state']}{at}" if one["state"] != "waiting" else "it waits for its lock"


def _said_why(because: str) -> str:
    if not because.strip():
        raise MainstayError("--because needs a reason: it is kept with the saga.")
    return because


def _object(data: str | None) -> dict[str, Any] | None:
    if data is None:
        return None
    try:
        found = json_format.loads(data)
    except ValueError as error:
        raise MainstayError(f"--data is no JSON: {error}.") from None
    if not isinstance(found, dict):
        raise MainstayError('--data is a JSON object, such as \'{"tracking": "1Z999"}\'.')
    return found
