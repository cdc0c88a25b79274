"""Schedules: one firing a tick over all workers, missed ticks, overlap, deploys, and what people do with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from jobs_lab import AWAY, HOURLY, LAST_TICK, empty_tables, sql, until, until_done
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

from mainstay.patterns import Database, Misuse
from mainstay.patterns.messages import Message, Messages
from mainstay.patterns.messages.driver import Link
from mainstay.patterns.messages.statements import Statement
from mainstay.patterns.messages.worker import Worker
from mainstay.patterns.schedules import UnknownSchedule, fire_now, list_schedules, pause, resume
from mainstay.patterns.schedules.firing import Firing

HOUR = 3600
MINUTE = 60
LATER = (AWAY + 5) % 60
NEWER = f"{LATER} * * * *"


@pytest.fixture
async def messages(db: Database) -> AsyncIterator[Messages]:
    """An engine without jobs, on empty tables."""
    await empty_tables(db)
    yield Messages(db)


def nightly(messages: Messages, cron: str | None = None, **options: Any) -> list[datetime]:
    """Declare the schedule ``nightly`` over a job of that name; the list to which it adds each tick it is run for."""
    seen: list[datetime] = []

    @messages.schedule(cron, **options)
    @messages.job(name="nightly")
    async def job(scheduled_for: datetime) -> None:
        seen.append(scheduled_for)

    return seen


async def known(messages: Messages) -> None:
    """Have a worker make the schedules known, and end."""
    async with messages.worker(poll=0.1):
        pass


async def move(db: Database, ago: float, name: str = "nightly") -> datetime:
    """Let the next tick have been the last one that was at least so many full hours ago; that tick."""
    statement = (
        f"UPDATE mainstay.schedule SET next_at = {LAST_TICK} - make_interval(secs => :ago)"
        " WHERE name = :name RETURNING next_at"
    )
    tick: datetime = (await sql(db, statement, ago=ago, name=name))[0][0]
    return tick.astimezone(UTC)


async def dealt_with(db: Database) -> bool:
    """Whether no schedule is due."""
    return await sql(db, "SELECT count(*) FROM mainstay.schedule WHERE next_at <= now()") == [(0,)]


# ------------------------------------------------------------------------------------------- one firing


async def test_a_tick_is_fired_once_by_two_workers(db: Database, messages: Messages) -> None:
    """Of two workers one enqueues the job; it is told its tick, as argument and as header, and the next one stands."""
    headers: list[str] = []

    @messages.schedule(HOURLY, arguments={"region": "eu"})
    @messages.job(name="nightly")
    async def job(message: Message, region: str, scheduled_for: datetime) -> None:
        headers.append(message.headers["scheduled_for"])
        assert region == "eu" and datetime.fromisoformat(headers[-1]) == scheduled_for

    await known(messages)
    assert headers == []  # a new schedule does not make up for the past
    tick = await move(db, HOUR)
    async with messages.worker(poll=0.1), messages.worker(poll=0.1):
        await until(lambda: len(headers) == 1)
        await until_done(db)
        assert await dealt_with(db)
    [[found]] = await sql(db, "SELECT last_fired FROM mainstay.schedule")
    # Two hours have passed, or one: the newest counts.
    assert headers == [found.astimezone(UTC).isoformat().replace("+00:00", "Z")] and found >= tick


async def test_ticks_come_on_time(db: Database, messages: Messages) -> None:
    """Every second, one job each: not before its time, and long before a worker would look by itself."""
    run: list[datetime] = []
    seen: list[datetime] = []

    @messages.schedule(every=1, missed="all")
    @messages.job(name="nightly")
    async def job(scheduled_for: datetime) -> None:
        seen.append(scheduled_for)
        run.append(datetime.now(UTC))

    async with messages.worker(poll=60), messages.worker(poll=60):
        await until(lambda: len(seen) >= 3)
    assert seen == [seen[0] + timedelta(seconds=n) for n in range(len(seen))]
    assert all(tick <= at for tick, at in zip(seen, run, strict=True))


class Puppet:
    """A worker whose statements go through one by one, and whose clock is the test's."""

    def __init__(self, link: Link, id: int, definitions: Any, clock: Callable[[], datetime]) -> None:
        self.link = link
        self.id = id
        self.clock = clock
        self.firing = Firing(definitions)
        self.allowed = asyncio.Semaphore(0)
        self.asks = asyncio.Event()
        self.upkeep = SimpleNamespace(link=self, hurry=lambda *_: None)
        self.feed = lambda _: None
        self.task: asyncio.Task[None] | None = None

    async def fetch(self, statement: Statement, /, **values: Any) -> Sequence[Sequence[Any]]:
        """Wait to be allowed the next statement. All ticks lie in the past, so the database lets each one pass."""
        self.asks.set()
        await self.allowed.acquire()
        rows = await self.link.fetch(statement, **values)
        if statement.name == "due":
            now = self.clock()
            rows = [(*row[:6], now, (row[4] - now).total_seconds() if row[4] else None) for row in rows]
        return rows

    async def advance(self) -> None:
        """Begin a round if none is under way, and let one statement through."""
        if self.task is None or self.task.done():
            if self.task is not None:
                self.task.result()
            self.task = asyncio.create_task(self.firing.step(cast(Worker, self)))
        await self.next_wish()
        if not self.task.done():
            self.asks.clear()
            self.allowed.release()
            await self.next_wish()

    async def next_wish(self) -> None:
        """Wait until it wants the next statement, or is through."""
        assert self.task is not None
        wish = asyncio.create_task(self.asks.wait())
        await asyncio.wait((self.task, wish), return_when=asyncio.FIRST_COMPLETED)
        wish.cancel()

    async def end(self) -> None:
        """Leave it where it is."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)


@pytest.mark.parametrize(("driver", "examples"), [("psycopg", 25), ("asyncpg", 10)])
def test_no_interleaving_loses_or_doubles_a_tick(empty: URL, driver: str, examples: int) -> None:
    """The law: however the statements of three workers and the clock interleave, each tick is fired once, in order.

    One worker may stop for good at any statement, and another begins in its place.
    """

    async def prepare() -> None:
        async with Database(empty) as db:
            await empty_tables(db)

    asyncio.run(prepare())

    @settings(max_examples=examples, deadline=None)
    @given(
        some.lists(some.sampled_from(["a", "b", "c", "a", "b", "c", "time", "die"]), min_size=5, max_size=60)
    )
    def law(moves: list[str]) -> None:
        asyncio.run(play(empty.set(drivername=f"postgresql+{driver}"), moves))

    law()


async def play(address: URL, moves: list[str]) -> None:
    """Make these moves on three workers, then let one finish; compare with the clock."""
    begin = datetime(2020, 3, 29, 0, 30, tzinfo=UTC)
    clock = begin
    async with Database(address, pool_size=2) as db:
        for table in ("message", "worker", "schedule", "schedule_definition"):
            await sql(db, f"DELETE FROM mainstay.{table}")
        messages = Messages(db)
        nightly(messages, "*/20 * * * *", zone="Europe/Berlin", missed="all", overlap=True)
        assert messages._schedules is not None
        definitions = messages._schedules.definitions
        links: list[Link] = []

        async def hire() -> Puppet:
            rows = await sql(
                db,
                "INSERT INTO mainstay.worker (name, alive_until) VALUES ('puppet', 'infinity') RETURNING id",
            )
            links.append(Link(db, "puppet"))
            return Puppet(links[-1], rows[0][0], definitions, lambda: clock)

        puppets = {name: await hire() for name in "abc"}
        try:
            for _ in range(3):
                await puppets["a"].advance()
            for step in moves:
                match step:
                    case "time":
                        clock += timedelta(minutes=25)
                    case "die":
                        await puppets["c"].end()
                        puppets["c"] = await hire()
                    case _:
                        await puppets[step].advance()
            clock += timedelta(minutes=25)
            for _ in range(20):
                await puppets["a"].advance()
            fired = await sql(db, "SELECT headers ->> 'scheduled_for' FROM mainstay.message ORDER BY id")
            ticks = [begin + timedelta(minutes=10 + 20 * n) for n in range(len(moves) * 2)]
            assert [datetime.fromisoformat(tick) for (tick,) in fired] == [
                one for one in ticks if one <= clock
            ]
        finally:
            for puppet in puppets.values():
                await puppet.end()
            for link in links:
                await link.drop()


async def test_the_table_refuses_to_fire_a_tick_twice(db: Database, messages: Messages) -> None:
    """Whatever a worker believes: a tick before the next one, or of a paused schedule, cannot be dealt with."""
    nightly(messages, HOURLY)
    await known(messages)
    with pytest.raises(DBAPIError, match="cannot fire"):
        await sql(db, "UPDATE mainstay.schedule SET last_tick = next_at - interval '1 second'")
    with pytest.raises(DBAPIError, match="next_is_later"):
        await sql(db, "UPDATE mainstay.schedule SET last_tick = next_at")
    await pause(db, "nightly")
    with pytest.raises(DBAPIError, match="cannot fire"):
        await sql(
            db, "UPDATE mainstay.schedule SET last_tick = next_at, next_at = next_at + interval '1 hour'"
        )


# --------------------------------------------------------------------------------------- missed, overlap


@pytest.mark.parametrize(
    ("options", "ago", "fired"),
    [
        ({"missed": "once"}, 5 * HOUR, [0]),
        ({"missed": "skip", "grace": 0}, 5 * HOUR, []),
        ({"missed": "skip", "grace": HOUR}, 5 * HOUR, [0]),
        ({"missed": "all"}, 5 * HOUR, [5, 4, 3, 2, 1, 0]),
        ({"missed": "all", "most": 3}, 5 * HOUR, [2, 1, 0]),
        ({"missed": "once"}, 20 * 366 * 24 * HOUR, [0]),
        ({"missed": "all", "overlap": True, "most": 2}, 20 * 366 * 24 * HOUR, [1, 0]),
    ],
)
async def test_what_becomes_of_missed_ticks(
    db: Database, messages: Messages, options: dict[str, Any], ago: float, fired: list[int]
) -> None:
    """While no worker ran, ticks passed: the newest is run, or none, or each, the newest so many, oldest first."""
    seen = nightly(messages, HOURLY, **options)
    await known(messages)
    await move(db, ago)
    [[newest]] = await sql(db, f"SELECT {LAST_TICK}")
    async with messages.worker(poll=0.1, concurrency=1):

        async def through() -> bool:
            return await dealt_with(db) and len(seen) >= len(fired)

        await until(through)
        await until_done(db)
    assert [(newest.astimezone(UTC) - tick) / timedelta(hours=1) for tick in seen] == fired


async def test_a_tick_waits_for_nobody_unless_told(db: Database, messages: Messages) -> None:
    """While the job of an earlier tick runs: passed over by default, run beside it with overlap, after it with all."""
    gate = asyncio.Event()
    running = dict.fromkeys(("alone", "beside", "after"), 0)
    most, runs = dict(running), dict(running)

    def declare(name: str, **options: Any) -> None:
        @messages.schedule(every=1, name=name, **options)
        @messages.job(name=name)
        async def job() -> None:
            running[name] += 1
            most[name] = max(most[name], running[name])
            runs[name] += 1
            await gate.wait()
            running[name] -= 1

    declare("alone")
    declare("beside", overlap=True)
    declare("after", missed="all")
    async with messages.worker(poll=0.1):
        await until(lambda: runs["beside"] >= 3)
        assert (runs["alone"], runs["after"]) == (1, 1)
        assert await sql(db, "SELECT count(*) > 1 FROM mainstay.message WHERE kind = 'after'") == [(True,)]
        gate.set()
        await until(lambda: runs["alone"] >= 2 and runs["after"] >= 3)
    assert most["alone"] == most["after"] == 1 and most["beside"] >= 3


async def test_one_that_cannot_be_fired_holds_up_no_other(db: Database, messages: Messages) -> None:
    """The database refuses the message of one (its payload is no JSON); the next one fires all the same."""

    @messages.schedule(HOURLY, overlap=True, name="a")
    @messages.job(name="job")
    async def job() -> None: ...

    assert messages._schedules is not None
    broken = messages._schedules.definitions["a"]
    messages._schedules.definitions["a"] = replace(broken, message=broken.message.but(payload="{"))
    seen = nightly(messages, HOURLY)
    await known(messages)
    await move(db, HOUR, "a")
    await move(db, HOUR)
    async with messages.worker(poll=0.1):
        await until(lambda: len(seen) == 1)
    assert await sql(db, "SELECT name FROM mainstay.schedule WHERE next_at <= now()") == [("a",)]


# ------------------------------------------------------------------------------------------------ deploys


async def definition(db: Database) -> str:
    """What counts, as people see it."""
    return (await list_schedules(db))[0].ticks


async def test_in_a_deploy_the_newer_definition_counts_and_stays(db: Database) -> None:
    """Old and new workers side by side, old ones restarting, a rollback: no flip-flop, and nobody else fires."""
    await empty_tables(db)

    def version(cron: str) -> tuple[Messages, list[datetime]]:
        messages = Messages(db)
        return messages, nightly(messages, cron)

    (old, of_old), (new, of_new) = version(HOURLY), version(NEWER)
    async with old.worker(poll=0.1):
        assert await definition(db) == f"{HOURLY} UTC"
        async with new.worker(poll=0.1):
            assert await definition(db) == f"{NEWER} UTC"
            again, of_again = version(HOURLY)
            async with again.worker(poll=0.1) as restarted:
                await until(lambda: restarted.upkeep._seldom > 0)  # it has been through its duties
                assert await definition(db) == f"{NEWER} UTC"
                await move(db, HOUR)
                await until(lambda: len(of_new) + len(of_old) + len(of_again) == 1)
                await until(lambda: dealt_with(db))
                assert await definition(db) == f"{NEWER} UTC"
                [[next_at]] = await sql(db, "SELECT next_at FROM mainstay.schedule")
                assert next_at.minute == LATER

        async def rolled_back() -> bool:
            return await definition(db) == f"{HOURLY} UTC"

        await until(rolled_back)
        [[next_at]] = await sql(db, "SELECT next_at FROM mainstay.schedule")
        assert next_at.minute == AWAY


async def test_a_changed_expression_begins_now(db: Database) -> None:
    """It fires nothing for the past; what was due stays due; other changes leave the next tick alone."""
    await empty_tables(db)
    yearly, same, hourly, later = (Messages(db) for _ in range(4))
    seen = nightly(yearly, "0 0 1 1 *")
    seen += nightly(same, "0 0 1 1 *", missed="skip")
    of_hourly = nightly(hourly, HOURLY)
    of_later = nightly(later, "0 0 1 2 *")
    await known(yearly)
    [[first]] = await sql(
        db, "UPDATE mainstay.schedule SET next_at = now() + interval '5 days' RETURNING next_at"
    )
    await known(same)
    assert await sql(db, "SELECT next_at FROM mainstay.schedule") == [(first,)]
    await known(hourly)
    assert await sql(
        db, "SELECT next_at - now() BETWEEN '0' AND '1 hour', last_tick FROM mainstay.schedule"
    ) == [(True, None)]
    due = await move(db, 2 * HOUR)
    async with later.worker(poll=0.1):
        await until(lambda: len(of_later) == 1)
    assert (seen, of_hourly, of_later) == ([], [], [due])
    [[next_at]] = await sql(db, "SELECT next_at FROM mainstay.schedule")
    assert next_at.astimezone(UTC).month == 2


async def test_a_schedule_that_was_forgotten_as_it_was_declared_is_declared_again(
    db: Database, messages: Messages
) -> None:
    """Its worker looks now and then whether the tables still say so; else it would not be fired until a restart."""
    seen = nightly(messages, every=1)
    [firing] = [
        duty.__self__ for duty in messages.duties if isinstance(getattr(duty, "__self__", None), Firing)
    ]
    async with messages.worker(poll=0.1):
        await until(lambda: len(seen) >= 1)
        await sql(db, "DELETE FROM mainstay.schedule")
        await sql(db, "DELETE FROM mainstay.schedule_definition")
        before = len(seen)
        firing._seldom = 0.0
        await until(lambda: len(seen) >= before + 2)


async def test_a_removed_schedule_is_not_fired_and_forgotten_after_a_week(db: Database) -> None:
    """Workers without it let it be; it is shown as undeclared; when it comes back within a week it goes on."""
    await empty_tables(db)
    with_it, without = Messages(db), Messages(db)
    seen = nightly(with_it, HOURLY)

    @without.schedule("0 0 1 1 *", name="other")
    @without.job(name="nightly")
    async def another() -> None: ...

    await known(with_it)
    await move(db, HOUR)
    async with without.worker(poll=0.1):

        async def noted() -> bool:
            return (
                await sql(
                    db, "SELECT undeclared_since IS NOT NULL FROM mainstay.schedule WHERE name = 'nightly'"
                )
            )[0][0]

        await until(noted)
        assert {one.name: one.state for one in await list_schedules(db)} == {
            "nightly": "undeclared",
            "other": "active",
        }
    assert not await dealt_with(db)
    async with with_it.worker(poll=0.1):
        await until(lambda: len(seen) == 1)
    await sql(db, "UPDATE mainstay.schedule SET undeclared_since = now() - interval '8 days'")
    again = Messages(db)
    again.schedule(every=60, name="other")(again.job(name="job")(nothing))
    async with again.worker(poll=0.1):

        async def forgotten() -> bool:
            return [one.name for one in await list_schedules(db)] == ["other"]

        await until(forgotten)
    assert await sql(db, "SELECT DISTINCT schedule FROM mainstay.schedule_definition") == [("other",)]


async def nothing() -> None:
    """A job."""


async def test_a_worker_that_was_declared_gone_declares_anew(db: Database, messages: Messages) -> None:
    """Its declarations went with it; with its new number they are back, and its schedules fire."""
    seen = nightly(messages, HOURLY)
    async with messages.worker(poll=0.1, lease=0.3) as worker:
        old = worker.id
        await sql(db, "DELETE FROM mainstay.worker")
        assert await sql(db, "SELECT count(*) FROM mainstay.schedule_declaration") == [(0,)]
        await until(lambda: worker.id != old)
        await move(db, HOUR)
        await until(lambda: len(seen) == 1)


# ------------------------------------------------------------------------------------------------- people


async def test_pause_resume_and_fire_now(db: Database, messages: Messages) -> None:
    """Paused: nothing fires and nothing is made up for after; by hand it can be run all the same."""
    seen = nightly(messages, HOURLY, zone="Europe/Berlin")
    async with messages.worker(poll=0.1) as worker:
        await pause(db, "nightly")
        await move(db, 5 * HOUR)
        [shown] = await list_schedules(db)
        assert (shown.name, shown.job, shown.ticks, shown.state) == (
            "nightly",
            "nightly",
            f"{HOURLY} Europe/Berlin",
            "paused",
        )
        rounds: list[int] = []
        messages.duties.append(lambda _: asyncio.sleep(0, rounds.append(1)))
        await until(lambda: len(rounds) >= 2)
        assert seen == [] and not await dealt_with(db)
        assert await fire_now(db, "nightly") is not None
        await until(lambda: len(seen) == 1)
        await until_done(db)
        assert await resume(db, "nightly") > datetime.now(UTC)
        rounds.clear()
        await until(lambda: len(rounds) >= 2)
        assert len(seen) == 1
        await move(db, HOUR)
        await until(lambda: len(seen) == 2)
        before = await list_schedules(db)
        assert await resume(db, "nightly") == before[0].next_at  # without effect
        assert before[0].state == "active" and before[0].last_fired == seen[1]
        assert before[0].last_message is not None and worker.failed == 0
    for action in (pause, resume, fire_now):
        with pytest.raises(UnknownSchedule, match="there is no schedule 'daily'"):
            await action(db, "daily")


async def test_by_hand_it_does_not_overlap_either(db: Database, messages: Messages) -> None:
    """While the job of a schedule waits or runs, `fire_now` enqueues no second one."""
    nightly(messages, HOURLY)
    await known(messages)
    assert await fire_now(db, "nightly") is not None
    assert await fire_now(db, "nightly") is None


def test_wrong_declarations_are_told() -> None:
    """At import time, in one sentence."""
    messages = Messages(Database("postgresql://localhost/none"))
    job: Any = messages.job(name="job", queue="q")(takes_region)
    region = {"region": "eu"}

    def refused(says: str, *cron: str, over: Any = job, **options: Any) -> None:
        with pytest.raises(Misuse, match=says):
            messages.schedule(*cron, **options)(over)

    refused("either a cron expression or every")
    refused("either a cron expression or every", "* * * * *", every=5)
    refused("the hour '24' is wrong", "0 24 * * *", arguments=region)
    refused("there is no time zone 'Mars'", "0 1 * * *", zone="Mars")
    refused("missed is one of skip, once, all, not 'twice'", "0 1 * * *", missed="twice")
    refused("grace is a number of seconds", "0 1 * * *", grace=-1)
    refused("most is 1 to 1000", "0 1 * * *", most=0)
    refused("takes_region is no job yet: write @messages.schedule above", "0 1 * * *", over=takes_region)
    refused(r"schedule job: job job needs the argument region; give it by arguments=\{", "0 1 * * *")
    refused("has no argument city", "0 1 * * *", arguments={**region, "city": 1})
    for options in ({"unique": "u"}, {"delay": 5}):
        refused("the schedule's own business", "0 1 * * *", over=job.options(**options), arguments=region)
    refused("needs overlap=True", every=5, missed="all", over=job.options(key="k"), arguments=region)
    for name in ("", "a\x00", "\ud800"):
        refused("cannot (be stored|store)", "0 1 * * *", arguments=region, name=name)
    with pytest.raises(Misuse, match="cannot store"):
        job.options(headers={"a": "\x00"}).message("eu")
    assert messages.schedule("0 1 * * *", arguments=region)(job) is job
    refused("there is a schedule 'job' already; give each one a name", "0 2 * * *", arguments=region)
    messages.schedule("0 2 * * *", arguments=region, name="second")(job)


async def takes_region(region: str) -> None:
    """A job with an argument."""
