"""The state of a database: the rows of every table, read cheaply.

One query asks for a number and a hash for each table; rows are fetched only of tables that differ from the
template, so a large seed costs nothing that did not change.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection

from mainstay.architect.diagnose.schema import Schema

Row = dict[str, Any]

MOST_ROWS = 20_000
"""Rows of a changed table that are compared. A larger one makes the experiment undecided."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Rows by table. JSON values; numbers that are not whole are kept as text, so nothing is rounded."""

    rows: dict[str, list[Row]]
    digests: dict[str, tuple[int, str]]
    """Table -> number of rows and a hash over them that does not hang on their order."""

    def changed(self, since: Snapshot) -> list[str]:
        """The tables that differ from another snapshot."""
        return [name for name, digest in self.digests.items() if since.digests.get(name) != digest]


class TooManyRows(Exception):
    """A changed table has more rows than are compared."""


async def take_snapshot(
    connection: AsyncConnection[Any], schema: Schema, template: Snapshot | None = None
) -> Snapshot:
    """The state of the database behind `connection`. Tables equal to `template`'s share its rows.

    Raises `TooManyRows` where a changed table has more than `MOST_ROWS` rows. Of a template, tables that
    large are left empty: they are read if they change.
    """
    if not schema.tables:
        return Snapshot({}, {})
    names = list(schema.tables)
    digests: dict[str, tuple[int, str]] = {}
    query = " UNION ALL ".join(
        f"SELECT {at}, count(*), coalesce(sum(hashtextextended(t::text, 0)), 0)::text FROM {table.quoted} t"
        for at, table in enumerate(schema.tables.values())
    )
    for at, count, digest in await (await connection.execute(query.encode())).fetchall():
        digests[names[at]] = (count, digest)
    rows: dict[str, list[Row]] = {}
    wanted = []
    for name, (count, _) in digests.items():
        if template is not None and template.digests.get(name) == digests[name]:
            rows[name] = template.rows[name]
        elif count > MOST_ROWS:
            if template is not None:
                raise TooManyRows(
                    f"table {name} changed and has {count} rows, more than are compared ({MOST_ROWS})"
                )
            rows[name] = []
        else:
            rows[name] = []
            wanted.append(name)
    if wanted:
        query = " UNION ALL ".join(
            f"SELECT {names.index(name)}, to_jsonb(t)::text FROM {schema.tables[name].quoted} t"
            for name in wanted
        )
        for at, text in await (await connection.execute(query.encode())).fetchall():
            rows[names[at]].append(json.loads(text, parse_float=str))
    return Snapshot(rows, digests)


def fingerprint(snapshot: Snapshot, masked: dict[str, set[str]] | None = None) -> dict[str, Any]:
    """`Witness.starting_state`: a hash over the rows less masked columns, and the number of rows by table."""
    body = {
        name: sorted(
            json.dumps(
                {key: value for key, value in row.items() if key not in (masked or {}).get(name, ())},
                sort_keys=True,
            )
            for row in rows
        )
        for name, rows in sorted(snapshot.rows.items())
    }
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    return {
        "fingerprint": f"sha256:{digest}",
        "tables": {name: count for name, (count, _) in sorted(snapshot.digests.items())},
    }


async def advance_sequences(connection: AsyncConnection[Any], schema: Schema, stride: int) -> None:
    """Move every sequence on by `stride`, so that what comes from a sequence differs from another run."""
    if schema.sequences:
        query = "; ".join(
            f"SELECT setval('{name}', (SELECT last_value FROM {name}) + {stride} + {at})"
            for at, name in enumerate(name.replace("'", "''") for name in schema.sequences)
        )
        await connection.execute(query.encode())
