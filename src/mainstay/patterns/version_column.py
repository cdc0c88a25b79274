"""A version column counts the changes of a row, so that nobody overwrites what they have not seen.

SQLAlchemy keeps it: a mapped class names it by ``__mapper_args__ = {"version_id_col": version}``. Here is what
it leaves open: bulk updates count too, and the version travels over HTTP as an ETag (RFC 9110, 8.8.3 and 13.1.1).
"""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    CursorResult,
    Delete,
    Engine,
    Integer,
    Table,
    Update,
    event,
    inspect,
)
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.exc import StaleDataError
from sqlalchemy.sql import visitors

from mainstay.patterns.errors import BadETag, VersionRequired

_TAG = re.compile(r'"(0|[1-9][0-9]{0,18})"')


def etag(version: int) -> str:
    """The value of the header ``ETag`` for a row of this version: ``"7"``, with its quotes."""
    return f'"{version}"'


def if_match(header: str | None) -> int | None:
    """The version that the header ``If-Match`` expects; None for ``*``, which any version meets.

    Raises:
        VersionRequired: there is no such header (answer 428, RFC 6585).
        BadETag: it is not one strong tag as `etag` makes them (answer 400).
    """
    if header is None:
        raise VersionRequired(
            "send the ETag of what you have seen in If-Match, so that no change is overwritten"
        )
    header = header.strip()
    if header == "*":
        return None
    if found := _TAG.fullmatch(header):
        return int(found[1])
    weak = "; a proxy that compresses the reply may have made it weak" if header.startswith("W/") else ""
    raise BadETag(
        f"If-Match takes one ETag as it was sent, such as {etag(7)}, or *, not {header[:80]!r}{weak}"
    )


def version_attribute(model: type[Any]) -> Any:
    """The attribute of the model that holds the version.

    Raises:
        ValueError: the model has none.
    """
    mapper: Mapper[Any] = inspect(model)
    if mapper.version_id_col is None:
        raise ValueError(
            f"{model.__name__} has no version column; name one by __mapper_args__ = {{'version_id_col': version}}"
        )
    return getattr(model, mapper.get_property_by_column(mapper.version_id_col).key)


def counted(statement: Update) -> Update:
    """The same UPDATE, which also moves the version of each row on where the model has one.

    SQLAlchemy counts only what a session flushes, so without this a bulk update would go unseen by whoever
    read the row before. An integer goes up by one; of another type, the model's generator makes a new value.
    A version that the server keeps (``version_id_generator=False``) is left to it.
    """
    model = statement.entity_description.get("entity") if statement.is_dml else None
    mapper = inspect(model, raiseerr=False) if model is not None else None
    if not isinstance(mapper, Mapper):
        mapper = getattr(mapper, "mapper", None)  # an alias
    if mapper is None or mapper.version_id_col is None:
        return statement
    generator = mapper.version_id_generator
    if generator is False:
        return statement
    version = version_attribute(mapper.class_)
    value = version + 1 if isinstance(mapper.version_id_col.type, Integer) else generator(None)  # type: ignore[misc]
    try:
        return statement.values({version: value})
    except InvalidRequestError:
        raise ValueError(
            f"an UPDATE of {mapper.class_.__name__}, which has a version column, takes values(), not ordered_values()"
        ) from None


def check_deletes(engine: Engine) -> None:
    """Let a flush notice each DELETE that found its row with another version, where SQLAlchemy does not.

    With a driver that cannot count the rows of several statements at once (asyncpg), SQLAlchemy sends the deletes
    of versioned rows one by one, sums up what they matched, and then does not look at the sum (2.0.40 to 2.1.9).
    """
    if not engine.dialect.supports_sane_multi_rowcount:
        event.listen(engine, "after_execute", _check_delete)


def _check_delete(
    connection: Connection, statement: object, rows: Any, row: Any, options: Any, result: CursorResult[Any]
) -> None:
    # Only a flush brings its mapper's cache of compiled statements along.
    if not isinstance(statement, Delete) or "compiled_cache" not in options or result.rowcount != 0:
        return
    where, table = statement.whereclause, statement.table
    if where is not None and isinstance(table, Table):
        columns = {part for part in visitors.iterate(where) if isinstance(part, Column)}
        if columns - set(table.primary_key):  # more than the key: the version
            raise StaleDataError(f"a DELETE of {table.name} matched no row of the version that was read")
