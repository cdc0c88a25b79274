"""`mainstay db`, `schedules`, `sagas` and `subscriptions`: what they show, and what they do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from operations_help import Ended

from mainstay.patterns import Database, Transaction
from mainstay.patterns.events import Event
from mainstay.patterns.messages import Messages, Retry
from mainstay.patterns.saga import Saga, step
from mainstay.patterns.schema import migrations

Sql = Callable[..., list[Any]]
Mainstay = Callable[..., Ended]


class Placed(Event):
    """Something to subscribe to."""

    order: int


class Order(Saga):
    """Order 2 cannot be paid and is stuck after one attempt; all others are done."""

    order: int

    @step(no_undo=True)
    async def reserve(self, tx: Transaction) -> None:
        """Always done."""

    @step(pivot=True)
    async def accept(self, tx: Transaction) -> None:
        """Always done."""

    @step(retry=Retry(attempts=1, first=600, most=600))
    async def pay(self, tx: Transaction) -> None:
        """Fails for order 2."""
        if self.order == 2:
            raise RuntimeError("the provider is away")


@pytest.fixture
def app(url: str, sql: Sql) -> None:
    """A worker ran for a while: schedules and subscribers are declared, saga 1 is completed, saga 2 is stuck."""

    async def run() -> None:
        async with Database(url) as database:
            messages = Messages(database)
            messages.saga(Order)

            @messages.schedule("0 9 * * 1-5", zone="Europe/Berlin")
            @messages.job(name="nightly", queue="reports")
            async def nightly(tx: Transaction) -> None: ...

            @messages.subscribe(Placed, name="count")
            async def count(event: Placed, tx: Transaction) -> None: ...

            async with database.transaction() as tx:
                for number in (1, 2):
                    await Order(order=number).start(tx)
            async with messages.worker():
                await until_settled(sql)

    asyncio.run(run())


async def until_settled(sql: Sql) -> None:
    """Wait until saga 1 has ended and saga 2 is stuck, for at most a minute."""
    end = time.monotonic() + 60
    while sql("SELECT ended_at IS NOT NULL, stuck IS NOT NULL FROM mainstay.saga_status ORDER BY id") != [
        (True, False),
        (False, True),
    ]:
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


def test_the_tables_are_made_and_seen(bare: str, mainstay: Mainstay) -> None:
    """Status is 1 until all migrations are applied; upgrade says which it applied, and can be run again."""
    last = migrations()[-1]
    assert mainstay("db", "status", database=bare).code == 1
    assert mainstay("db", "upgrade", "--to", 1, database=bare).out == "applied 0001 messages\n"
    missing = mainstay("db", "status", "--json", database=bare)
    assert (missing.code, missing.json["applied"]) == (1, [1])
    assert f"applied {last.number:04} {last.name}\n" in mainstay("db", "upgrade", database=bare).out
    assert mainstay("db", "upgrade", "--json", database=bare).json == {"applied": []}
    status = mainstay("db", "status", database=bare)
    assert status.code == 0 and "missing" not in status.out
    assert "there is no migration 99" in mainstay("db", "upgrade", "--to", 99, database=bare).refusal


def test_schedules_are_listed_paused_resumed_and_fired(app: None, sql: Sql, mainstay: Mainstay) -> None:
    """Firing enqueues one job, and not a second while the first has not ended."""
    assert "0 9 * * 1-5 Europe/Berlin" in mainstay("schedules", "list").out
    assert "undeclared: no live worker has it" in mainstay("schedules", "list").out
    assert max(map(len, mainstay("schedules", "list", columns=60).out.splitlines())) <= 60
    assert mainstay("schedules", "pause", "nightly").out == "schedule nightly is paused\n"
    (one,) = mainstay("schedules", "list", "--json").json
    assert (one["name"], one["state"], one["last_message"]) == ("nightly", "paused", None)
    assert "T" in one["next_at"]
    assert mainstay("schedules", "resume", "nightly").out.startswith("schedule nightly goes on, next at 20")
    id = mainstay("schedules", "fire", "nightly", "--json").json["message"]
    assert sql("SELECT kind FROM mainstay.message WHERE id = %s", id) == [("nightly",)]
    assert "has not ended yet" in mainstay("schedules", "fire", "nightly").refusal
    assert "'nightyl'" in mainstay("schedules", "fire", "nightyl").refusal
    assert "did you mean 'nightly'" in mainstay("schedules", "pause", "nightyl").refusal


def test_sagas_are_listed_and_shown(app: None, mainstay: Mainstay) -> None:
    """Stuck ones with the reason; one with its steps, data and errors."""
    out = mainstay("sagas", "list").out
    assert "step pay has failed 1 times: " in out and "the provider is away" in out
    assert "completed" in out
    assert [one["id"] for one in mainstay("sagas", "list", "--json", "--stuck").json] == [2]
    assert [one["id"] for one in mainstay("sagas", "list", "--json", "--state", "completed").json] == [1]
    assert max(map(len, mainstay("sagas", "list", columns=60).out.splitlines())) <= 60
    shown = mainstay("sagas", "show", 2)
    for part in (
        "2 Order",
        "finishing",
        '"order": 2',
        "accept",
        "pivot",
        "pending",
        "RuntimeError: the provider is away",
    ):
        assert part in shown.out
    assert "StepFailed" not in shown.out and "mainstay/patterns" not in shown.out
    assert shown.out.partition("to get it going again:\n")[2].splitlines() == [
        "  mainstay sagas retry 2                  what failed is mended: try pay now",
        "  mainstay sagas skip 2 --because REASON  pay was done by hand, or need not be",
    ]
    assert "what to do about one that is stuck: sagas show 2" in out
    assert [one["name"] for one in mainstay("sagas", "show", 2, "--json").json["steps"]] == [
        "reserve",
        "accept",
        "pay",
    ]


def test_a_saga_is_helped(app: None, sql: Sql, mainstay: Mainstay) -> None:
    """Retried, refused to go back behind its pivot, and skipped with fields set."""
    assert mainstay("sagas", "retry", 2).out == "saga 2: it is tried now; now finishing at step pay\n"
    assert sql("SELECT state::text FROM mainstay.message WHERE kind LIKE '%%pay'") == [("waiting",)]
    for verb in ("cancel", "compensate"):
        assert "only goes forward" in mainstay("sagas", verb, 2, "--because", "no").refusal
    done = mainstay(
        "sagas", "skip", 2, 1, 77, "--because", "paid in cash", "--data", '{"order": 3}', "--json"
    )
    assert done.code == 2
    assert [one["id"] for one in done.json["sagas"]] == [2]
    assert list(done.json["not_done"]) == ["1", "77"]
    assert mainstay("sagas", "show", 2, "--json").json["data"] == {"order": 3}
    assert mainstay("sagas", "show", 2, "--json").json["state"] == "completed"


def test_subscriptions_are_listed_and_retired(app: None, mainstay: Mainstay) -> None:
    """Retiring is asked about, since what waits is called off."""
    assert "count" in mainstay("subscriptions", "list").out
    assert (
        "this would retire count and call off 0 waiting messages"
        in mainstay("subscriptions", "retire", "count").refusal
    )
    assert mainstay("subscriptions", "retire", "count", "--yes").code == 0
    assert mainstay("subscriptions", "list", "--json").json[0]["state"] == "retired"
    assert "there is no subscriber 'counts'" in mainstay("subscriptions", "retire", "counts").refusal


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["sagas", "show", "7"], "there is no saga 7"),
        (["sagas", "list", "--state", "runing"], "there is no state 'runing' (did you mean 'running'?)"),
        (["sagas", "retry", "7"], "there is no saga 7"),
        (["sagas", "skip", "7"], "--because"),
        (["sagas", "skip", "7", "--because", " "], "--because needs a reason"),
        (["sagas", "skip", "7", "--because", "x", "--data", "{"], "--data is no JSON"),
        (["sagas", "skip", "7", "--because", "x", "--data", "[1]"], "--data is a JSON object"),
        (["schedules", "resume", "none"], "there is no schedule 'none'"),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], says: str, sql: Sql, mainstay: Mainstay) -> None:
    """With exit code 2."""
    ended = mainstay(*arguments)
    assert says in ended.err and ended.code == 2 and ended.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["messages", "list"], "there are no messages"),
        (["messages", "stats"], "there are no messages"),
        (["messages", "workers"], "there are no workers"),
        (["schedules", "list"], "there are no schedules"),
        (["sagas", "list"], "there are no sagas"),
        (["subscriptions", "list"], "there are no subscriptions"),
    ],
)
def test_where_there_is_nothing_it_says_so(
    arguments: list[str], says: str, sql: Sql, mainstay: Mainstay
) -> None:
    """And JSON has an empty list."""
    assert mainstay(*arguments).out.startswith(says)
    assert mainstay(*arguments, "--json").json == []
