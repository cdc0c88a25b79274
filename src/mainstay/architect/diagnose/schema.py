"""What is in the database under test: tables, keys, sequences, triggers, functions; read from the catalogs.

A table goes by its name alone where it is in ``public``, else as ``schema.name``. Partitions count as their
parent. Tables that belong to an extension are left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import dict_row


@dataclass(frozen=True, slots=True)
class Column:
    """A column. `type` is the base type's name, as in pg_type (``int4``, ``timestamptz``)."""

    name: str
    type: str
    category: str
    """``pg_type.typcategory``: N numeric, S string, D date and time, B boolean, …"""
    length: int | None
    """Most characters of a varchar or char."""
    nullable: bool
    default: str | None
    generated: bool
    """Computed by the database or an identity that refuses other values."""


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """Columns that point at the columns of another table."""

    columns: tuple[str, ...]
    table: str
    target: tuple[str, ...]
    cascades: bool
    """Whether deleting the row it points at deletes or changes this one."""
    follows: bool = False
    """Whether changing the key of the row it points at changes this one."""


@dataclass(slots=True)
class Table:
    """A table with its keys."""

    name: str
    columns: dict[str, Column] = field(default_factory=dict)
    key: tuple[str, ...] = ()
    uniques: list[tuple[str, ...]] = field(default_factory=list)
    """Unique constraints and unique indexes over plain columns, the primary key among them."""
    foreign: list[ForeignKey] = field(default_factory=list)
    triggers: bool = False
    """Whether it has triggers of the application: what a write touches is then not known."""

    @property
    def quoted(self) -> str:
        """The name as SQL needs it, with its schema: a table may have the name of a type."""
        schema, _, name = self.name.rpartition(".")
        return f"{quote(schema or 'public')}.{quote(name)}"


@dataclass(slots=True)
class Schema:
    """All of it."""

    tables: dict[str, Table] = field(default_factory=dict)
    sequences: list[str] = field(default_factory=list)
    """Quoted names."""
    functions: set[str] = field(default_factory=set)
    """Names of functions that belong to the application: what a call touches is not known."""
    partitions: dict[str, str] = field(default_factory=dict)
    """Partition -> the partitioned table at its root."""

    def children(self, name: str) -> Iterable[tuple[Table, ForeignKey]]:
        """The tables that point at a table, once for each of their foreign keys."""
        for table in self.tables.values():
            for key in table.foreign:
                if key.table == name:
                    yield table, key


def quote(name: str) -> str:
    """An identifier in double quotes."""
    return '"' + name.replace('"', '""') + '"'


_USER = (
    "n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND n.nspname NOT LIKE 'pg_temp%' "
    "AND n.nspname NOT LIKE 'pg_toast_temp%'"
)
_NAME = "CASE n.nspname WHEN 'public' THEN c.relname ELSE n.nspname || '.' || c.relname END"
_NOT_EXTENSION = (
    "NOT EXISTS (SELECT FROM pg_depend d "
    "WHERE d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'e')"
)

_COLUMNS = f"""
SELECT {_NAME} AS table, a.attname AS name, t.typname AS type, t.typcategory AS category,
       CASE WHEN a.atttypid IN ('varchar'::regtype, 'bpchar'::regtype) AND a.atttypmod > 4
            THEN a.atttypmod - 4 END AS length,
       NOT a.attnotnull AS nullable, pg_get_expr(d.adbin, d.adrelid) AS default,
       a.attgenerated <> '' OR a.attidentity = 'a' AS generated,
       EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal) AS triggers
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND {_USER} AND {_NOT_EXTENSION}
ORDER BY 1, a.attnum
"""

_UNIQUES = f"""
SELECT {_NAME} AS table, i.indisprimary AS key,
       (SELECT array_agg(a.attname ORDER BY k.at) FROM unnest(i.indkey) WITH ORDINALITY k (num, at)
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.num)::text[] AS columns
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE i.indisunique AND i.indexprs IS NULL AND NOT c.relispartition AND c.relkind IN ('r', 'p') AND {_USER}
ORDER BY 1, i.indisprimary DESC, i.indexrelid
"""

_FOREIGN = f"""
SELECT {_NAME} AS table, {_NAME.replace("n.", "m.").replace("c.", "f.")} AS target,
       (SELECT array_agg(a.attname ORDER BY k.at) FROM unnest(o.conkey) WITH ORDINALITY k (num, at)
        JOIN pg_attribute a ON a.attrelid = o.conrelid AND a.attnum = k.num)::text[] AS columns,
       (SELECT array_agg(a.attname ORDER BY k.at) FROM unnest(o.confkey) WITH ORDINALITY k (num, at)
        JOIN pg_attribute a ON a.attrelid = o.confrelid AND a.attnum = k.num)::text[] AS target_columns,
       o.confdeltype IN ('c', 'n', 'd') AS cascades, o.confupdtype IN ('c', 'n', 'd') AS follows
FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class f ON f.oid = o.confrelid JOIN pg_namespace m ON m.oid = f.relnamespace
WHERE o.contype = 'f' AND o.conparentid = 0 AND {_USER}
ORDER BY 1, o.conname
"""

_SEQUENCES = f"""
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'S' AND {_USER} AND {_NOT_EXTENSION} ORDER BY 1
"""

_FUNCTIONS = f"""
SELECT DISTINCT c.proname AS name FROM pg_proc c JOIN pg_namespace n ON n.oid = c.pronamespace
WHERE {_USER} AND NOT EXISTS
  (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e')
"""

_PARTITIONS = f"""
SELECT {_NAME} AS name, {_NAME.replace("n.", "m.").replace("c.", "r.")} AS root
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class r ON r.oid = pg_partition_root(c.oid) JOIN pg_namespace m ON m.oid = r.relnamespace
WHERE c.relispartition AND c.relkind IN ('r', 'p') AND {_USER}
"""


async def read_schema(connection: AsyncConnection[Any]) -> Schema:
    """Read the catalogs of the database that `connection` is connected to."""
    schema = Schema()
    cursor = connection.cursor(row_factory=dict_row)

    async def rows(sql: str) -> list[dict[str, Any]]:
        return await (await cursor.execute(sql.encode())).fetchall()

    for row in await rows(_COLUMNS):
        table = schema.tables.setdefault(row["table"], Table(row["table"]))
        table.triggers = row["triggers"]
        table.columns[row["name"]] = Column(
            row["name"],
            row["type"],
            row["category"],
            row["length"],
            row["nullable"],
            row["default"],
            row["generated"],
        )
    for row in await rows(_UNIQUES):
        if (table_or_none := schema.tables.get(row["table"])) and row["columns"]:
            columns = tuple(row["columns"])
            table_or_none.uniques.append(columns)
            if row["key"]:
                table_or_none.key = columns
    for row in await rows(_FOREIGN):
        if (table_or_none := schema.tables.get(row["table"])) and row["target"] in schema.tables:
            table_or_none.foreign.append(
                ForeignKey(
                    tuple(row["columns"]),
                    row["target"],
                    tuple(row["target_columns"]),
                    row["cascades"],
                    row["follows"],
                )
            )
    schema.sequences = [row["name"] for row in await rows(_SEQUENCES)]
    schema.functions = {row["name"] for row in await rows(_FUNCTIONS)}
    schema.partitions = {row["name"]: row["root"] for row in await rows(_PARTITIONS)}
    return schema
