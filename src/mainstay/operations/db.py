"""`mainstay db`: Mainstay's own tables in the service's database."""

from __future__ import annotations

from typing import Annotated

import typer

from mainstay.errors import MainstayError
from mainstay.operations.database import DatabaseUrl, on_database
from mainstay.operations.display import Json, print_json, print_lines
from mainstay.patterns import Database
from mainstay.patterns.schema import Migration, applied, migrations
from mainstay.patterns.schema import upgrade as upgrade_schema

app = typer.Typer(
    help="Mainstay's own tables: see what is applied, apply what is missing.", no_args_is_help=True
)


@app.command(
    epilog="Examples:  mainstay db upgrade   |   mainstay db upgrade --database-url postgresql://localhost/shop"
)
def upgrade(
    database_url: DatabaseUrl = None,
    to: Annotated[
        int | None,
        typer.Option("--to", help="Only up to and with this migration.", metavar="N", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """Apply the migrations that are missing, in one transaction. Safe to run again, and by many at once."""
    if to is not None and to not in (one.number for one in migrations()):
        raise MainstayError(
            f"there is no migration {to}; this version has {migrations()[0].number} to {migrations()[-1].number}."
        )

    async def work(database: Database) -> list[Migration]:
        return await upgrade_schema(database, to=to)

    done = on_database(database_url, work, with_tables=False)
    if json:
        print_json({"applied": [{"number": one.number, "name": one.name} for one in done]})
    elif done:
        print_lines(*(f"applied {_title(one)}" for one in done))
    else:
        print_lines("nothing to apply: the tables are up to date")


@app.command(epilog="Example:  mainstay db status.  Exit code 1 where migrations are missing.")
def status(database_url: DatabaseUrl = None, json: Json = False) -> None:
    """Say which migrations are applied and which are missing."""
    present = on_database(database_url, applied, with_tables=False)
    missing = [one for one in migrations() if one.number not in present]
    newer = sorted(present - {one.number for one in migrations()})
    if json:
        print_json(
            {
                "applied": sorted(present),
                "missing": [{"number": one.number, "name": one.name} for one in missing],
                "newer": newer,
            }
        )
    else:
        for one in migrations():
            print_lines(f"{'applied' if one.number in present else 'missing'}  {_title(one)}")
        for number in newer:
            print_lines(f"applied  {number:04} by a newer version of Mainstay")
        if missing:
            print_lines("", "run: mainstay db upgrade")
    raise typer.Exit(1 if missing else 0)


def _title(migration: Migration) -> str:
    return f"{migration.number:04} {migration.name}"
