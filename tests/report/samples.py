"""Hand-built reports: a proof of each kind (schedule, growth, trace), with the source they point at."""

from __future__ import annotations

from pathlib import Path

from mainstay.architect.findings import (
    Check,
    Event,
    Finding,
    Location,
    Measurement,
    Outcome,
    Problem,
    Report,
    Severity,
    Step,
    Suppressed,
    Verdict,
    Witness,
)
from mainstay.architect.report import Context, ManualPage

WALLET = '''"""Withdrawals."""

from fastapi import APIRouter, HTTPException
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import Account

router = APIRouter()


@router.post("/accounts/{account_id}/withdraw")
async def withdraw(account_id: int, amount: int, session: AsyncSession) -> dict[str, int]:
    account = await find_account(session, account_id)
    if account.balance < amount:
        raise HTTPException(409, "balance too low")
    account.balance -= amount
    await session.commit()
    return {"balance": account.balance}


async def find_account(session: AsyncSession, account_id: int) -> Account:
    return (await session.execute(select(Account).where(Account.id == account_id))).scalar_one()
'''

ORDERS = '''"""Orders and their lines."""

import httpx
from sqlalchemy import select


async def list_orders(session):
    orders = (await session.execute(select(Order).limit(100))).scalars().all()
    return [await order_json(session, order) for order in orders]


async def order_json(session, order):
    lines = await load_lines(session, order)
    return {"id": order.id, "total": sum(line.price * line.quantity for line in lines)}


async def load_lines(session, order):
    return (await session.execute(select(Line).where(Line.order_id == order.id))).scalars().all()


async def checkout(session, client, order_id):
\tasync with session.begin():
\t\torder = await session.get(Order, order_id)
\t\treply = await client.post("https://pay.example/charges", json={"order": order.id})
\t\torder.payment = reply.json()["id"]
'''

SHARP = """from sqlalchemy import select


async def withdraw(session, account_id, amount):
    account = (await session.execute(
        select(Account).where(Account.id == account_id)
    )).scalar_one()
    if account.balance < amount:
        raise BalanceTooLow
    account.balance -= amount
    await session.commit()
    return account.balance


async def deposit(session, account_id, amount):
    await session.execute(
        update(Account).where(Account.id == account_id).values(balance=Account.balance + amount)
    )
    await session.commit()


def health():
    return "ok"
"""

SAFE = """from sqlalchemy import select


async def withdraw(session, account_id, amount):
    account = (await session.execute(
        select(Account).where(Account.id == account_id).with_for_update()
    )).scalar_one()
    if account.balance < amount:
        raise BalanceTooLow
    account.balance -= amount
    await session.commit()
    return account.balance


async def deposit(session, account_id, amount):
    await session.execute(
        update(Account).where(Account.id == account_id).values(balance=Account.balance + amount)
    )
    await session.commit()


def health():
    return "ok"
"""

PAGES = {
    "check-then-act": ManualPage(
        title="A decision on data that may have changed",
        text="# Situation\n\nA request reads a row, decides, and writes, with **no lock** between.",
        remedy="Decide in the database: a conditional update, or a row lock taken by the read.",
        severity="critical",
        sharp=SHARP,
        safe=SAFE,
    ),
    "n-plus-one": ManualPage(
        title="A query for each row of another query",
        text="# Situation\n\nA list is read, and then one query runs for each of its rows.",
        remedy="Load the related rows with the list: eager loading, or one query with IN.",
        severity="high",
        sharp="for order in orders:\n    order.lines = await lines_of(order)\n",
        safe="lines = await lines_of_all(orders)\nfor order in orders:\n    order.lines = lines[order.id]\n",
    ),
    "external-call-in-transaction": ManualPage(
        title="A call to another system inside a transaction",
        remedy="Commit first, then call; record the intent in the transaction with the outbox.",
        severity="high",
    ),
}

READ = "SELECT accounts.id, accounts.balance FROM accounts WHERE accounts.id = $1"
UPDATE = "UPDATE accounts SET balance=$1 WHERE accounts.id = $2"
REQUEST = 'POST /accounts/1/withdraw {"amount": 80}'


def _withdraw(actor: str, start: float, resumed: float) -> tuple[list[Event], list[Event]]:
    """What one withdrawal does up to the decision, and from the decision on."""
    before = [
        Event(actor, "request", REQUEST, milliseconds=start),
        Event(
            actor, "statement", "BEGIN", "begin", transaction="open", milliseconds=start + 1.5, connection=1
        ),
        Event(
            actor,
            "statement",
            READ,
            "read",
            "accounts",
            1,
            "open",
            ("1",),
            "id=1, balance=100",
            start + 2.1,
            1,
            location=Location("app/wallet.py", 23, 5, 23, 50),
        ),
    ]
    after = [
        Event(
            actor,
            "statement",
            UPDATE,
            "write",
            "accounts",
            1,
            "open",
            ("20", "1"),
            "",
            resumed + 0.4,
            1,
            marked=actor == "alice",
            location=Location("app/wallet.py", 18, 5, 18, 27),
        ),
        Event(
            actor,
            "statement",
            "COMMIT",
            "commit",
            transaction="idle",
            milliseconds=resumed + 1.2,
            connection=1,
        ),
        Event(actor, "reply", '200 {"balance": 20}', result="200", milliseconds=resumed + 2.1),
    ]
    return before, after


def race() -> Witness:
    """Balance 100, two withdrawals of 80, both paid."""
    alice_before, alice_after = _withdraw("alice", 3.0, 17.5)
    bob_before, bob_after = _withdraw("bob", 9.0, 13.0)
    return Witness(
        edge="check-then-act",
        kind="schedule",
        argument=[
            "alice read balance = 100 and was held before her write.",
            "bob withdrew 80 meanwhile and committed: balance = 20.",
            "alice then wrote balance = 20 from what she had read, and both were paid: 160 of 100.",
            "In every serial order the second withdrawal is refused, so no serial order explains what happened.",
        ],
        scenario={"name": "withdraw", "actors": {"alice": REQUEST, "bob": REQUEST}},
        command=["uvicorn", "app.main:app", "--port", "$PORT"],
        starting_state={"fingerprint": "sha256:5f0c", "tables": {"accounts": 1}},
        schedule={"first": "alice", "held_before": 3, "meanwhile": "bob"},
        events=[
            *alice_before,
            Event(
                "alice",
                "pause",
                "before UPDATE accounts SET balance=$1 WHERE accounts.id = $2",
                milliseconds=6.0,
            ),
            *bob_before,
            *bob_after,
            Event(
                "alice",
                "resume",
                "before UPDATE accounts SET balance=$1 WHERE accounts.id = $2",
                milliseconds=17.5,
            ),
            *alice_after,
        ],
        observed=Outcome(
            "observed",
            {"alice": '200 {"balance": 20}', "bob": '200 {"balance": 20}'},
            {"accounts": [{"id": 1, "balance": 20, "owner": "ann"}]},
        ),
        serial=[
            Outcome(
                "alice then bob",
                {"alice": '200 {"balance": 20}', "bob": '409 {"detail": "balance too low"}'},
                {"accounts": [{"id": 1, "balance": 20, "owner": "ann"}]},
                differs=["bob is refused with 409"],
            ),
            Outcome(
                "bob then alice",
                {"alice": '409 {"detail": "balance too low"}', "bob": '200 {"balance": 20}'},
                {"accounts": [{"id": 1, "balance": 20, "owner": "ann"}]},
                differs=["alice is refused with 409"],
            ),
        ],
    )


def blocked() -> Witness:
    """The same race where the second writer waits for the first one's row lock."""
    alice, alice_rest = _withdraw("alice", 3.0, 13.0)
    bob, bob_rest = _withdraw("bob", 9.0, 18.2)
    base = race()
    return Witness(
        **{
            **{name: getattr(base, name) for name in base.__slots__},
            "events": [
                *alice,
                *bob,
                alice_rest[0],
                Event("bob", "blocked", "UPDATE accounts waits for alice", milliseconds=15.0, connection=1),
                *alice_rest[1:],
                Event("bob", "unblocked", "UPDATE accounts", milliseconds=18.0, connection=1),
                *bob_rest,
            ],
        }
    )


def growth() -> Witness:
    """A list of orders that asks for each order's lines."""
    lines = "SELECT lines.id, lines.price, lines.quantity FROM lines WHERE lines.order_id = $1"
    events = [
        Event("visitor", "request", "GET /orders", milliseconds=1.0),
        Event("visitor", "statement", "BEGIN", "begin", transaction="open", milliseconds=1.4, connection=1),
        Event(
            "visitor",
            "statement",
            "SELECT orders.id FROM orders LIMIT 100",
            "read",
            "orders",
            20,
            "open",
            milliseconds=2.0,
            connection=1,
        ),
    ]
    events += [
        Event(
            "visitor",
            "statement",
            lines,
            "read",
            "lines",
            3,
            "open",
            (str(number),),
            milliseconds=2.5 + number * 0.6,
            connection=1,
            marked=True,
            location=Location("app/orders.py", 18, 12, 18, 80),
        )
        for number in range(1, 21)
    ]
    events += [
        Event(
            "visitor",
            "statement",
            "ROLLBACK",
            "rollback",
            transaction="idle",
            milliseconds=15.2,
            connection=1,
        ),
        Event("visitor", "reply", "200 [20 orders]", result="200", milliseconds=15.9),
    ]
    return Witness(
        edge="n-plus-one",
        kind="growth",
        argument=[
            "With 5 orders the statement on lines ran 5 times, with 10 it ran 10 times, with 20 it ran 20 times.",
            "The request is the same; only the rows grew, so the statement runs once per row.",
        ],
        scenario={"name": "list orders"},
        command=["uvicorn", "app.main:app", "--port", "$PORT"],
        starting_state={"fingerprint": "sha256:77aa", "tables": {"orders": 5, "lines": 15}},
        schedule={"table": "orders", "by": [5, 10, 20]},
        events=events,
        measurements=[Measurement(5, 5), Measurement(10, 10), Measurement(20, 20)],
    )


def trace() -> Witness:
    """A payment asked for while a transaction is open."""
    return Witness(
        edge="external-call-in-transaction",
        kind="trace",
        argument=[
            "The transaction opened at 2.0 ms and was still open when pay.example was asked at 3.1 ms.",
            "pay.example took 412 ms to answer; the row of orders stayed locked all that time.",
        ],
        scenario={"name": "checkout"},
        command=["uvicorn", "app.main:app", "--port", "$PORT"],
        starting_state={"fingerprint": "sha256:91bc", "tables": {"orders": 1}},
        schedule={},
        events=[
            Event("visitor", "request", "POST /orders/1/checkout", milliseconds=1.0),
            Event(
                "visitor", "statement", "BEGIN", "begin", transaction="open", milliseconds=2.0, connection=1
            ),
            Event(
                "visitor",
                "statement",
                "SELECT orders.id, orders.payment FROM orders WHERE orders.id = $1 FOR UPDATE",
                "lock",
                "orders",
                1,
                "open",
                ("1",),
                "id=1, payment=null",
                2.5,
                1,
            ),
            Event(
                "visitor",
                "outside",
                'POST https://pay.example/charges {"order": 1}',
                "call",
                "pay.example",
                transaction="open",
                result="201",
                milliseconds=3.1,
                marked=True,
                location=Location("app/orders.py", 24, 17, 24, 84),
            ),
            Event(
                "visitor",
                "statement",
                "UPDATE orders SET payment=$1 WHERE orders.id = $2",
                "write",
                "orders",
                1,
                "open",
                ("ch_1", "1"),
                milliseconds=415.6,
                connection=1,
            ),
            Event(
                "visitor",
                "statement",
                "COMMIT",
                "commit",
                transaction="idle",
                milliseconds=416.4,
                connection=1,
            ),
            Event("visitor", "reply", '200 {"id": 1, "payment": "ch_1"}', result="200", milliseconds=417.0),
        ],
    )


def findings() -> list[Finding]:
    """Three proven findings and two that review has of the same code."""
    return [
        Finding(
            edge="check-then-act",
            severity=Severity.CRITICAL,
            verdict=Verdict.PROVEN,
            message="two withdrawals at once both pay: withdraw() decides on a balance that has changed",
            location=Location("app/wallet.py", 17, 5, 17, 30),
            path=(
                Step(
                    Location("app/wallet.py", 14, 21, 14, 54), "withdraw() calls find_account()", "withdraw"
                ),
                Step(
                    Location("app/wallet.py", 23, 19, 23, 84),
                    "find_account() reads accounts without a lock",
                    "find_account",
                ),
                Step(
                    Location("app/wallet.py", 15, 8, 15, 32),
                    "withdraw() decides on what was read",
                    "withdraw",
                ),
                Step(Location("app/wallet.py", 17, 5, 17, 30), "withdraw() writes accounts", "withdraw"),
            ),
            remedy=PAGES["check-then-act"].remedy,
            patterns=("row-lock", "conditional-update"),
            witness=race(),
            witness_file=".mainstay/witnesses/check-then-act-withdraw.json",
            subject="POST /accounts/{id}/withdraw",
        ),
        Finding(
            edge="n-plus-one",
            severity=Severity.HIGH,
            verdict=Verdict.PROVEN,
            message="GET /orders reads lines once per order: 20 orders, 20 statements",
            location=Location("app/orders.py", 18, 19, 18, 78),
            path=(
                Step(Location("app/orders.py", 9, 12, 9, 71), "list_orders() walks orders", "list_orders"),
                Step(
                    Location("app/orders.py", 13, 19, 13, 45), "order_json() calls load_lines()", "order_json"
                ),
                Step(Location("app/orders.py", 18, 19, 18, 78), "load_lines() reads lines", "load_lines"),
            ),
            remedy=PAGES["n-plus-one"].remedy,
            patterns=("repository",),
            witness=growth(),
            witness_file=".mainstay/witnesses/n-plus-one-orders.json",
            subject="GET /orders",
        ),
        Finding(
            edge="external-call-in-transaction",
            severity=Severity.HIGH,
            verdict=Verdict.PROVEN,
            message="checkout() asks pay.example while it holds a row of orders",
            location=Location("app/orders.py", 24, 17, 24, 83),
            path=(
                Step(Location("app/orders.py", 22, 2, 22, 29), "checkout() begins a transaction", "checkout"),
                Step(Location("app/orders.py", 24, 17, 24, 83), "checkout() calls pay.example", "checkout"),
            ),
            remedy=PAGES["external-call-in-transaction"].remedy,
            patterns=("outbox",),
            witness=trace(),
            witness_file=".mainstay/witnesses/external-call-checkout.json",
            subject="POST /orders/{id}/checkout",
        ),
        Finding(
            edge="n-plus-one",
            severity=Severity.MEDIUM,
            verdict=Verdict.LIKELY,
            message="order_json() reads lines for each of the orders that list_orders() walks",
            location=Location("app/orders.py", 18, 19, 18, 78),
            path=(
                Step(Location("app/orders.py", 9, 12, 9, 71), "list_orders() walks orders", "list_orders"),
                Step(Location("app/orders.py", 18, 19, 18, 78), "load_lines() reads lines", "load_lines"),
            ),
            remedy=PAGES["n-plus-one"].remedy,
            subject="app.orders.load_lines",
        ),
        Finding(
            edge="unbounded-query",
            severity=Severity.LOW,
            verdict=Verdict.POSSIBLE,
            message="a list of [bold]everything[/bold] <script>alert(1)</script> & more",
            location=Location("app/gone.py", 3),
            subject="app.gone.all",
        ),
    ]


def report() -> Report:
    """Everything that a report can hold."""
    made = Report(
        engine="review and diagnose",
        findings=findings(),
        checks=[
            Check("check-then-act", "POST /orders", "cleared", "12 schedules with one switch, 34 statements"),
            Check("n-plus-one", "GET /products", "cleared", "grown to 5, 10 and 20 rows of products"),
            Check(
                "check-then-act",
                "POST /refunds",
                "undecided",
                "the budget of 60 s ran out after 31 schedules",
            ),
        ],
        problems=[
            Problem("app/legacy.py", "is not Python 3: invalid syntax", 12),
            Problem("data/dump.py", "is larger than 1 MB and was not read"),
        ],
        suppressed=[
            Suppressed(
                Finding(
                    "n-plus-one",
                    Severity.MEDIUM,
                    Verdict.LIKELY,
                    "the nightly job reads one row at a time",
                    Location("app/nightly.py", 40, 5),
                    subject="app.nightly.run",
                ),
                "three rows at most",
            )
        ],
        statistics={"files": 14, "lines": 1893, "schedules": 17, "seconds": 8.42},
    )
    made.sort()
    return made


def source(root: Path) -> Path:
    """Write the source that the samples point at; returns `root`."""
    (root / "app").mkdir(parents=True, exist_ok=True)
    (root / "app" / "wallet.py").write_text(WALLET, encoding="utf-8")
    (root / "app" / "orders.py").write_text(ORDERS, encoding="utf-8")
    return root


def context(root: Path, **settings: object) -> Context:
    """A context with the pages and the source of the samples."""
    return Context(root=source(root), pages=PAGES.get, of_version="0.1.0", **settings)  # type: ignore[arg-type]
