"""Work on the user's database for one command: what can go wrong on the way ends in one sentence."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, TypeVar

import typer
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection

from mainstay.errors import MainstayError
from mainstay.patterns import Database
from mainstay.patterns.errors import PatternError
from mainstay.patterns.schema import check
from mainstay.patterns.serialization_retry import sqlstate

T = TypeVar("T")

STATEMENT_TIMEOUT = 60.0
"""Seconds that one statement of a command may run: people wait, and counting a large table takes a while."""

DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        envvar="DATABASE_URL",
        help="The service's database.",
        metavar="URL",
        show_default=False,
    ),
]


def on_database(url: str | None, work: Callable[[Database], Awaitable[T]], *, with_tables: bool = True) -> T:
    """Run `work` on the database, which must have this version's tables unless `with_tables` is false.

    Raises:
        MainstayError: there is no URL, the database cannot be reached or refuses, its tables are missing.
    """
    if not url:
        raise MainstayError(
            "which database? Set DATABASE_URL, or give --database-url postgresql://user:password@host/name."
        )
    try:
        database = Database(
            url, pool_size=2, statement_timeout=STATEMENT_TIMEOUT, idle_in_transaction_timeout=60.0
        )
    except (ValueError, ImportError) as error:  # not PostgreSQL's, or its driver is not installed
        raise MainstayError(f"{error}.") from None
    return asyncio.run(_run(database, work, with_tables))


async def _run(database: Database, work: Callable[[Database], Awaitable[T]], with_tables: bool) -> T:
    async with database:
        await reach(database)
        try:
            if with_tables:
                await check(database)
            return await work(database)
        except UnicodeEncodeError as error:  # as Python has what a shell hands over in another encoding
            shown = str(error.object).encode(errors="replace").decode()
            raise MainstayError(
                f"an argument is no UTF-8: {shown[:60]!r}; write it in the terminal's encoding."
            ) from None
        except (PatternError, DBAPIError, OSError, NoConnection) as error:
            raise explained(error) from error


async def reach(database: Database) -> None:
    """Connect once.

    Raises:
        MainstayError: that is not possible, with where and why.
    """
    try:
        async with database.engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
    except Exception as error:
        where = database.engine.url.render_as_string(hide_password=True)
        raise MainstayError(f"the database {where} cannot be reached: {_first_line(error)}.") from error


async def database_now(database: Database) -> datetime:
    """The database's clock, the only one that counts."""
    async with database.engine.connect() as connection:
        now: datetime = (await connection.execute(text("SELECT now()"))).scalar_one()
        return now


def explained(error: Exception) -> MainstayError:
    """The sentence that a user gets for an error of the patterns or of the database."""
    if isinstance(error, PatternError):
        return MainstayError(f"{str(error).rstrip('.')}.")
    match sqlstate(error):
        case "57014":
            reason = f"a statement took longer than {STATEMENT_TIMEOUT:g} s and was given up"
        case "25006":
            reason = "it is read-only (a standby?); give the URL of the primary"
        case _:
            reason = _first_line(error)
    return MainstayError(f"the database could not do it: {reason}.")


def _first_line(error: BaseException) -> str:
    cause = getattr(error, "orig", None) or error
    lines = str(cause).strip().splitlines() or [type(cause).__name__]
    # psycopg tells all addresses that it tried; the last line is the answer of the last one.
    line = lines[-1] if "connection" in lines[0] and len(lines) == 1 else lines[0]
    return line.rsplit(">: ", 1)[-1].strip().rstrip(".")
