"""Run a named statement on whatever connection the user's transaction lives on.

Nothing here begins or ends a transaction: the statement joins the one that is open, or the one that the session or
driver begins with it. Types are told by their module, so that no driver is imported that the user does not have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.ext.asyncio import async_scoped_session as AsyncScopedSession
from sqlalchemy.orm import Session, scoped_session

from mainstay.patterns.errors import Misuse
from mainstay.patterns.messages.statements import Statement
from mainstay.patterns.transaction import Transaction

Row = Sequence[Any]


async def fetch(connection: Any, statement: Statement, values: Mapping[str, Any]) -> Sequence[Row]:
    """Run `statement` and return its rows.

    Args:
        connection: a `Transaction`, `AsyncSession`, `AsyncConnection`, `psycopg.AsyncConnection` or asyncpg connection.

    Raises:
        TypeError: it is none of these.
    """
    if isinstance(connection, Transaction):
        connection = connection.session
    if isinstance(connection, AsyncSession | AsyncScopedSession):
        connection = await connection.connection()
    if isinstance(connection, AsyncConnection):
        return await connection.run_sync(_fetch_sqlalchemy, statement, values)
    match _library(connection):
        case "asyncpg":
            rows: Sequence[Row] = await connection.fetch(statement.numbered, *statement.ordered(values))
            return rows
        case "psycopg" if hasattr(connection, "__aenter__"):
            cursor = await connection.execute(statement.named, values)
            if _answers_later(connection):
                with suppress(connection.ProgrammingError):  # a statement without rows
                    # Waits for the answer, and only then is there a description.
                    answer: Sequence[Row] = await cursor.fetchall()
                    return answer
            return (await cursor.fetchall()) if cursor.description else ()
    raise TypeError(
        f"a {type(connection).__qualname__} is no open transaction that messages can join with await; pass a"
        " mainstay Transaction, AsyncSession, AsyncConnection, psycopg.AsyncConnection or asyncpg connection"
        " (publish_sync takes the ones without await)"
    )


def fetch_sync(connection: Any, statement: Statement, values: Mapping[str, Any]) -> Sequence[Row]:
    """As `fetch`, for a `Session`, `Connection`, `psycopg.Connection`, psycopg2 or Django connection."""
    if isinstance(connection, Session | scoped_session):
        connection = connection.connection()
    if isinstance(connection, Connection):
        return _fetch_sqlalchemy(connection, statement, values)
    if _library(connection) in ("psycopg", "psycopg2", "django") and not hasattr(connection, "__aenter__"):
        with connection.cursor() as cursor:
            cursor.execute(statement.named, dict(values))
            if _answers_later(connection):
                with suppress(connection.ProgrammingError):
                    return list(cursor.fetchall())
            return list(cursor.fetchall()) if cursor.description else ()
    raise TypeError(
        f"a {type(connection).__qualname__} is no open transaction that messages can join; pass a Session,"
        " Connection, psycopg.Connection or Django connection (publish takes the ones with await)"
    )


async def check_together(connection: Any) -> None:
    """See to it that several statements on it stand or fall together.

    Raises:
        Misuse: each would commit by itself.
    """
    if isinstance(connection, AsyncSession | AsyncScopedSession):
        connection = await connection.connection()
    if isinstance(connection, AsyncConnection):
        connection = connection.sync_connection
    if not isinstance(connection, Transaction):
        _check_together(connection)


def check_together_sync(connection: Any) -> None:
    """As `check_together`, for a connection as `fetch_sync` takes it."""
    _check_together(
        connection.connection() if isinstance(connection, Session | scoped_session) else connection
    )


def _check_together(connection: Any) -> None:
    if isinstance(connection, Connection):
        pooled = connection.connection
        alone = getattr(pooled.dbapi_connection, "isolation_level", None) == "autocommit"  # asyncpg's
        alone = alone or getattr(pooled.driver_connection, "autocommit", False) is True
    elif (library := _library(connection)) == "asyncpg":
        alone = not connection.is_in_transaction()
    elif library == "django":
        alone = connection.get_autocommit()
    else:
        alone = getattr(connection, "autocommit", False) is True and not connection.info.transaction_status
    if alone:
        raise Misuse(
            "events and messages in one call are several statements, and without a transaction each of them commits by"
            " itself; begin one, or publish them by a call each"
        )


def _fetch_sqlalchemy(
    connection: Connection, statement: Statement, values: Mapping[str, Any]
) -> Sequence[Row]:
    if connection.dialect.driver == "asyncpg":
        result = connection.exec_driver_sql(statement.numbered, statement.ordered(values))
    else:
        result = connection.exec_driver_sql(statement.named, dict(values))
    return result.fetchall() if result.returns_rows else ()


def _answers_later(connection: Any) -> bool:
    """Whether it is a psycopg connection in pipeline mode, whose cursors know of no result until one asks for it."""
    raw = getattr(connection, "pgconn", None)
    return bool(raw is not None and raw.pipeline_status)


def _library(connection: object) -> str:
    """Which library a connection comes from: also of a subclass, a pool's proxy or Django's lazy wrapper."""
    if hasattr(connection, "ensure_connection") and getattr(connection, "vendor", None) == "postgresql":
        return "django"
    for kind in type(connection).__mro__:
        library = kind.__module__.partition(".")[0]
        if library in ("asyncpg", "psycopg", "psycopg2"):
            return library
    return ""
