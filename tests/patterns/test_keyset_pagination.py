"""Every row once and in order, whatever the data, the order and the page size."""

from __future__ import annotations

import base64
import contextlib
import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cmp_to_key
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pattern_models import Account, Colour, Entry, Seat, Thing
from sqlalchemy import delete, func, text

from mainstay.patterns import BadCursor, BadLimit, Database, Page, Repository
from mainstay.patterns.keyset_pagination import Order

things = Repository(Thing)
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

columns: dict[str, st.SearchStrategy[Any]] = {
    "small": st.integers(-1, 1),
    "big": st.none() | st.integers(-(2**63), 2**63 - 1) | st.just(0),
    "name": st.none() | st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=2),
    "weight": st.none() | st.floats(allow_nan=False) | st.just(0.0),
    "price": st.none() | st.decimals(-9, 9, places=2),
    "at": st.none() | st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
    "local": st.none() | st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)),
    "day": st.none() | st.dates(),
    "code": st.none() | st.uuids(),
    "done": st.none() | st.booleans(),
    "colour": st.none() | st.sampled_from(Colour),
}
rows = st.lists(st.fixed_dictionaries(columns), max_size=12)


@st.composite
def orders(draw: st.DrawFn) -> list[tuple[str, bool, bool | None]]:
    names = draw(st.lists(st.sampled_from([*columns, "id"]), max_size=4, unique=True))
    return [(name, draw(st.booleans()), draw(st.sampled_from([None, True, False]))) for name in names]


def elements(order: list[tuple[str, bool, bool | None]]) -> list[Any]:
    made = []
    for name, descending, nulls_first in order:
        element = getattr(Thing, name)
        element = element.desc() if descending else element
        if nulls_first is not None:
            element = element.nulls_first() if nulls_first else element.nulls_last()
        made.append(element)
    return made


def expected(things: list[Thing], order: list[tuple[str, bool, bool | None]]) -> list[int]:
    """The order worked out in Python, without SQL."""
    keys = [*order, ("id", bool(order) and order[-1][1], None)]

    def rank(value: Any) -> Any:
        return list(Colour).index(value) if isinstance(value, Colour) else value

    def compare(a: Thing, b: Thing) -> int:
        for name, descending, nulls_first in keys:
            x, y = rank(getattr(a, name)), rank(getattr(b, name))
            if isinstance(x, str) and isinstance(y, str):
                x, y = x.encode(), y.encode()
            if x == y:
                continue
            if x is None or y is None:
                first = descending if nulls_first is None else nulls_first
                return -1 if (x is None) == first else 1
            return -1 if (x < y) != descending else 1
        return 0

    return [thing.id for thing in sorted(things, key=cmp_to_key(compare))]


@quick
@given(rows=rows, order=orders(), limit=st.integers(1, 13))
async def test_every_row_once_in_order(
    db: Database, rows: list[dict[str, Any]], order: list[tuple[str, bool, bool | None]], limit: int
) -> None:
    """For any data with ties and nulls, any directions, any place of nulls and any page size."""
    made = [Thing(id=n, **row) for n, row in enumerate(rows)]
    wanted = expected(made, order)
    seen: list[int] = []
    sizes: list[int] = []
    async with db.transaction() as tx:
        await tx.execute(delete(Thing))
        tx.add_all(made)
        page: Page[Thing] = Page([], "")
        while page.next is not None:
            page = await things.page(tx, order_by=elements(order), after=page.next or None, limit=limit)
            seen += [thing.id for thing in page.items]
            sizes.append(len(page.items))
    assert seen == wanted
    assert all(size == limit for size in sizes[:-1])
    assert len(sizes) == max(1, -(-len(rows) // limit))


@quick
@given(
    start=st.lists(st.integers(0, 30), min_size=1, max_size=15),
    later=st.lists(st.lists(st.integers(0, 30), max_size=3), max_size=10),
    descending=st.booleans(),
    limit=st.integers(1, 4),
)
async def test_while_others_insert(
    db: Database, start: list[int], later: list[list[int]], descending: bool, limit: int
) -> None:
    """Rows there from the start come once each; of those inserted meanwhile, the ones behind the cursor do."""
    order = Thing.small.desc() if descending else Thing.small.asc()
    number = 0

    async def insert(values: list[int]) -> list[Thing]:
        nonlocal number
        made = []
        async with db.transaction() as tx:
            for value in values:
                made.append(Thing(id=number, small=value))
                number += 1
            tx.add_all(made)
        return made

    def place(thing: Thing) -> tuple[int, int]:
        return (-thing.small, -thing.id) if descending else (thing.small, thing.id)

    async with db.transaction() as tx:
        await tx.execute(delete(Thing))
    owed = await insert(start)
    seen: list[Thing] = []
    page: Page[Thing] = Page([], "")
    while page.next is not None:
        async with db.transaction() as tx:
            page = await things.page(tx, order_by=order, after=page.next or None, limit=limit)
        seen += page.items
        if page.next is not None:
            behind = place(seen[-1])
            owed += [thing for thing in await insert(later.pop() if later else []) if place(thing) > behind]
    assert [thing.id for thing in seen] == [thing.id for thing in sorted(owed, key=place)]


async def test_an_object_older_than_its_row_does_not_mislead(db: Database, other: Database) -> None:
    """The cursor comes from the row as the page read it, not from what the session held before."""
    async with db.transaction() as tx:
        tx.add_all([Thing(id=n, small=n) for n in range(4)])
    async with db.transaction() as tx:
        await things.get(tx, 0)
        async with other.transaction() as second:
            (await things.get(second, 0)).small = 9
        page = await things.page(tx, order_by=Thing.small, limit=3)
        assert [thing.id for thing in page.items] == [1, 2, 3]
        page = await things.page(tx, order_by=Thing.small, limit=3, after=page.next)
        assert [thing.id for thing in page.items] == [0]
        assert page.next is None


async def test_conditions_and_key_of_two_columns(db: Database) -> None:
    """Conditions hold on every page; a key of two columns breaks ties as a whole."""
    seats = Repository(Seat)
    async with db.transaction() as tx:
        tx.add_all(
            [Seat(row=row, number=n, holder="ann" if n % 2 else None) for row in range(3) for n in range(6)]
        )
        first = await seats.page(tx, Seat.holder == "ann", limit=4)
        second = await seats.page(tx, Seat.holder == "ann", limit=5, after=first.next)
    assert [(seat.row, seat.number) for seat in first.items + second.items] == [
        (row, n) for row in range(3) for n in (1, 3, 5)
    ]
    assert second.next is None


async def test_one_row_comparison_where_possible(db: Database) -> None:
    """Columns that go one way become one range of an index; PostgreSQL's plan shows it."""
    order = Order(Entry, [Entry.account_id.desc()])
    assert "(entry.account_id, entry.id) <" in str(order.after([1, 2]))
    mixed = Order(Account, [Account.balance.desc(), Account.id.asc()])
    assert " OR " in str(mixed.after([1, 2]))


async def test_the_plan_is_a_range_of_the_index(db: Database) -> None:
    """With an index on the order, a page deep in the table reads as many rows as it returns."""
    async with db.transaction() as tx:
        await tx.execute(
            text("INSERT INTO thing (id, small) SELECT n, n / 10 FROM generate_series(1, 5000) n")
        )
        await tx.execute(text("CREATE INDEX ON thing (small, id)"))
        await tx.execute(text("ANALYZE thing"))
        explained = await tx.scalars(
            text(
                "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) SELECT * FROM thing"
                " WHERE (small, id) > (400, 4005) ORDER BY small, id LIMIT 50"
            )
        )
        plan = "\n".join(explained)
        assert "Index Cond: (ROW(small, id) > ROW(400, 4005))" in plan
        assert "Sort" not in plan
        await tx.execute(text("DROP INDEX thing_small_id_idx"))


# ----------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("limit", [0, -1, 201, 10**9])
async def test_a_page_is_bounded(db: Database, limit: int) -> None:
    """A list without a limit cannot be asked for."""
    async with db.transaction() as tx:
        with pytest.raises(BadLimit, match="1 to 200"):
            await things.page(tx, limit=limit)


async def test_the_default_is_50(db: Database) -> None:
    """And 200 is the most."""
    async with db.transaction() as tx:
        tx.add_all([Thing(id=n) for n in range(201)])
        assert len((await things.page(tx)).items) == 50
        assert len((await things.page(tx, limit=200)).items) == 200


@pytest.mark.parametrize(
    "order_by", [Thing.extra, func.lower(Thing.name), Account.id, text("id"), [Thing.id, "small"]]
)
async def test_orders_that_cannot_be_paged(db: Database, order_by: Any) -> None:
    """Expressions, columns of other models, and values without a place in a cursor."""
    async with db.transaction() as tx:
        with pytest.raises(ValueError, match="order"):
            await things.page(tx, order_by=order_by)


async def test_a_cursor_of_another_list(db: Database) -> None:
    """Another model, another column, another direction, other nulls."""
    async with db.transaction() as tx:
        for order in (
            [],
            [Thing.small],
            [Thing.big.desc()],
            [Thing.big.nulls_first()],
            [Thing.small, Thing.big],
        ):
            cursor = Order(Thing, order).cursor([0 for _ in Order(Thing, order).keys])
            await things.page(tx, order_by=order, after=cursor)
            with pytest.raises(BadCursor, match="first page"):
                await things.page(tx, order_by=[Thing.big], after=cursor)
            with pytest.raises(BadCursor):
                await Repository(Account).page(tx, after=cursor)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda x: st.lists(x, max_size=3),
    max_leaves=3,
)
hostile = st.one_of(
    st.sampled_from(
        [2**15, 2**31, 2**63, -(2**15) - 1, "\0", "\ud800", "NaN", "sNaN", "Infinity", "1E+999999"]
    ),
    st.sampled_from(
        ["1e-99999", "0001-01-01", "9999-12-31T23:59:59", "0001-01-01T00:00:00+23:59", "GREEN", "g"]
    ),
    json_values,
)


@settings(quick, max_examples=150)
@given(name=st.sampled_from([*columns, "id"]), value=hostile, rest=hostile, descending=st.booleans())
async def test_a_forged_cursor_never_reaches_the_database_as_an_error(
    db: Database, name: str, value: Any, rest: Any, descending: bool
) -> None:
    """It either is a place in the order or a `BadCursor`; the transaction stays usable."""
    column = getattr(Thing, name)
    by = [column.desc() if descending else column]
    order = Order(Thing, by)
    values = [value] if name == "id" else [value, rest]
    forged = base64.urlsafe_b64encode(json.dumps([order._name, values]).encode()).decode().rstrip("=")
    async with db.transaction() as tx:
        with contextlib.suppress(BadCursor):
            await things.page(tx, order_by=by, after=forged)
        await things.page(tx)


@settings(deadline=None)
@given(st.text() | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode().rstrip("=")))
def test_any_other_text_is_a_bad_cursor(cursor: str) -> None:
    """Whatever comes from outside."""
    with pytest.raises(BadCursor):
        Order(Thing).values(cursor)


def test_deep_nesting_is_a_bad_cursor() -> None:
    """A cursor made to exhaust the stack."""
    with pytest.raises(BadCursor):
        Order(Thing).values(base64.urlsafe_b64encode(b"[" * 100_000).decode().rstrip("="))


@settings(deadline=None)
@given(st.fixed_dictionaries(columns))
def test_a_cursor_gives_its_values_back(row: dict[str, Any]) -> None:
    """For every kind of column."""
    order = Order(Thing, [getattr(Thing, name) for name in row])
    values = [*row.values(), 7]
    assert order.values(order.cursor(values)) == values


def test_cursor_values_are_exact() -> None:
    """Digits, microseconds and zones are kept."""
    order = Order(Thing, [Thing.price, Thing.at, Thing.code])
    values = [
        Decimal("1.10"),
        datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC) + timedelta(microseconds=1),
        UUID(int=1),
        3,
    ]
    assert [str(value) for value in order.values(order.cursor(values))] == [str(value) for value in values]
    assert order.values(order.cursor([None, None, None, 3])) == [None, None, None, 3]
    assert Order(Thing, [Thing.day]).values(Order(Thing, [Thing.day]).cursor([date.min, 1])) == [date.min, 1]
