"""Rows of one model: by primary key, locked, or page by page; relationships only as asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Generic, Literal, TypeVar, cast, overload

from sqlalchemy import ColumnElement, CursorResult, Select, delete, inspect, select, tuple_, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import raiseload
from sqlalchemy.orm.interfaces import ORMOption

from mainstay.patterns.conditional_update import check_values
from mainstay.patterns.errors import LockNotAvailable, NotFound, PatternError, StaleWrite
from mainstay.patterns.keyset_pagination import DEFAULT_LIMIT, Order, Page, check_limit
from mainstay.patterns.serialization_retry import sqlstate
from mainstay.patterns.transaction import Transaction
from mainstay.patterns.version_column import counted, version_attribute

Model = TypeVar("Model")

LOCK_NOT_AVAILABLE = "55P03"


class Repository(Generic[Model]):
    """All that a service does with the rows of one model, inside a transaction that is handed in.

    Reading a relationship that was not loaded raises `sqlalchemy.exc.InvalidRequestError` instead of sending
    a query. What is needed is named in `load`: options such as ``selectinload(Order.lines)``.

    Args:
        model: a mapped class.
    """

    def __init__(self, model: type[Model]) -> None:
        self.model = model
        self._key = inspect(model).primary_key

    async def find(self, tx: Transaction, id: Any, *, load: Sequence[ORMOption] = ()) -> Model | None:
        """The row with this primary key (a tuple where it has several columns), or None.

        Without `load`, a row that `tx` holds already is not asked for again.
        """
        if not load:
            return await tx.get(self.model, id, options=[raiseload("*")])
        return await tx.scalar(self._select(load).where(*self._is(id)))

    async def get(
        self, tx: Transaction, id: Any, *, version: int | None = None, load: Sequence[ORMOption] = ()
    ) -> Model:
        """As `find`.

        Args:
            version: the version that the row must have, for a model with a version column; None takes any.
                What is changed in the row then is still written only if nobody else was quicker.

        Raises:
            NotFound: there is no such row.
            StaleWrite: the row has another version.
        """
        return self._at(version, self._there(id, await self.find(tx, id, load=load)), id)

    async def add(self, tx: Transaction, row: Model) -> Model:
        """Insert the row now, so that its defaults are known and constraints speak here; the row.

        Raises:
            sqlalchemy.exc.IntegrityError: a constraint refuses it.
        """
        tx.add(row)
        await tx.flush()
        return row

    @overload
    async def lock(
        self,
        tx: Transaction,
        id: Any,
        *,
        nowait: bool = False,
        skip_locked: Literal[False] = False,
        key: bool = False,
        version: int | None = None,
        load: Sequence[ORMOption] = (),
    ) -> Model: ...

    @overload
    async def lock(
        self,
        tx: Transaction,
        id: Any,
        *,
        nowait: bool = False,
        skip_locked: bool,
        key: bool = False,
        version: int | None = None,
        load: Sequence[ORMOption] = (),
    ) -> Model | None: ...

    async def lock(
        self,
        tx: Transaction,
        id: Any,
        *,
        nowait: bool = False,
        skip_locked: bool = False,
        key: bool = False,
        version: int | None = None,
        load: Sequence[ORMOption] = (),
    ) -> Model | None:
        """The row as it is now, and nobody else changes it until the transaction ends.

        It is read anew even if `tx` holds it, since what was read before the lock may be out of date.

        Args:
            nowait: do not wait for another holder.
            skip_locked: None where another one holds it (or there is no such row).
            key: FOR UPDATE instead of FOR NO KEY UPDATE: also keep others from inserting rows that refer to
                this one. Needed before deleting it or changing its key, and slower for everybody otherwise.
            version: the version that the row must have, as for `get`.

        Raises:
            NotFound: there is no such row (without `skip_locked`).
            StaleWrite: the row has another version.
            LockNotAvailable: another one holds it: at once with `nowait`, else after the lock timeout. The
                transaction can only roll back then, or to a savepoint.
            ValueError: both `nowait` and `skip_locked`.
        """
        rows = await self._lock(tx, self._is(id), nowait, skip_locked, key, load)
        if skip_locked and not rows:
            return None
        return self._at(version, self._there(id, rows[0] if rows else None), id)

    async def lock_all(
        self,
        tx: Transaction,
        ids: Iterable[Any],
        *,
        nowait: bool = False,
        key: bool = False,
        load: Sequence[ORMOption] = (),
    ) -> list[Model]:
        """The rows with these primary keys, locked as by `lock`, in the order of the keys.

        All who lock several rows in one order cannot deadlock each other, whatever order `ids` has. A key
        that comes twice gives one row.

        Raises:
            NotFound: a row is missing.
            LockNotAvailable: as `lock`.
        """
        wanted = set(ids)
        if not wanted:
            return []
        columns = self._key
        among = columns[0].in_(wanted) if len(columns) == 1 else tuple_(*columns).in_(wanted)
        rows = await self._lock(tx, [among], nowait, False, key, load)
        found = {_identity(row) for row in rows}
        for id in wanted:
            if (id if isinstance(id, tuple) else (id,)) not in found:
                raise NotFound(self.model, id)
        return rows

    async def update(
        self,
        tx: Transaction,
        id: Any,
        /,
        *,
        version: int | None,
        load: Sequence[ORMOption] = (),
        **values: Any,
    ) -> Model:
        """Set `values` in the row with this primary key if it has this version, in one statement; the row after it.

        For a model with a version column (see `version_column`), which goes up by one.

        Args:
            version: the version that the change is based on; None takes any, as ``If-Match: *`` does.
            values: by attribute name; SQL expressions too.

        Raises:
            NotFound: there is no such row.
            StaleWrite: the row has another version: someone else has changed it.
            ValueError: the model has no version column or no such attribute, or no value was given.
        """
        check_values(self.model, values)
        change = counted(update(self.model).where(*self._is(id), *self._has(version)).values(**values))
        query = select(self.model).from_statement(change.returning(self.model)).options(raiseload("*"), *load)
        row: Model | None = await tx.scalar(query.execution_options(populate_existing=True))
        if row is None:
            raise await self._missed(tx, id, version)
        return row

    async def delete(self, tx: Transaction, id: Any, /, *, version: int | None) -> None:
        """Delete the row with this primary key if it has this version, in one statement.

        What SQLAlchemy would cascade is left to the foreign keys.

        Raises:
            NotFound, StaleWrite: as `update`.
            sqlalchemy.exc.IntegrityError: other rows refer to it.
            ValueError: the model has no version column.
        """
        result = await tx.execute(delete(self.model).where(*self._is(id), *self._has(version)))
        if cast(CursorResult[Any], result).rowcount == 0:
            raise await self._missed(tx, id, version)

    async def page(
        self,
        tx: Transaction,
        *where: ColumnElement[bool],
        order_by: Any = (),
        after: str | None = None,
        limit: int = DEFAULT_LIMIT,
        load: Sequence[ORMOption] = (),
    ) -> Page[Model]:
        """At most `limit` rows for which all of `where` hold, and the cursor of the next page.

        Args:
            order_by: a column or a sequence of them, as `keyset_pagination.Order` takes them; the primary key
                is appended to break ties. An index on these columns makes every page cost the same.
            after: the cursor `next` of the page before; None for the first page.
            limit: 1 to 200.

        Raises:
            BadCursor: `after` does not belong to this model and order.
            BadLimit: `limit` is not 1 to 200.
            ValueError: `order_by` cannot be paged through.
        """
        check_limit(limit)
        order = Order(self.model, order_by if isinstance(order_by, (list, tuple)) else (order_by,))
        query = self._select(load).where(*where)
        if after is not None:
            query = query.where(order.after(order.values(after)))
        # The keys come from the row itself: an object that the session held already may be older than it.
        keyed = query.add_columns(*(key.column for key in order.keys))
        found = await tx.execute(keyed.order_by(*order.clauses()).limit(limit + 1))
        rows = found.unique().all()
        more = len(rows) > limit
        return Page([row[0] for row in rows[:limit]], order.cursor(rows[limit - 1][1:]) if more else None)

    async def _lock(
        self,
        tx: Transaction,
        where: Sequence[ColumnElement[bool]],
        nowait: bool,
        skip_locked: bool,
        key: bool,
        load: Sequence[ORMOption],
    ) -> list[Model]:
        if nowait and skip_locked:
            raise ValueError("nowait and skip_locked exclude each other")
        query = (
            self._select(load)
            .where(*where)
            .order_by(*self._key)
            .with_for_update(nowait=nowait, skip_locked=skip_locked, key_share=not key, of=self.model)
            .execution_options(populate_existing=True)
        )
        try:
            return list((await tx.scalars(query)).unique())
        except DBAPIError as error:
            if sqlstate(error) != LOCK_NOT_AVAILABLE:
                raise
            raise LockNotAvailable(
                f"another transaction holds the lock of a {self.model.__name__}"
            ) from error

    def _select(self, load: Sequence[ORMOption]) -> Select[Model]:
        return select(self.model).options(raiseload("*"), *load)

    def _is(self, id: Any) -> list[ColumnElement[bool]]:
        values = id if isinstance(id, tuple) else (id,)
        return [column == value for column, value in zip(self._key, values, strict=True)]

    def _has(self, version: int | None) -> list[ColumnElement[bool]]:
        attribute = version_attribute(self.model)
        return [] if version is None else [attribute == version]

    def _at(self, version: int | None, row: Model, id: Any) -> Model:
        if version is not None and (found := getattr(row, version_attribute(self.model).key)) != version:
            raise StaleWrite(self.model, id, expected=version, found=found)
        return row

    async def _missed(self, tx: Transaction, id: Any, version: int | None) -> PatternError:
        found = await tx.scalar(select(version_attribute(self.model)).where(*self._is(id)))
        if found is None:
            return NotFound(self.model, id)
        return StaleWrite(self.model, id, expected=version, found=found)

    def _there(self, id: Any, row: Model | None) -> Model:
        if row is None:
            raise NotFound(self.model, id)
        return row


def _identity(row: Any) -> tuple[Any, ...]:
    identity = inspect(row).identity
    assert identity is not None  # it was just read
    return tuple(identity)
