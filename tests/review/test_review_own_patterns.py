"""Services written on Mainstay's own patterns are read as what they are."""

from __future__ import annotations

import pytest

from conftest import Reviewer

MODELS = """
    from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

    class Base(DeclarativeBase):
        pass

    class Order(Base):
        __tablename__ = "orders"
        id: Mapped[int] = mapped_column(primary_key=True)
        status: Mapped[str] = mapped_column()
        version: Mapped[int] = mapped_column()
        __mapper_args__ = {"version_id_col": version}

    class Stock(Base):
        __tablename__ = "stock"
        id: Mapped[int] = mapped_column(primary_key=True)
        pieces: Mapped[int] = mapped_column()
"""

HEAD = """
    from mainstay.patterns import Database, HttpClient, Repository, Transaction, transactional, update_one
    from models import Order, Stock

    db = Database("postgresql://localhost/shop")
    orders = Repository(Order)
    stock = Repository(Stock)
    provider = HttpClient("https://pay.example.com")
"""

CALLS = {
    "plain": """
    @transactional
    async def pay(tx: Transaction, id: int) -> None:
        await orders.lock(tx, id)
        await provider.post("/charges")
    """,
    "with arguments": """
    @transactional(attempts=3)
    async def pay(tx: Transaction, id: int) -> None:
        await provider.post("/charges")
    """,
    "in a function that it calls": """
    @transactional
    async def pay(tx: Transaction, id: int) -> None:
        await charge(id)

    async def charge(id: int) -> None:
        await provider.post("/charges")
    """,
    "of another that is called within a transaction": """
    @transactional
    async def pay(tx: Transaction, id: int) -> None:
        await book(tx, id)

    @transactional
    async def book(tx: Transaction, id: int) -> None:
        await provider.post("/charges")
    """,
    "after an update by the repository": """
    async def pay(id: int, version: int) -> None:
        async with db.transaction() as tx:
            await orders.update(tx, id, version=version, status="paid")
            await provider.post("/charges")
    """,
    "after an update, in a transaction begun elsewhere": """
    async def pay(tx: Transaction, id: int, version: int) -> None:
        await orders.update(tx, id, version=version, status="paid")
        await provider.post("/charges")
    """,
    "after a delete, in a transaction begun elsewhere": """
    async def forget(tx: Transaction, id: int, version: int) -> None:
        await orders.delete(tx, id, version=version)
        await provider.post("/charges")
    """,
}


@pytest.mark.parametrize("code", CALLS.values(), ids=CALLS)
def test_a_call_in_a_service_functions_transaction_is_found(code: str, find: Reviewer) -> None:
    """`@transactional` is a transaction around the function, and an update begins one."""
    found = find({"models.py": MODELS, "app.py": HEAD + code}, "external-call-in-transaction")
    assert {finding.location.file for finding in found} == {"app.py"}


QUIET = {
    "a call before and after": """
    @transactional
    async def book(tx: Transaction, id: int) -> None:
        await orders.lock(tx, id)

    async def pay(id: int) -> None:
        await provider.get("/rates")
        await book(db, id)
        await provider.post("/charges")
    """,
    "a call in a hook after the commit": """
    @transactional
    async def pay(tx: Transaction, id: int) -> None:
        await orders.lock(tx, id)
        tx.after_commit(lambda: provider.post("/charges"))
    """,
    "an update that names the version it decided on": """
    @transactional
    async def pay(tx: Transaction, id: int) -> None:
        order = await orders.get(tx, id)
        if order.status != "placed":
            raise ValueError
        await orders.update(tx, id, version=order.version, status="paid")
    """,
    "a delete that names the version it decided on": """
    @transactional
    async def forget(tx: Transaction, id: int) -> None:
        order = await orders.get(tx, id)
        if order.status != "cancelled":
            raise ValueError
        await orders.delete(tx, id, version=order.version)
    """,
    "a decision in the statement": """
    @transactional
    async def take(tx: Transaction, id: int) -> None:
        await update_one(tx, Stock, Stock.id == id, Stock.pieces > 0, pieces=Stock.pieces - 1)
    """,
    "a decision in a serializable transaction": """
    @transactional(isolation="SERIALIZABLE")
    async def take(tx: Transaction, id: int) -> None:
        row = await stock.get(tx, id)
        if row.pieces < 1:
            raise ValueError
        row.pieces -= 1
    """,
    "a row that an update gave": """
    @transactional
    async def pay(tx: Transaction, id: int, version: int) -> str:
        order = await orders.update(tx, id, version=version, status="paid")
        if order.status == "paid":
            order.status = "shipped"
        return order.status
    """,
}


@pytest.mark.parametrize("code", QUIET.values(), ids=QUIET)
def test_what_the_patterns_make_safe_is_quiet(code: str, find: Reviewer) -> None:
    """Nothing is said of it."""
    assert find({"models.py": MODELS, "app.py": HEAD + code}) == []


LOUD = {
    "with another isolation than serializable": """
    @transactional(isolation="REPEATABLE READ", attempts=2)
    async def take(tx: Transaction, id: int) -> None:
        row = await stock.get(tx, id)
        if row.pieces < 1:
            raise ValueError
        row.pieces -= 1
    """,
    "a plain row without a lock": """
    @transactional
    async def take(tx: Transaction, id: int) -> None:
        row = await stock.get(tx, id)
        if row.pieces < 1:
            raise ValueError
        row.pieces -= 1
    """,
}


@pytest.mark.parametrize("code", LOUD.values(), ids=LOUD)
def test_a_decision_on_an_unlocked_row_is_found(code: str, find: Reviewer) -> None:
    """`@transactional` itself locks nothing."""
    found = find({"models.py": MODELS, "app.py": HEAD + code})
    assert [finding.edge for finding in found] == ["check-then-act"]
