"""`mainstay messages`: look at messages, queues and workers; pause and limit queues.

What is done to messages themselves stands in `message_deeds.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any, TypeVar

import typer

from mainstay.errors import MainstayError
from mainstay.operations import message_deeds
from mainstay.operations.database import DatabaseUrl, database_now, on_database
from mainstay.operations.display import (
    Before,
    Column,
    Json,
    Most,
    States,
    ago,
    duration,
    first_line,
    moment,
    pretty_json,
    print_answer,
    print_errors,
    print_json,
    print_lines,
    print_next_page,
    print_sheet,
    print_table,
)
from mainstay.operations.message_filter import (
    ErrorText,
    Key,
    Kind,
    Queue,
    check_queue,
    make_filter,
)
from mainstay.patterns import Database
from mainstay.patterns.messages.control import Control

T = TypeVar("T")

app = typer.Typer(
    help="Look at messages and queues: list, show, retry, cancel, redrive, pause, limit.",
    no_args_is_help=True,
)
app.add_typer(message_deeds.app)

QueueName = Annotated[str, typer.Argument(metavar="QUEUE", help="The queue.", show_default=False)]
New = Annotated[bool, typer.Option("--new", help="Also if nothing is known of a queue of this name.")]


@app.command(
    "list",
    epilog="Examples:  mainstay messages list   |   mainstay messages list --state dead,running --queue mail   |   "
    "mainstay messages list --error Timeout -n 500 --json",
)
def list_messages(
    state: States = None,
    queue: Queue = None,
    kind: Kind = None,
    key: Key = None,
    error: ErrorText = None,
    before: Before = None,
    most: Most = 50,
    database_url: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """List messages, newest first. Those that succeed are deleted at once, unless their result is kept."""
    wanted = make_filter(state, queue, kind, key, error)

    async def work(database: Database) -> tuple[list[dict[str, Any]], datetime]:
        control = Control(database)
        found = await wanted.find(control, before=before, most=most)
        if not found:
            await wanted.check_queue(control)
        return found, await database_now(database)

    found, now = on_database(database_url, work)
    if json:
        print_json(found)
        return
    print_table(
        (
            Column("id", right=True),
            Column("state"),
            Column("queue", cut=True),
            Column("kind", fold=True),
            Column("key", wide=True, cut=True),
            Column("priority", right=True, wide=True),
            Column("attempts", right=True, wide=True),
            Column("published"),
            Column("due", wide=True),
            Column("worker", wide=True, cut=True),
            Column("last error", cut=True),
        ),
        (
            (
                one["id"],
                one["state"],
                one["queue"],
                one["kind"],
                one["key"],
                one["priority"] or "",
                one["attempts"],
                ago(one["published_at"], now),
                "" if one["ended_at"] or one["state"] == "running" else ago(one["ready_at"], now),
                one["worker"],
                first_line(one["error"]),
            )
            for one in found
        ),
        none="no message matches" if wanted else "there are no messages",
    )
    print_next_page(found, most)


@app.command(epilog="Example:  mainstay messages show 4711")
def show(
    id: Annotated[int, typer.Argument(metavar="ID", help="The message.", show_default=False)],
    database_url: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Show all that is known of one message: payload, headers, progress, and the error of each attempt."""

    async def work(database: Database) -> tuple[dict[str, Any] | None, dict[str, Any], datetime]:
        control = Control(database)
        found = await control.show(id)
        queues = (
            {one["queue"]: one for one in await control.stats()} if found and not found["ended_at"] else {}
        )
        return found, queues, await database_now(database)

    found, queues, now = on_database(database_url, work)
    if found is None:
        raise MainstayError(f"{message_deeds.no_such(id)}.")
    if json:
        print_json(found)
        return
    key = found["key"] and f"{found['key']} (at most {found['key_limit']} at once)"
    print_sheet(
        {
            "message": id,
            "state": found["state"],
            "asked to stop": found["cancel_requested"] and found["state"] == "running",
            "queue": found["queue"],
            "kind": found["kind"],
            "key": key,
            "unique key": found["unique_key"],
            "priority": found["priority"] or None,
            "attempts": found["attempts"],
            "published": moment(found["published_at"], now),
            "due": "" if found["ended_at"] or found["state"] == "running" else moment(found["ready_at"], now),
            "expires": moment(found["expires_at"], now),
            "ended": moment(found["ended_at"], now),
            "kept until": moment(found["keep_until"], now),
            "worker": found["worker"],
            "idempotency key": found["idempotency_key"],
            "headers": found["headers"] and pretty_json(found["headers"]),
            "payload": pretty_json(found["payload"]),
            "progress": found["progress"] and pretty_json(found["progress"]),
            "result": found["result"] and pretty_json(found["result"]),
        }
    )
    print_errors(found["errors"], now)
    if hint := _next(found, queues.get(found["queue"])):
        print_lines("", hint)


@app.command(epilog="Examples:  mainstay messages stats   |   mainstay messages stats --json")
def stats(database_url: DatabaseUrl = None, json: Json = False) -> None:
    """Count the messages of each queue by state, and say how long the oldest due one has been waiting."""
    found = _with_control(database_url, Control.stats)
    if json:
        print_json(found)
        return
    columns = ("scheduled", "waiting", "blocked", "running", "dead", "succeeded", "cancelled", "expired")
    print_table(
        (
            Column("queue", cut=True),
            *(Column(state, right=True) for state in columns),
            Column("oldest waits", right=True),
            Column("paused"),
            Column("limits"),
            Column("workers", right=True),
        ),
        (
            (
                one["queue"],
                *(one["states"].get(state, "") for state in columns),
                duration(one["oldest_waiting"]),
                one["paused"] and "paused",
                _limits(one),
                one["workers"] or "none",
            )
            for one in found
        ),
        none="there are no messages, and no queue is paused or limited",
    )
    if hints := _what_to_do(found):
        print_lines("", *hints)


@app.command(epilog="Example:  mainstay messages workers")
def workers(database_url: DatabaseUrl = None, json: Json = False) -> None:
    """List the workers that are alive, or that nobody has found to be gone yet."""

    async def work(database: Database) -> tuple[list[dict[str, Any]], datetime]:
        return await Control(database).workers(), await database_now(database)

    found, now = on_database(database_url, work)
    if json:
        print_json(found)
        return
    print_table(
        (
            Column("id", right=True),
            Column("worker", fold=True),
            Column("started"),
            Column("state"),
            Column("queues", fold=True),
            Column("at once", right=True, wide=True),
            Column("running", right=True),
            Column("finished", right=True),
            Column("failed", right=True),
        ),
        (
            (
                one["id"],
                one["name"],
                ago(one["started_at"], now),
                _liveliness(one),
                one["queues"],
                one["concurrency"],
                one["running"],
                one["finished"],
                one["failed"],
            )
            for one in found
        ),
        none="there are no workers; start one with: mainstay worker MODULE:APP",
    )


@app.command(epilog="Example:  mainstay messages pause mail")
def pause(queue: QueueName, new: New = False, database_url: DatabaseUrl = None, json: Json = False) -> None:
    """Let nothing of a queue be begun until it is resumed. What runs goes on."""
    _set_queue(database_url, queue, new, lambda control: control.pause(queue))
    print_answer(json, {"queue": queue, "paused": True}, f"queue {queue} is paused")


@app.command(epilog="Example:  mainstay messages resume mail")
def resume(queue: QueueName, new: New = False, database_url: DatabaseUrl = None, json: Json = False) -> None:
    """Let a paused queue go on."""
    _set_queue(database_url, queue, new, lambda control: control.resume(queue))
    print_answer(json, {"queue": queue, "paused": False}, f"queue {queue} goes on")


@app.command(
    epilog="Examples:  mainstay messages limit mail --concurrency 10   |   mainstay messages limit mail --rate 5 "
    "--burst 20   |   mainstay messages limit mail --none"
)
def limit(
    queue: QueueName,
    concurrency: Annotated[
        int | None,
        typer.Option("--concurrency", min=1, help="Messages at work at once.", show_default=False),
    ] = None,
    rate: Annotated[
        float | None, typer.Option("--rate", help="Messages begun in a second.", show_default=False)
    ] = None,
    burst: Annotated[
        int, typer.Option("--burst", min=1, help="Messages begun at once after a quiet time.")
    ] = 1,
    none: Annotated[bool, typer.Option("--none", help="Set the queue free.")] = False,
    new: New = False,
    database_url: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Limit a queue over all workers. What is not given is not limited."""
    if none == (concurrency is not None or rate is not None):
        raise MainstayError(
            "say which limit: --concurrency or --rate, or both; or --none, to set the queue free."
        )
    if rate is not None and not rate > 0:
        raise MainstayError("a rate is more than 0; to stop a queue, pause it.")
    if burst > 1 and rate is None:
        raise MainstayError("a burst goes with a --rate.")
    _set_queue(
        database_url,
        queue,
        new,
        lambda control: control.limit(queue, concurrency=concurrency, rate=rate, burst=burst),
    )
    limits = {"concurrency": concurrency, "rate": rate, "burst": burst}
    told = _limits(limits)
    print_answer(
        json, {"queue": queue, **limits}, f"queue {queue}: {told}" if told else f"queue {queue} is free"
    )


def _with_control(url: str | None, act: Callable[[Control], Awaitable[T]]) -> T:
    async def work(database: Database) -> T:
        return await act(Control(database))

    return on_database(url, work)


def _set_queue(url: str | None, queue: str, new: bool, act: Callable[[Control], Awaitable[None]]) -> None:
    async def checked(control: Control) -> None:
        if not new:
            await check_queue(control, queue, remedy="; --new means it all the same")
        await act(control)

    _with_control(url, checked)


def _limits(one: dict[str, Any]) -> str:
    told = []
    if one["concurrency"] is not None:
        told.append(f"{one['concurrency']} at once")
    if one["rate"] is not None:
        told.append(f"{one['rate']:g}/s" + (f", bursts of {one['burst']}" if one["burst"] > 1 else ""))
    return ", ".join(told)


def _what_to_do(found: list[dict[str, Any]]) -> list[str]:
    """What keeps messages from being done, and the command that comes next."""

    def of(queues: list[str]) -> str:
        return ", ".join(queues[:5]) + (f" and {len(queues) - 5} more" if len(queues) > 5 else "")

    def having(*states: str) -> list[str]:
        return [one["queue"] for one in found if any(one["states"].get(state) for state in states)]

    paused = [one["queue"] for one in found if one["paused"]]
    served = {one["queue"] for one in found if one["workers"]}
    idle = [queue for queue in having("waiting", "running") if queue not in served]
    dead = having("dead")
    return [
        *([f"no worker serves {of(idle)}: mainstay worker MODULE:APP"] if idle else []),
        *([f"paused: mainstay messages resume {paused[0]}"] if paused else []),
        *([f"dead in {of(dead)}: mainstay messages list --state dead --queue {dead[0]}"] if dead else []),
    ]


def _next(found: dict[str, Any], queue: dict[str, Any] | None) -> str:
    """What people can do with a message in its state."""
    id = found["id"]
    if found["kind"].startswith("saga/") and not found["ended_at"]:
        return f"it is the step of a saga: mainstay sagas show {found['payload']['saga']}"
    match found["state"]:
        case "dead" | "cancelled" | "expired":
            return f"to start it over: mainstay messages redrive {id}"
        case "scheduled":
            return f"to have it tried now: mainstay messages retry {id}"
        case "waiting" if queue and queue["paused"]:
            return f"its queue is paused: mainstay messages resume {found['queue']}"
        case "waiting" | "blocked" if queue and not queue["workers"]:
            return f"no worker serves {found['queue']}: mainstay worker MODULE:APP"
        case "running":
            return f"to have it stopped: mainstay messages cancel {id}"
    return ""


def _liveliness(one: dict[str, Any]) -> str:
    if one["alive_for"] < 0:
        return f"silent for {duration(-one['alive_for'])} too long"
    return "idle" if one["idle"] else "busy"
