"""Jobs: typed arguments, what the worker fills in, names that last, results, and bad input told where it is made."""

from __future__ import annotations

import enum
import functools
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as some
from jobs_lab import empty_tables, sql, until, until_done
from pydantic import BaseModel, Field
from sqlalchemy import create_engine, event, text
from sqlalchemy.orm import Session

from mainstay.patterns import Database, Misuse, OutsideCallInTransaction, Transaction
from mainstay.patterns.jobs import BadArguments, JobFailed, NoResult
from mainstay.patterns.jobs.arguments import Arguments
from mainstay.patterns.messages import Message, Messages, NewMessage, PayloadTooLarge, Retry, Unserializable
from mainstay.patterns.messages.control import Control

if TYPE_CHECKING:
    from decimal import Context

SOON = Retry(attempts=3, first=0.01, most=0.01)
ROOT = Path(__file__).parents[2]


class Size(enum.Enum):
    """An argument that JSON does not know."""

    SMALL = "s"
    LARGE = "l"


@dataclass
class Line:
    """An argument with parts."""

    sku: str
    price: Decimal


class Address(BaseModel):
    """An argument that is a model."""

    street: str
    valid_from: date


class Weight(BaseModel):
    """An argument that pydantic writes as null where it is infinite."""

    grams: float


@pytest.fixture
async def messages(db: Database) -> AsyncIterator[Messages]:
    """An engine without jobs, on empty tables."""
    await empty_tables(db)
    yield Messages(db)


async def test_arguments_arrive_as_they_were_given(db: Database, messages: Messages) -> None:
    """Each argument reaches the function with its type, given by position or by name; defaults are the function's."""
    seen: list[tuple[Any, ...]] = []

    @messages.job(name="ship")
    async def ship(
        order: UUID,
        lines: list[Line],
        to: Address,
        *,
        size: Size,
        at: datetime,
        label: bytes,
        note: str = "none",
    ) -> None:
        seen.append((order, lines, to, size, at, label, note))

    order = uuid4()
    lines = [Line("a", Decimal("1.10"))]
    to = Address(street="Main \u2603", valid_from=date(2026, 1, 2))
    at = datetime(2026, 3, 29, 2, 30, tzinfo=UTC)
    async with db.transaction() as tx:
        await tx.enqueue(ship, order, lines, to=to, size=Size.LARGE, at=at, label=b"\xff\x00")
    async with messages.worker():
        await until_done(db)
    assert seen == [(order, lines, to, Size.LARGE, at, b"\xff\x00", "none")]


def takes(
    a: int, b: float, c: Decimal, d: str | None, e: datetime, f: list[bytes], g: dict[str, timedelta], h: UUID
) -> None:
    """The types of the law below."""


@given(
    some.tuples(
        some.integers(),
        some.floats(allow_nan=False),
        some.decimals(allow_nan=False, allow_infinity=False),
        some.none() | some.text(some.characters(codec="utf-8")),
        some.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=some.timezones()).map(
            lambda at: at.astimezone(UTC)
        ),
        some.lists(some.binary()),
        some.dictionaries(
            some.text(some.characters(codec="utf-8")), some.timedeltas(timedelta(-1000), timedelta(1000))
        ),
        some.uuids(),
    )
)
def test_what_is_dumped_is_loaded(values: tuple[Any, ...]) -> None:
    """The law: an argument comes out of the payload equal to what went in."""
    arguments = Arguments("law", takes)
    assert tuple(arguments.load(arguments.dump(values, {})).values()) == values


async def test_a_job_with_a_transaction_commits_with_it(db: Database, messages: Messages) -> None:
    """What a job writes through its transaction is there once, though its first attempt failed after the write."""

    @messages.job(name="write", retry=SOON)
    async def write(what: str, tx: Transaction, message: Message) -> None:
        await tx.execute(
            text("INSERT INTO effect (what) VALUES (:what)"), {"what": f"{what} {message.attempt}"}
        )
        if message.attempt == 1:
            raise RuntimeError("after the write")

    async with db.transaction() as tx:
        await tx.enqueue(write, what="x")
    async with messages.worker():
        await until_done(db)
    assert await sql(db, "SELECT what FROM effect") == [("x 2",)]


async def test_a_rollback_enqueues_nothing(db: Database, messages: Messages) -> None:
    """A job enqueued in a transaction that rolls back was never enqueued."""

    @messages.job(name="never")
    async def never() -> None: ...

    with pytest.raises(ZeroDivisionError):
        async with db.transaction() as tx:
            assert await tx.enqueue(never) is not None
            raise ZeroDivisionError
    assert await sql(db, "SELECT count(*) FROM mainstay.message") == [(0,)]


async def test_a_job_called_directly_is_its_function(messages: Messages) -> None:
    """The decorated function can still be called, and looks like itself."""

    @messages.job(name="add")
    async def add(a: int, b: int = 2) -> int:
        """Add."""
        return a + b

    assert await add(1) == 3
    assert add.__doc__ == "Add." and add.__name__ == "add"


async def test_plain_functions_run_in_threads(db: Database, messages: Messages) -> None:
    """A plain function runs outside the event loop's thread and may have the message."""
    seen: list[tuple[str, int, bool]] = []

    @messages.job(name="plain")
    def plain(what: str, message: Message) -> None:
        seen.append((what, message.attempt, threading.current_thread() is threading.main_thread()))

    async with db.transaction() as tx:
        await tx.enqueue(plain, what="x")
    async with messages.worker():
        await until_done(db)
    assert seen == [("x", 1, False)]


# ------------------------------------------------------------------------------------------- bad input


async def of_one(order_id: UUID, amount: Annotated[int, Field(gt=0)] = 1) -> None:
    """A job at the top of a module."""


ONE = UUID(int=1)


@pytest.mark.parametrize(
    ("args", "kwargs", "says"),
    [
        ((), {}, "job pay needs the argument order_id"),
        ((), {"order_id": ONE, "orderid": 2}, r"job pay has no argument orderid \(it has order_id, amount\)"),
        ((), {"order_id": "x"}, "argument order_id of job pay: Input should be a valid UUID"),
        ((), {"order_id": ONE, "amount": 0}, "argument amount of job pay: Input should be greater than 0"),
        ((ONE, 1, 2), {}, "job pay takes at most 2 arguments by position, not 3"),
        ((ONE,), {"order_id": ONE}, "argument order_id of job pay is given twice"),
        ((), {"order_id": "secret", "amount": -1}, "valid UUID.*, and 1 more like it"),
    ],
)
async def test_bad_arguments_are_told_where_they_are_given(
    db: Database, messages: Messages, args: tuple[Any, ...], kwargs: dict[str, Any], says: str
) -> None:
    """Wrong arguments fail as they are enqueued, in one sentence that names job and argument and no value."""
    pay: Any = messages.job(name="pay")(of_one)
    with pytest.raises(BadArguments, match=says) as caught:
        async with db.transaction() as tx:
            await tx.enqueue(pay, *args, **kwargs)
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)
    assert any(entry.path == Path(__file__) for entry in caught.traceback)


async def test_what_cannot_be_stored_is_told_where_it_is_given(db: Database, messages: Messages) -> None:
    """No JSON, half a character, the character NUL, what JSON would change, and a payload that is too long."""

    @messages.job(name="take")
    async def take(what: Any) -> None: ...

    @messages.job(name="weigh")
    async def weigh(of: Weight) -> None: ...

    async with db.transaction() as tx:
        with pytest.raises(
            Unserializable, match=r"job take cannot be written as JSON: argument what: .*object"
        ):
            await tx.enqueue(take, what=object())
        with pytest.raises(Unserializable, match="job take"):
            await tx.enqueue(take, what="\ud800")
        with pytest.raises(Unserializable, match="NUL"):
            await tx.enqueue(take, what="a\x00")
        with pytest.raises(PayloadTooLarge, match="take has"):
            await tx.enqueue(take, what="a" * 2**20)
        with pytest.raises(
            Unserializable, match=r"job weigh cannot be read back from JSON: argument .*grams"
        ):
            await tx.enqueue(weigh, of=Weight(grams=float("inf")))
        with pytest.raises(ValueError, match="priority is 0 to 9"):
            take.options(priority=10)
    assert await sql(db, "SELECT count(*) FROM mainstay.message") == [(0,)]


def generator() -> Any:
    """Yields."""
    yield 1


def bad_functions() -> list[tuple[Callable[..., Any], str | None, str]]:
    """Functions that cannot be jobs, with what is said."""

    async def nested() -> None: ...
    async def bare(x) -> None: ...  # type: ignore[no-untyped-def]
    async def stars(*args: int) -> None: ...
    async def slash(x: int, /) -> None: ...
    async def strange(x: threading.Lock) -> None: ...
    async def unknown(x: Context) -> None: ...
    def sync(x: int, tx: Transaction) -> None: ...
    async def returns() -> threading.Thread: ...

    return [
        (nested, None, r"nested.*no name that another process would find it under; .*job\(name="),
        (lambda: None, None, "no name that another process"),
        (functools.partial(of_one, amount=2), None, "no name that another process"),
        (bare, "j", "parameter x of job j has no annotation"),
        (stars, "j", r"job j takes \*args"),
        (slash, "j", "job j takes x by position only"),
        (strange, "j", "parameter x of job j has a type that cannot be written as JSON"),
        (unknown, "j", "an annotation of job j names Context, which cannot be found.*TYPE_CHECKING"),
        (sync, "j", "job j is a plain function.*parameter tx is a transaction.*write async def"),
        (generator, "j", "job j is a generator"),
        (returns, "j", "the result of job j cannot be kept"),
    ]


@pytest.mark.parametrize(("function", "name", "says"), bad_functions())
def test_functions_that_cannot_be_jobs_are_refused(
    function: Callable[..., Any], name: str | None, says: str
) -> None:
    """At import time, with the reason and the remedy."""
    messages = Messages(Database("postgresql://localhost/none"))
    with pytest.raises(Misuse, match=says):
        messages.job(name=name, keep=60)(function)


def test_names_last(messages: Messages) -> None:
    """A job's kind is its module and name, whatever process looks; two jobs cannot share one."""
    assert messages.job()(of_one).name == f"{__name__}.of_one"
    with pytest.raises(Misuse, match="have a handler already"):
        messages.job()(of_one)
    with pytest.raises(Misuse, match="with its parentheses"):
        messages.job(of_one)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match='aliases is a list of names: \\["old"\\]'):
        messages.job(aliases="old")


def test_a_job_of_the_main_program_needs_a_name() -> None:
    """``__main__`` is another module in each process."""
    code = (
        "from mainstay.patterns import Database; from mainstay.patterns.messages import Messages\n"
        "messages = Messages(Database('postgresql://localhost/none'))\n"
        "@messages.job()\ndef f() -> None: ...\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "f in module __main__ has no name" in run.stderr


# -------------------------------------------------------------------------------------- other versions


async def test_a_renamed_job_runs_what_was_enqueued_under_its_old_name(
    db: Database, messages: Messages
) -> None:
    """`aliases` names what it was called before."""
    seen: list[int] = []

    @messages.job(name="new", aliases=["old", "older"])
    async def new(n: int) -> None:
        seen.append(n)

    async with db.transaction() as tx:
        await tx.publish(
            NewMessage(kind="old", payload='{"n": 1}'), NewMessage(kind="older", payload='{"n": 2}')
        )
        await tx.enqueue(new, 3)
    async with messages.worker(concurrency=1):
        await until_done(db)
    assert seen == [1, 2, 3]


async def test_an_old_payload_dies_at_once_and_can_be_redriven(db: Database, messages: Messages) -> None:
    """A payload without a parameter that is new fails with the remedy; when that has a default, redriving runs it."""
    seen: list[tuple[int, int]] = []

    async def first(a: int, b: int) -> None:
        raise AssertionError

    messages.job(name="job")(first)
    async with db.transaction() as tx:
        [id] = await tx.publish(NewMessage(kind="job", payload='{"a": 1}'))
    assert id is not None

    async def dead() -> bool:
        return await sql(db, "SELECT state::text FROM mainstay.message") == [("dead",)]

    async with messages.worker():
        await until(dead)
    status = await messages.status(id)
    assert status is not None and status.attempts == 1
    assert "job job needs the argument b; another version of the job enqueued it" in status.errors[0]["error"]

    later = Messages(db)

    @later.job(name="job")
    async def second(a: int, b: int = 5) -> None:
        seen.append((a, b))

    await Control(db).redrive(id)
    async with later.worker():
        await until_done(db)
    assert seen == [(1, 5)]


async def test_a_newer_payload_waits_for_a_newer_worker(db: Database, messages: Messages) -> None:
    """An old worker beside a new publisher puts back what it does not understand, and no attempt is used up."""
    messages.job(name="job", retry=Retry(attempts=1))(of_one)
    async with db.transaction() as tx:
        await tx.publish(NewMessage(kind="job", payload=f'{{"order_id": "{ONE}", "invented": 1}}'))

    async def put_back() -> bool:
        return await sql(db, "SELECT state::text, attempts FROM mainstay.message") == [("scheduled", 0)]

    async with messages.worker():
        await until(put_back)
    later = Messages(db)
    seen: list[int] = []

    @later.job(name="job")
    async def job(order_id: UUID, invented: int) -> None:
        seen.append(invented)

    await sql(db, "UPDATE mainstay.message SET ready_at = now()")
    async with later.worker():
        await until_done(db)
    assert seen == [1]


# ------------------------------------------------------------------------------------ options, results


async def test_options_reach_the_message(db: Database, messages: Messages) -> None:
    """Each option of a call is that of its message; the job itself keeps its own."""

    @messages.job(name="mail", queue="mail")
    async def mail(n: int) -> None: ...

    async with db.transaction() as tx:
        assert await tx.enqueue(
            mail.options(unique="u", priority=3, key="k", delay=60, headers={"a": "b"}), n=1
        )
        assert await tx.enqueue(mail.options(unique="u"), n=2) is None
        assert await tx.enqueue(mail.options(queue="other", expires=60).options(key_limit=2, key="k"), n=3)
        assert await tx.enqueue(mail, n=4)
    assert await sql(
        db,
        "SELECT (payload ->> 'n')::int, queue, unique_key, priority, key, key_limit, state::text, headers::text,"
        " expires_at IS NOT NULL FROM mainstay.message ORDER BY 1",
    ) == [
        (1, "mail", "u", 3, "k", 1, "scheduled", '{"a": "b"}', False),
        (3, "other", None, 0, "k", 2, "waiting", None, True),
        (4, "mail", None, 0, None, None, "waiting", None, False),
    ]


async def test_many_are_enqueued_by_one_statement(db: Database, messages: Messages) -> None:
    """Also a thousand jobs are one INSERT; their numbers come in order."""

    @messages.job(name="count")
    async def count(n: int) -> None: ...

    statements: list[str] = []
    async with db.transaction() as tx:
        await tx.scalar(text("SELECT 1"))
        listened = db.engine.sync_engine
        event.listen(listened, "before_cursor_execute", lambda _, __, text, *___: statements.append(text))
        ids = await messages.enqueue_many(tx, count, ({"n": n} for n in range(1000)))
    assert len(statements) == 1
    rows = await sql(db, "SELECT id, (payload ->> 'n')::int FROM mainstay.message ORDER BY id")
    assert rows == [(id, n) for n, id in enumerate(ids)]


async def test_a_plain_session_enqueues_too(db: Database, messages: Messages) -> None:
    """In a `Session`'s transaction, one or many; a rollback takes them back."""

    @messages.job(name="count")
    async def count(n: int) -> None: ...

    engine = create_engine(db.engine.url.set(drivername="postgresql+psycopg"))
    with Session(engine) as session:
        assert messages.enqueue_sync(session, count, n=1) is not None
        assert len(messages.enqueue_many_sync(session, count, [{"n": 2}, {"n": 3}])) == 2
        session.commit()
        messages.enqueue_sync(session, count, n=4)
        session.rollback()
    engine.dispose()
    assert await sql(db, "SELECT (payload ->> 'n')::int FROM mainstay.message ORDER BY 1") == [
        (1,),
        (2,),
        (3,),
    ]


async def test_results_are_kept_and_typed(db: Database, messages: Messages) -> None:
    """With `keep`, a result is there to be waited for, typed where the job is named; progress is seen meanwhile."""

    @messages.job(name="price", keep=60)
    async def price(sku: str, message: Message) -> Line:
        await message.report_progress({"percent": 50})
        return Line(sku, Decimal("9.99"))

    async with db.transaction() as tx:
        id = await tx.enqueue(price, sku="a")
    assert id is not None
    waiting = await messages.status(id)
    assert waiting is not None and (waiting.state, waiting.name, waiting.ended) == ("waiting", "price", False)
    async with messages.worker():
        assert await messages.result(id, price) == Line("a", Decimal("9.99"))
    assert await messages.result(id) == {"sku": "a", "price": "9.99"}
    done = await messages.status(id)
    assert done is not None and (done.progress, done.attempts, done.ended) == ({"percent": 50}, 1, True)
    assert done.result == {"sku": "a", "price": "9.99"} and done.errors == []


async def test_waiting_for_no_result_says_why(db: Database, messages: Messages) -> None:
    """A job that died, one that is not there, one that takes too long, and a transaction that would be held."""

    @messages.job(name="fail", retry=Retry(attempts=1))
    async def fail() -> None:
        raise ValueError("no paper")

    async with db.transaction() as tx:
        id = await tx.enqueue(fail)
        assert id is not None
        with pytest.raises(OutsideCallInTransaction, match="waiting for the result of a job"):
            await messages.result(id)
    with pytest.raises(TimeoutError, match=f"job {id} has not ended within 0.05 s"):
        await messages.result(id, timeout=0.05)
    async with messages.worker():
        with pytest.raises(JobFailed, match=rf"job {id} \(fail\) is dead: ValueError: no paper") as failed:
            await messages.result(id)
    assert failed.value.status.state == "dead"
    with pytest.raises(NoResult, match="job 99 is not there"):
        await messages.result(99)
    assert await messages.status(99) is None


async def test_a_result_that_nobody_keeps_may_be_anything(db: Database, messages: Messages) -> None:
    """Also with a unique key, with which the message outlives its success for a moment."""

    @messages.job(name="anything", retry=Retry(attempts=1))
    async def anything() -> Any:
        return object()

    async with db.transaction() as tx:
        await tx.enqueue(anything.options(unique="one"))

    async def gone_or_done() -> bool:
        return await sql(db, "SELECT count(*) FROM mainstay.message WHERE state <> 'succeeded'") == [(0,)]

    async with messages.worker():
        await until(gone_or_done)


# ----------------------------------------------------------------------------------------------- types

CHECKED = """
from mainstay.patterns import Database, Transaction
from mainstay.patterns.messages import Message, Messages
messages = Messages(Database("postgresql://localhost/none"))

@messages.job(keep=60)
async def send(tx: Transaction, order: int, note: str = "") -> str: return ""

@messages.job()
def plain(message: Message, n: int) -> None: ...

async def use(tx: Transaction) -> None:
    await messages.enqueue(tx, send, order=1)
    await messages.enqueue(tx, send.options(delay=60), 1, "n")
    await messages.enqueue(tx, plain, n=1)
    await tx.enqueue(send, order=1)
    plain.message(2)
    text: str = await messages.result(1, send)
    again: str = await send(tx, 1)
    await messages.enqueue(tx, send, order="x")  # BAD
    await messages.enqueue(tx, send, oder=1)  # BAD
    await messages.enqueue(tx, plain)  # BAD
    await tx.enqueue(send, oder=1)  # BAD
    send.options(dealy=60)  # BAD
    number: int = await messages.result(1, send)  # BAD
"""


def test_type_checkers_know_the_arguments(tmp_path: Path) -> None:
    """mypy accepts what is right and finds each of the mistakes, at its line."""
    file = tmp_path / "checked.py"
    file.write_text(CHECKED)
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context", str(file)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    found = {int(line.split(":")[1]) for line in run.stdout.splitlines() if ": error:" in line}
    assert found == {n for n, line in enumerate(CHECKED.splitlines(), 1) if "# BAD" in line}, run.stdout
