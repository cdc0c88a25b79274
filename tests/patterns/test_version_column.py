"""Nobody overwrites what they have not seen, with both drivers."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pattern_models import Account, Document, Seat
from sqlalchemy import delete, event, select, text, update

from mainstay.patterns import (
    BadETag,
    Database,
    NotFound,
    Repository,
    StaleWrite,
    Transaction,
    TransactionAborted,
    VersionRequired,
    etag,
    if_match,
    update_where,
)

documents = Repository(Document)


@pytest.fixture
async def id(db: Database) -> int:
    """A document of version 1."""
    async with db.transaction() as tx:
        return (await documents.add(tx, Document(title="draft"))).id


async def now(db: Database, id: int) -> tuple[str, int, int] | None:
    async with db.transaction() as tx:
        found = (
            await tx.execute(
                select(Document.title, Document.words, Document.version).where(Document.id == id)
            )
        ).one_or_none()
        return None if found is None else tuple(found)  # type: ignore[return-value]


# ------------------------------------------------------------------------------ a version from outside


async def test_update_with_the_version_seen(db: Database, id: int) -> None:
    """The change is made, the version goes up, and the row comes back as it is now, in one statement."""
    async with db.transaction() as tx:
        await tx.execute(text("SELECT 1"))
        sent: list[str] = []
        event.listen(
            db.engine.sync_engine, "before_cursor_execute", lambda conn, cursor, sql, *rest: sent.append(sql)
        )
        row = await documents.update(tx, id, version=1, title="final", words=Document.words + 5)
        assert len(sent) == 1
        assert (row.title, row.words, row.version) == ("final", 5, 2)
    assert await now(db, id) == ("final", 5, 2)


async def test_update_with_an_old_version(db: Database, id: int) -> None:
    """It is refused, naming both versions, and nothing is changed; so is a delete."""
    async with db.transaction() as tx:
        await documents.update(tx, id, version=1, title="hers")
    for change in (
        lambda tx: documents.update(tx, id, version=1, title="his"),
        lambda tx: documents.delete(tx, id, version=1),
        lambda tx: documents.get(tx, id, version=1),
        lambda tx: documents.lock(tx, id, version=1),
        lambda tx: documents.lock(tx, id, version=1, skip_locked=True),
    ):
        with pytest.raises(StaleWrite, match="has version 2, not 1") as caught:
            async with db.transaction() as tx:
                await change(tx)
        assert (caught.value.model, caught.value.id) == (Document, id)
        assert (caught.value.expected, caught.value.found) == (1, 2)
    assert await now(db, id) == ("hers", 0, 2)


async def test_any_version(db: Database, id: int) -> None:
    """None is `If-Match: *`: the row must be there, whatever its version."""
    async with db.transaction() as tx:
        await documents.update(tx, id, version=None, title="a")
        await documents.update(tx, id, version=None, title="b")
    assert await now(db, id) == ("b", 0, 3)
    async with db.transaction() as tx:
        await documents.delete(tx, id, version=None)
    assert await now(db, id) is None


async def test_a_row_that_is_not_there(db: Database, id: int) -> None:
    """NotFound, not StaleWrite."""
    for version in (1, None):
        with pytest.raises(NotFound):
            async with db.transaction() as tx:
                await documents.update(tx, id + 1, version=version, title="x")
        with pytest.raises(NotFound):
            async with db.transaction() as tx:
                await documents.delete(tx, id + 1, version=version)


async def test_delete_with_the_version_seen(db: Database, id: int) -> None:
    """The row is gone, and so is the object that the transaction held."""
    async with db.transaction() as tx:
        held = await documents.get(tx, id)
        await documents.delete(tx, id, version=held.version)
        assert held not in tx.session
        assert await documents.find(tx, id) is None


async def test_bad_updates(db: Database, id: int) -> None:
    """Of a model without a version, of no value, of an attribute that is not there."""
    async with db.transaction() as tx:
        with pytest.raises(ValueError, match="Account has no version column"):
            await Repository(Account).update(tx, 1, version=1, owner="x")
        with pytest.raises(ValueError, match="no version column"):
            await Repository(Seat).delete(tx, (1, 1), version=1)
        with pytest.raises(ValueError, match="one value"):
            await documents.update(tx, id, version=1)
        with pytest.raises(ValueError, match="no column attribute 'titel'"):
            await documents.update(tx, id, version=1, titel="x")


# ------------------------------------------------------------------------------ two at the same time


async def test_two_write_what_they_read(db: Database, other: Database, id: int) -> None:
    """The slower one is refused where its flush or its block ends, not overwritten; the error has a name."""
    async with db.transaction() as tx:
        mine = await documents.get(tx, id)
        async with other.transaction() as second:
            (await documents.get(second, id)).title = "theirs"
        with pytest.raises(StaleWrite, match="since it was read") as caught:
            async with tx.savepoint():
                mine.title = "mine"
                await tx.flush()
        assert caught.value.expected is None
    with pytest.raises(StaleWrite):
        async with db.transaction() as tx:
            mine = await documents.get(tx, id)
            async with other.transaction() as second:
                (await documents.get(second, id)).title = "again theirs"
            await tx.delete(mine)
    assert await now(db, id) == ("again theirs", 0, 3)


async def test_two_name_the_same_version(db: Database, other: Database, id: int) -> None:
    """Sent at the same time, one is done and one is refused: the second waits for the first."""

    async def edit(which: Database, title: str) -> None:
        async with which.transaction() as tx:
            await documents.update(tx, id, version=1, title=title)

    ended = await asyncio.gather(edit(db, "a"), edit(other, "b"), return_exceptions=True)
    assert sorted(type(end).__name__ for end in ended) == ["NoneType", "StaleWrite"]
    assert (await now(db, id) or ())[2] == 2


@pytest.mark.parametrize("change", ["update", "delete"])
async def test_one_stale_row_among_many(db: Database, other: Database, change: str) -> None:
    """A flush of many rows of which one was changed meanwhile is refused as a whole."""
    async with db.transaction() as tx:
        rows = [Document(title=str(n)) for n in range(5)]
        tx.add_all(rows)
    with pytest.raises(StaleWrite):
        async with db.transaction() as tx:
            mine = [await documents.get(tx, row.id) for row in rows]
            async with other.transaction() as second:
                await documents.update(second, rows[3].id, version=1, title="theirs")
            for row in mine:
                if change == "update":
                    row.title = "mine"
                else:
                    await tx.delete(row)
    async with db.transaction() as tx:
        assert list(await tx.scalars(select(Document.title).order_by(Document.id))) == [
            "0", "1", "2", "theirs", "4",
        ]  # fmt: skip


async def test_a_stale_write_that_was_swallowed(db: Database, other: Database, id: int) -> None:
    """Nothing of the block is committed, and it says why."""
    with pytest.raises(TransactionAborted):
        async with db.transaction() as tx:
            tx.add(Account(owner="ann"))
            mine = await documents.get(tx, id)
            async with other.transaction() as second:
                await documents.update(second, id, version=1, title="theirs")
            mine.title = "mine"
            with pytest.raises(StaleWrite):
                await tx.flush()
    async with db.transaction() as tx:
        assert await tx.scalar(select(Account)) is None


async def test_run_reads_the_version_anew(db: Database, other: Database, id: int) -> None:
    """Under REPEATABLE READ the loser runs again, and is told that the version it names is old."""
    tries = 0

    async def edit(tx: Transaction) -> None:
        nonlocal tries
        tries += 1
        await tx.execute(select(Document))
        if tries == 1:
            async with other.transaction() as second:
                await documents.update(second, id, version=1, title="theirs")
        await documents.update(tx, id, version=1, title="mine")

    with pytest.raises(StaleWrite, match="has version 2, not 1"):
        await db.run(edit, isolation="REPEATABLE READ", random=lambda: 0.0)
    assert tries == 2


# ---------------------------------------------------------------------------------------- in bulk


async def test_a_bulk_update_counts(db: Database, other: Database, id: int) -> None:
    """By `update_where` or `update()`: whoever read a row before is refused, and objects held here follow."""
    async with db.transaction() as tx:
        held = await documents.get(tx, id)
        await update_where(tx, Document, Document.id == id, words=Document.words + 1)
        assert (held.words, held.version) == (1, 2)
        await tx.execute(update(Document).where(Document.id == id).values(words=Document.words + 1))
        await tx.execute(update(Document).where(Document.id == id), {"title": "by parameters"})
        await tx.refresh(held)
        assert (held.title, held.words, held.version) == ("by parameters", 2, 4)
        held.title = "by hand"
    assert await now(db, id) == ("by hand", 2, 5)
    with pytest.raises(StaleWrite):
        async with db.transaction() as tx:
            mine = await documents.get(tx, id)
            async with other.transaction() as second:
                await second.session.run_sync(lambda s: s.execute(update(Document).values(words=0)))
            mine.title = "mine"


async def test_a_bulk_update_by_primary_key(db: Database) -> None:
    """SQLAlchemy's list of rows takes the version of each, and refuses all if one is old."""
    async with db.transaction() as tx:
        rows = [Document(title=str(n)) for n in range(3)]
        tx.add_all(rows)
    async with db.transaction() as tx:
        await documents.update(tx, rows[1].id, version=1, title="theirs")
    changes = [{"id": row.id, "version": 1, "title": "mine"} for row in rows]
    with pytest.raises(StaleWrite):
        async with db.transaction() as tx:
            await tx.execute(update(Document), changes)
    async with db.transaction() as tx:
        await tx.execute(update(Document), [changes[0], changes[2]])
    async with db.transaction() as tx:
        rows_now = await tx.execute(select(Document.title, Document.version).order_by(Document.id))
        assert [tuple(row) for row in rows_now] == [("mine", 2), ("theirs", 2), ("mine", 2)]


async def test_other_statements_are_left_alone(db: Database, id: int) -> None:
    """A model without a version, a table of the core, a delete; ordered values, which take nothing in, are refused."""
    async with db.transaction() as tx:
        tx.add(Account(owner="ann"))
        await tx.execute(update(Account).values(balance=3))
        await tx.execute(update(Document.__table__).values(words=3))  # type: ignore[arg-type]
    assert await now(db, id) == ("draft", 3, 1)
    async with db.transaction() as tx:
        with pytest.raises(ValueError, match="not ordered_values"):
            await tx.execute(update(Document).ordered_values((Document.words, 4)))
        await tx.execute(delete(Document))
    assert await now(db, id) is None


# ------------------------------------------------------------------------------------------- HTTP


@given(st.integers(0, 2**63 - 1))
def test_an_etag_comes_back_as_the_version(version: int) -> None:
    """What was sent as ETag is understood in If-Match."""
    assert if_match(etag(version)) == version
    assert if_match(f"  {etag(version)} ") == version


def test_if_match_of_other_kinds() -> None:
    """`*` is any version, none at all asks for one, and what is no tag of ours is refused in one sentence."""
    assert if_match("*") is None
    with pytest.raises(VersionRequired, match="If-Match"):
        if_match(None)
    for header in ('"abc"', "7", '"1", "2"', '"-1"', '"007"', "", '"7', '"' + "9" * 30 + '"'):
        with pytest.raises(BadETag, match="takes one ETag"):
            if_match(header)
    with pytest.raises(BadETag, match="proxy"):
        if_match('W/"7"')
