"""Decide in the statement that writes: an UPDATE whose WHERE is the condition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from sqlalchemy import ColumnElement, CursorResult, inspect, update

from mainstay.patterns.errors import ConditionFailed
from mainstay.patterns.transaction import Transaction


async def update_where(
    tx: Transaction, model: type[Any], /, *conditions: ColumnElement[bool], **values: Any
) -> int:
    """Set `values` in all rows of `model` for which every condition holds; the number of rows changed.

    Values may be SQL expressions (``stock=Product.stock - 1``). Objects of the model already in `tx` follow. A
    version column (see `version_column`) goes up by one.

    Raises:
        ValueError: no condition or no value was given, or the model has no such attribute.
    """
    if not conditions:
        raise ValueError(f"an update of {model.__name__} needs at least one condition and one value")
    check_values(model, values)
    result = await tx.execute(update(model).where(*conditions).values(**values))
    return cast(CursorResult[Any], result).rowcount


async def update_one(
    tx: Transaction, model: type[Any], /, *conditions: ColumnElement[bool], **values: Any
) -> None:
    """As `update_where`, for exactly one row.

    Raises:
        ConditionFailed: the conditions held for no row, or for several; let it leave the transaction, so
            that nothing of it stays.
        ValueError: as `update_where`.
    """
    rows = await update_where(tx, model, *conditions, **values)
    if rows != 1:
        raise ConditionFailed(model, rows)


def check_values(model: type[Any], values: Mapping[str, Any]) -> None:
    """Refuse to set nothing, or what the model does not have.

    Raises:
        ValueError: no value was given, or the model has no such attribute.
    """
    if not values:
        raise ValueError(f"an update of {model.__name__} needs at least one condition and one value")
    known = inspect(model).column_attrs.keys()
    for name in values:
        if name not in known:
            raise ValueError(f"{model.__name__} has no column attribute {name!r}; it has {', '.join(known)}")
