"""A cursor that somebody made by hand is answered 400, whatever the type of the column, and never by the database."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import DateTime, Enum, Numeric
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from mainstay.patterns import BadCursor, Database, Repository
from mainstay.patterns.keyset_pagination import Order


class Base(DeclarativeBase):
    """Apart from the other models, since its table is this test's own."""


class Narrow(Base):
    """Columns whose types hold less than Python's do."""

    __tablename__ = "narrow"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    rate: Mapped[float] = mapped_column(Numeric(4, 3, asdecimal=False))
    size: Mapped[str] = mapped_column(Enum("small", "large", name="narrow_size"))


rows = Repository(Narrow)


@pytest.fixture
async def narrow(db: Database) -> AsyncIterator[Database]:
    """Three rows."""
    async with db.engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    try:
        async with db.transaction() as tx:
            for n in range(3):
                tx.add(
                    Narrow(
                        at=datetime(2026, 1, 1 + n, tzinfo=UTC),
                        price=Decimal("99999999.99") - n,
                        rate=9.999 - n,
                        size="large",
                    )
                )
        yield db
    finally:
        async with db.engine.begin() as connection:
            await connection.run_sync(Base.metadata.drop_all)


COLUMNS = [Narrow.at, Narrow.price, Narrow.rate, Narrow.size]


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.key)
async def test_its_own_cursors_lead_through_all_rows(narrow: Database, column: Any) -> None:
    """Each row once."""
    found: list[int] = []
    after: str | None = None
    for _ in range(3):
        async with narrow.transaction() as tx:
            page = await rows.page(tx, order_by=column, after=after, limit=1)
        found += [row.id for row in page.items]
        after = page.next
    assert sorted(found) == [1, 2, 3] and after is None


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (Narrow.at, "2026-01-01T00:00:00+23:59"),
        (Narrow.at, "0001-01-01T00:00:00+23:59"),
        (Narrow.at, "9999-12-31T23:59:59.999999-23:59"),
        (Narrow.price, "Infinity"),
        (Narrow.price, "123456789.00"),
        (Narrow.price, "99999999.999"),
        (Narrow.price, "1e100"),
        (Narrow.price, "NaN"),
        (Narrow.rate, "Infinity"),
        (Narrow.rate, "9.9999"),
        (Narrow.rate, "10"),
        (Narrow.size, "huge"),
        (Narrow.size, ""),
    ],
)
async def test_a_value_that_the_column_cannot_hold(narrow: Database, column: Any, value: str) -> None:
    """It is a bad cursor, or a page like any other."""
    order = Order(Narrow, [column])
    forged = base64.urlsafe_b64encode(json.dumps([order._name, [value, 1]]).encode()).decode().rstrip("=")
    async with narrow.transaction() as tx:
        with contextlib.suppress(BadCursor):
            await rows.page(tx, order_by=column, after=forged)
