"""Makes more rows out of the rows that are there, in any schema: what a growth run needs.

The rows of a table are copied together with all rows that point at them, level by level, so that a copied
order has lines of its own. Where a copied row points at a row outside of what is copied, the copy points at the
same row; or, if asked to (`remapped`), at a copy of it made for this row. Primary keys and unique columns get
fresh values by type.
"""

from __future__ import annotations

import contextlib
import json
import re
import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import psycopg

from mainstay.architect.diagnose.schema import Column, ForeignKey, Schema, Table, quote

MOST_COPIED = 500
"""Rows of a table that are taken as originals, the first by key."""

Row = dict[str, Any]
Link = tuple[str, ForeignKey]
"""A table and one of its foreign keys."""


class CannotGrow(Exception):
    """The rows of a table cannot be copied; the message says why."""


@dataclass(slots=True)
class Copier:
    """Copies rows in one database."""

    connection: psycopg.AsyncConnection[Any]
    schema: Schema
    _rows: dict[str, list[Row]] = field(default_factory=dict)
    _highest: dict[tuple[str, str], int] = field(default_factory=dict)

    async def grow(self, root: str, factor: int, remapped: Collection[Link] = ()) -> int:
        """Copy the rows of `root` until there are `factor` times as many; returns how many rows it has then.

        Raises `CannotGrow` where a value cannot be made fresh, or PostgreSQL refuses a copy.
        """
        originals = await self._originals(root)
        # Triggers and the order of foreign keys must not get in the way. Only a superuser may say so.
        with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
            await self.connection.execute("SET session_replication_role = replica")
        made: dict[str, list[Row]] = {}
        for copy in range(1, factor):
            for table, rows in self._copy(originals, copy, set(remapped)).items():
                made.setdefault(table, []).extend(rows)
        try:
            # Parents before children, for servers where the above is not allowed.
            for table in sorted(made, key=self._depth):
                await self._insert(self.schema.tables[table], made[table])
            await self._advance_sequences(made)
        except psycopg.Error as error:
            raise CannotGrow(f"table {root} cannot be grown: {str(error).splitlines()[0]}") from None
        counted = await (
            await self.connection.execute(f"SELECT count(*) FROM {self.schema.tables[root].quoted}".encode())
        ).fetchone()
        return int(counted[0]) if counted else 0

    async def _originals(self, root: str) -> dict[str, list[Row]]:
        """The rows to copy, by table: those of `root`, and what points at them."""
        found: dict[str, list[Row]] = {root: (await self._all(root))[:MOST_COPIED]}
        waiting = [root]
        while waiting:
            name = waiting.pop(0)
            for child, key in self.schema.children(name):
                if child.name in found:
                    continue
                parents = {tuple(row[column] for column in key.target) for row in found[name]}
                rows = [
                    row
                    for row in await self._all(child.name)
                    if tuple(row[column] for column in key.columns) in parents
                ]
                if rows:
                    found[child.name] = rows[:MOST_COPIED]
                    waiting.append(child.name)
        for table in found:
            for key in self.schema.tables[table].foreign:
                await self._all(key.table)
        return found

    async def _all(self, name: str) -> list[Row]:
        if name not in self._rows:
            table = self.schema.tables[name]
            order = ", ".join(map(quote, table.key)) or "1"
            query = f"SELECT to_jsonb(t) FROM {table.quoted} t ORDER BY {order} LIMIT {10 * MOST_COPIED}"
            self._rows[name] = [
                row for (row,) in await (await self.connection.execute(query.encode())).fetchall()
            ]
            for column in {column for unique in table.uniques for column in unique}:
                if table.columns[column].category == "N":
                    query = f"SELECT coalesce(ceil(max({quote(column)})), 0)::bigint FROM {table.quoted}"
                    highest = await (await self.connection.execute(query.encode())).fetchone()
                    self._highest[(name, column)] = int(highest[0]) if highest else 0
        return self._rows[name]

    def _copy(self, originals: dict[str, list[Row]], copy: int, remapped: set[Link]) -> dict[str, list[Row]]:
        """One copy of all originals."""
        made: dict[str, list[Row]] = {}
        twins: dict[tuple[str, int], Row] = {}
        for name, rows in originals.items():
            table = self.schema.tables[name]
            made[name] = []
            for row in rows:
                twin = {**row}
                renewed = self._renewed(
                    table, {key for key in table.foreign if self._moves(name, key, originals, remapped)}
                )
                for column in renewed:
                    twin[column] = self._fresh(table, table.columns[column], row[column], copy)
                twins[(name, id(row))] = twin
                made[name].append(twin)
        for name, rows in originals.items():
            for key in self.schema.tables[name].foreign:
                for row in rows:
                    twin = twins[(name, id(row))]
                    if any(row[column] is None for column in key.columns):
                        continue
                    target = self._find(key, row, originals.get(key.table, ()))
                    if target is not None:
                        other = twins[(key.table, id(target))]
                    elif (name, key) in remapped:
                        parent = self._find(key, row, self._rows[key.table])
                        if parent is None:
                            continue
                        other = self._new_parent(self.schema.tables[key.table], parent, copy)
                        made.setdefault(key.table, []).append(other)
                    else:
                        continue
                    for column, pointed in zip(key.columns, key.target, strict=True):
                        twin[column] = other[pointed]
        return made

    def _moves(
        self, name: str, key: ForeignKey, originals: dict[str, list[Row]], remapped: set[Link]
    ) -> bool:
        return key.table in originals or (name, key) in remapped

    def _new_parent(self, table: Table, row: Row, copy: int) -> Row:
        twin = {**row}
        for column in self._renewed(table, set()):
            twin[column] = self._fresh(table, table.columns[column], row[column], copy)
        return twin

    def _renewed(self, table: Table, moved: set[ForeignKey]) -> list[str]:
        """The columns that need a fresh value, so that every unique key of a copy is new."""
        pointing = {column for key in table.foreign for column in key.columns}
        fresh = {column for key in moved for column in key.columns}
        renewed: list[str] = []
        for unique in sorted(table.uniques, key=len):
            if any(column in fresh or column in renewed for column in unique):
                continue
            own = [
                column for column in unique if column not in pointing and not table.columns[column].generated
            ]
            own = own or [
                column
                for column in unique
                if column not in pointing and table.columns[column].default is None
            ]
            if not own:
                raise CannotGrow(
                    f"table {table.name} cannot be grown: its rows are unique by {', '.join(unique)}, "
                    "which points at other rows"
                )
            able = [column for column in own if _renewable(table.columns[column])]
            if not able:
                raise CannotGrow(
                    f"table {table.name} cannot be grown: there is no fresh value for {', '.join(own)} "
                    f"({table.columns[own[0]].type})"
                )
            renewed.append(able[0])
        return renewed

    def _fresh(self, table: Table, column: Column, value: Any, copy: int) -> Any:
        """A value of a column that no row has."""
        if value is None:
            return None
        key = (table.name, column.name)
        number = self._highest[key] = self._highest.get(key, 0) + 1
        if column.category == "N":
            return number
        if column.type == "uuid":
            return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{table.name}.{column.name}.{value}.{number}"))
        if column.category == "D":
            latest = max(row[column.name] for row in self._rows[table.name] if row[column.name] is not None)
            if column.type == "date":
                return (date.fromisoformat(latest) + timedelta(days=number)).isoformat()
            return (datetime.fromisoformat(latest) + timedelta(seconds=number)).isoformat()
        return _fresh_text(str(value), number, column.length)

    async def _insert(self, table: Table, rows: list[Row]) -> None:
        columns = [column.name for column in table.columns.values() if not _computed(column)]
        names = ", ".join(map(quote, columns))
        await self.connection.execute(
            f"INSERT INTO {table.quoted} ({names}) OVERRIDING SYSTEM VALUE "
            f"SELECT {names} FROM jsonb_populate_recordset(null::{table.quoted}, %s::jsonb)".encode(),
            (json.dumps(rows),),
        )

    async def _advance_sequences(self, made: Collection[str]) -> None:
        """Let sequences go on behind the new keys."""
        for name in made:
            table = self.schema.tables[name]
            for column in table.columns.values():
                if column.type in ("int2", "int4", "int8"):
                    named = re.match(r"nextval\('(.+)'::regclass\)$", column.default or "")
                    await self.connection.execute(
                        f"SELECT setval(s, greatest((SELECT max({quote(column.name)}) FROM {table.quoted}), 1)) "
                        "FROM coalesce(%s, pg_get_serial_sequence(%s, %s)) s WHERE s IS NOT NULL".encode(),
                        (named[1].replace("''", "'") if named else None, table.quoted, column.name),
                    )

    def _depth(self, name: str, seen: frozenset[str] = frozenset()) -> int:
        if name in seen:
            return 0
        return max(
            (
                1 + self._depth(key.table, seen | {name})
                for key in self.schema.tables[name].foreign
                if key.table != name
            ),
            default=0,
        )

    @staticmethod
    def _find(key: ForeignKey, row: Row, among: Collection[Row]) -> Row | None:
        wanted = [row[column] for column in key.columns]
        return next((other for other in among if [other[column] for column in key.target] == wanted), None)


def copied_with(schema: Schema, root: str) -> set[str]:
    """The tables whose rows are copied with those of `root`: it, and all that point at it, at whatever distance."""
    inside = {root}
    waiting = [root]
    while waiting:
        for child, _ in schema.children(waiting.pop()):
            if child.name not in inside:
                inside.add(child.name)
                waiting.append(child.name)
    return inside


def outgoing(schema: Schema, root: str) -> Iterator[Link]:
    """Foreign keys that lead out of what is copied with `root`."""
    inside = copied_with(schema, root)
    for name in sorted(inside):
        for key in schema.tables[name].foreign:
            if key.table not in inside:
                yield name, key


def _computed(column: Column) -> bool:
    """Whether the database computes the value and takes no other. An identity can be overridden."""
    return column.generated and column.default is not None


def _renewable(column: Column) -> bool:
    return column.type in {"uuid", "int2", "int4", "int8", "numeric", "float4", "float8"} or (
        column.category == "S" or column.type in {"date", "timestamp", "timestamptz"}
    )


def _fresh_text(value: str, number: int, length: int | None) -> str:
    """The text with a number worked in: before the @ of an address, else at the end."""
    mark = f"-{number}"
    head, at, tail = value.partition("@")
    room = (length or 10_000) - len(at) - len(tail) - len(mark)
    if room >= 0:
        return head[:room] + mark + at + tail
    # Too short for a mark: a number of this length, in base 36.
    digits, left = "", number
    while left:
        left, digit = divmod(left, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    if length is not None and len(digits) > length:
        raise CannotGrow(f"there are no more values of {length} characters")
    return digits.rjust(min(length or 1, len(value) or 1), "z")
