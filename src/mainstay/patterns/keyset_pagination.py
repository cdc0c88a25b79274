"""Pages of rows by key: page n costs what page 1 costs, and no row is missed or met twice."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    Enum,
    Float,
    Numeric,
    SmallInteger,
    UnaryExpression,
    and_,
    false,
    inspect,
    literal,
    or_,
    tuple_,
)
from sqlalchemy.orm import QueryableAttribute
from sqlalchemy.orm.exc import UnmappedColumnError
from sqlalchemy.sql import operators

from mainstay.patterns.errors import BadCursor, BadLimit

Model = TypeVar("Model")

DEFAULT_LIMIT = 50
MOST = 200
"""Rows of a page at most. More in one go is a report or an export, and wants a stream instead of a page."""


@dataclass(frozen=True, slots=True)
class Page(Generic[Model]):
    """One page: its rows in order, and the cursor of the page after it (None: this is the last one)."""

    items: list[Model]
    next: str | None


class Key(NamedTuple):
    """One column of the order."""

    column: QueryableAttribute[Any]
    descending: bool
    nulls_first: bool
    nullable: bool

    def sorted(self) -> ColumnElement[Any]:
        """The ORDER BY element. Where nulls lie is said only if it is not PostgreSQL's default there."""
        element: UnaryExpression[Any] = self.column.desc() if self.descending else self.column.asc()
        if not self.nullable or self.nulls_first == self.descending:
            return element
        return element.nulls_first() if self.nulls_first else element.nulls_last()

    def bound(self, value: Any) -> ColumnElement[Any]:
        """The value as a parameter of the column's type."""
        return literal(value, self.column.type)

    def after(self, value: Any) -> ColumnElement[bool]:
        """True for rows that this column alone puts behind `value`."""
        if value is None:
            return self.column.is_not(None) if self.nulls_first else false()
        bound = self.bound(value)
        beyond: ColumnElement[bool] = self.column < bound if self.descending else self.column > bound
        return or_(beyond, self.column.is_(None)) if self.nullable and not self.nulls_first else beyond

    def same(self, value: Any) -> ColumnElement[bool]:
        """True for rows that this column alone puts beside `value`."""
        equal: ColumnElement[bool] = (
            self.column.is_(None) if value is None else self.column == self.bound(value)
        )
        return equal

    def __str__(self) -> str:
        nulls = " nulls first" if self.nulls_first else " nulls last"
        return f"{self.column.key}{' desc' if self.descending else ''}{nulls if self.nullable else ''}"


class Order:
    """A total order of a model's rows: the columns asked for, then the primary key to break ties.

    Args:
        model: a mapped class.
        by: columns of it, each plain or with ``.asc()`` or ``.desc()``, and ``.nulls_first()`` or
            ``.nulls_last()``. Nulls lie where PostgreSQL puts them: last, or first in descending order.

    Raises:
        ValueError: an element is not such a column, or its values cannot be carried by a cursor.
    """

    def __init__(self, model: type[Any], by: Sequence[Any] = ()) -> None:
        mapper = inspect(model)
        self.model = model
        keys = [_key(model, element) for element in by]
        taken = {key.column.key for key in keys}
        # The tie-break goes the way of the last column, so that one index serves the whole order.
        descending = bool(keys) and keys[-1].descending
        for column in mapper.primary_key:
            name = mapper.get_property_by_column(column).key
            if name not in taken:
                keys.append(Key(getattr(model, name), descending, descending, nullable=False))
        self.keys = tuple(keys)
        self._codecs = tuple(_codec(key.column) for key in keys)
        self._name = f"{mapper.local_table.name}: {', '.join(map(str, keys))}"

    def clauses(self) -> list[ColumnElement[Any]]:
        """The ORDER BY elements."""
        return [key.sorted() for key in self.keys]

    def after(self, values: Sequence[Any]) -> ColumnElement[bool]:
        """The WHERE condition for rows behind the row with these `values` of the keys.

        One row comparison where all columns go the same way and know no nulls: PostgreSQL turns
        ``(a, b) > (x, y)`` into one range of an index. Else the lexicographic order, spelled out.
        """
        keys = self.keys
        if len({key.descending for key in keys}) == 1 and not any(key.nullable for key in keys):
            left = tuple_(*(key.column for key in keys))
            right = tuple_(*(key.bound(value) for key, value in zip(keys, values, strict=True)))
            return left < right if keys[0].descending else left > right
        return or_(
            *(
                and_(*(other.same(values[j]) for j, other in enumerate(keys[:i])), key.after(values[i]))
                for i, key in enumerate(keys)
            )
        )

    def cursor(self, values: Sequence[Any]) -> str:
        """An opaque text that stands for the row with these values of the keys.

        It is neither secret nor signed. It carries the values of the ordering columns (so do not order by
        what the reader may not see), and gives no access beyond the query's own conditions.
        """
        plain = [
            None if value is None else codec.encode(value)
            for codec, value in zip(self._codecs, values, strict=True)
        ]
        text = json.dumps([self._name, plain], separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    def values(self, cursor: str) -> list[Any]:
        """The values of the keys that `cursor` stands for.

        Raises:
            BadCursor: it was not made by `cursor` for this model and order.
        """
        try:
            padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
            name, plain = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
            if name != self._name or not isinstance(plain, list) or len(plain) != len(self.keys):
                raise ValueError("of another query")
            return [
                _value(key, codec, value)
                for key, codec, value in zip(self.keys, self._codecs, plain, strict=True)
            ]
        except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError) as error:
            raise BadCursor(
                "this cursor does not belong to this list; begin again at the first page, without a cursor"
            ) from error


def check_limit(limit: int) -> None:
    """Raises `BadLimit` unless `limit` is 1 to 200."""
    if not 1 <= limit <= MOST:
        raise BadLimit(f"a page has 1 to {MOST} rows, not {limit}; ask for more pages with the cursor")


def _key(model: type[Any], element: Any) -> Key:
    descending: bool = False
    nulls_first: bool | None = None
    while isinstance(element, UnaryExpression):
        match element.modifier:
            case operators.desc_op:
                descending = True
            case operators.nulls_first_op:
                nulls_first = True
            case operators.nulls_last_op:
                nulls_first = False
        element = element.element
    try:
        own = element.expression if isinstance(element, QueryableAttribute) else element
        name = inspect(model).get_property_by_column(own).key
    except (UnmappedColumnError, AttributeError, TypeError):
        raise ValueError(
            f"{model.__name__} can be ordered by its own columns only, not by {element}"
        ) from None
    column = getattr(model, name)
    return Key(
        column,
        descending,
        nulls_first=descending if nulls_first is None else nulls_first,
        nullable=bool(column.property.columns[0].nullable),
    )


# ------------------------------------------------------------------------- values in and out of JSON


class _Codec(NamedTuple):
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


def _value(key: Key, codec: _Codec, plain: Any) -> Any:
    if plain is None:
        if not key.nullable:
            raise ValueError("null in a column without nulls")
        return None
    return codec.decode(plain)


def _codec(column: QueryableAttribute[Any]) -> _Codec:
    """How values of this column travel. What it decodes, PostgreSQL accepts: a forged cursor is no error there."""
    type_ = column.property.columns[0].type
    if isinstance(type_, Enum):
        if (members := type_.enum_class) is not None:
            return _Codec(lambda value: value.name, lambda plain: members[_text(plain)])
        texts = {text: text for text in type_.enums}
        return _Codec(str, lambda plain: texts[_text(plain)])
    if isinstance(type_, Numeric) and not isinstance(type_, Float) and type_.precision is not None:
        digits, scale = type_.precision, type_.scale or 0
        as_is = Decimal if type_.asdecimal else float
        return _Codec(str, lambda plain: as_is(_decimal_of(plain, digits, scale)))
    try:
        python = type_.python_type
    except NotImplementedError:
        python = object
    if python is int:
        bits = 16 if isinstance(type_, SmallInteger) else 64 if isinstance(type_, BigInteger) else 32
        return _Codec(int, lambda plain: _integer(plain, bits))
    if python is datetime:
        aware = isinstance(type_, DateTime) and type_.timezone
        return _Codec(datetime.isoformat, lambda plain: _moment(plain, aware))
    if python in _CODECS:
        return _CODECS[python]
    raise ValueError(f"{column} cannot be ordered by in pages: its values do not fit into a cursor")


def _text(plain: Any) -> str:
    if not isinstance(plain, str) or "\0" in plain:
        raise ValueError("not a text of PostgreSQL")
    plain.encode()  # refuses halves of surrogate pairs
    return plain


def _exactly(kind: type[Any]) -> Callable[[Any], Any]:
    def check(plain: Any) -> Any:
        if type(plain) is not kind:
            raise ValueError(f"not a {kind.__name__}")
        return plain

    return check


def _integer(plain: Any, bits: int) -> int:
    if type(plain) is not int or not -(2 ** (bits - 1)) <= plain < 2 ** (bits - 1):
        raise ValueError("not an integer of this column")
    return plain


def _decimal(plain: Any) -> Decimal:
    try:
        value = Decimal(_text(plain))
    except InvalidOperation as error:
        raise ValueError("not a number") from error
    exponent = value.as_tuple().exponent
    if value.is_snan() or (
        isinstance(exponent, int) and not (exponent >= -16383 and value.adjusted() < 131072)
    ):
        raise ValueError("not a numeric of PostgreSQL")
    return value


def _decimal_of(plain: Any, digits: int, scale: int) -> Decimal:
    """A number that NUMERIC(digits, scale) holds as it is; SQLAlchemy casts to that."""
    value = _decimal(plain)
    exponent = value.as_tuple().exponent
    if value.is_infinite() or (
        isinstance(exponent, int) and (-exponent > scale or value.adjusted() >= digits - scale)
    ):
        raise ValueError("not a number of this column")
    return value


def _moment(plain: Any, aware: bool) -> datetime:
    value = datetime.fromisoformat(_text(plain))
    if (value.tzinfo is not None) != aware:
        raise ValueError("not a moment of this column")
    # PostgreSQL knows zones to about 16 hours from UTC, Python to 24.
    return value.astimezone(UTC) if aware else value


_CODECS: dict[type[Any], _Codec] = {
    bool: _Codec(bool, _exactly(bool)),
    float: _Codec(float, _exactly(float)),
    str: _Codec(str, _text),
    Decimal: _Codec(str, _decimal),
    date: _Codec(date.isoformat, lambda plain: date.fromisoformat(_text(plain))),
    UUID: _Codec(str, lambda plain: UUID(_text(plain))),
}
