"""What a statement does, from its text: kind of effect, tables read and written, shape.

The scheduler asks this to leave out switch points that make no difference, so where the text does not tell,
the answer is "may touch everything" (`opaque`): a schedule too many is only slow, one too few is a lie.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from functools import lru_cache

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from mainstay.architect.diagnose.schema import Schema
from mainstay.architect.effects import Kind

logging.getLogger("sqlglot").setLevel(logging.ERROR)  # it warns of what is only parsed in part: known here

ADVISORY = "advisory locks"
"""Stands among the tables for what advisory locks guard."""

_BEGIN = {"BEGIN", "START"}
_COMMIT = {"COMMIT", "END"}
_ROLLBACK = {"ROLLBACK", "ABORT"}
_QUIET = {
    "SAVEPOINT",
    "RELEASE",
    "SET",
    "SHOW",
    "RESET",
    "DISCARD",
    "DEALLOCATE",
    "LISTEN",
    "UNLISTEN",
    "CLOSE",
    "",
}
_LOCKS = re.compile(r"\bFOR\s+(NO\s+KEY\s+UPDATE|UPDATE|KEY\s+SHARE|SHARE)\b", re.IGNORECASE)
_ADVISORY = re.compile(r"\bpg_(try_)?advisory_", re.IGNORECASE)
_COMMENT = re.compile(r"/\*.*?\*/|--[^\n]*(\n|$)", re.DOTALL)
_LITERAL = re.compile(
    r"(?P<string>\b[eE]?'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*')"
    r"|(?P<dollar>\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)"
    r"|(?P<parameter>\$\d+)"
    r"|(?P<quoted>\"(?:[^\"]|\"\")*\")"
    r"|(?P<cast>::[\w.]+(\s*\[\])?)"
    r"|(?P<number>(?<![\w.\"$])-?\d+(\.\d+)?([eE][-+]?\d+)?\b)",
    re.DOTALL,
)
_LIST = re.compile(r"\(\s*\?(?:\s*,\s*\?)*\s*\)")
_ROWS = re.compile(r"(\(\?\+?\))(?:\s*,\s*\(\?\+?\))+")


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a statement does."""

    kind: Kind | None
    """None for what has no effect on data: SET, SHOW, SAVEPOINT, …"""
    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    """Tables written or whose rows are locked: two that write the same table never commute."""
    checks: frozenset[str] = frozenset()
    """Tables whose rows a foreign key of a written table points at: they must not be deleted meanwhile."""
    deletes: frozenset[str] = frozenset()
    locks: bool = False
    opaque: bool = False
    """May touch any table: it calls a function of the application, or could not be parsed."""
    named: str = ""
    """The table that the text itself writes first, or reads first where it writes none."""

    @property
    def target(self) -> str:
        """The table to name first."""
        return self.named or min(self.writes or self.reads, default="")

    @property
    def touches(self) -> frozenset[str]:
        """Tables read or written."""
        return self.reads | self.writes


@lru_cache(maxsize=4096)
def first_word(sql: str) -> str:
    """The verb, in capitals, comments skipped."""
    match = re.match(r"\s*\(*\s*([A-Za-z]+)", _COMMENT.sub(" ", sql))
    return match[1].upper() if match else ""


@lru_cache(maxsize=4096)
def shape(sql: str) -> str:
    """The statement with every value as ``?``, lists of values as ``(?)``, rows of values as one, spaces single.

    Statements of one shape differ only in their values, and in how many an IN or VALUES lists.
    """
    text = _COMMENT.sub(" ", sql)

    def value(match: re.Match[str]) -> str:
        return match[0] if match.lastgroup == "quoted" or match["quoted"] else "" if match["cast"] else "?"

    text = " ".join(_LITERAL.sub(value, text).split())
    text = _LIST.sub("(?)", text)
    return _ROWS.sub(r"\1", text)


@lru_cache(maxsize=4096)
def _parsed(sql: str) -> list[exp.Expr] | None:
    try:
        return [tree for tree in sqlglot.parse(sql, read="postgres") if tree is not None]
    except (SqlglotError, RecursionError):
        return None


class Reader:
    """Reads statements against one schema."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self._known: dict[str, Meaning] = {}

    def read(self, sql: str) -> Meaning:
        """The meaning of a statement; of a simple query with several statements, all of them together."""
        if sql not in self._known:
            self._known[sql] = self._read(sql)
        return self._known[sql]

    def _read(self, sql: str) -> Meaning:
        verb = first_word(sql)
        single = ";" not in sql.strip().rstrip(";")
        if single and verb in _QUIET:
            return Meaning(None)
        if single and verb in _BEGIN:
            return Meaning(Kind.BEGIN)
        if single and verb in _COMMIT:
            return Meaning(Kind.COMMIT)
        if single and verb in _ROLLBACK:
            return Meaning(None if re.search(r"\bTO\b", sql, re.IGNORECASE) else Kind.ROLLBACK)
        locks = bool(_LOCKS.search(sql))
        trees = _parsed(sql)
        if trees is None or any(isinstance(tree, exp.Command) for tree in trees):
            kind = Kind.READ if verb in {"SELECT", "WITH", "FETCH", "VALUES", "TABLE"} else Kind.WRITE
            return Meaning(kind, locks=locks, opaque=True)
        read: list[str] = []
        written: list[str] = []
        opaque = False
        for tree in trees:
            opaque |= self._walk(tree, read, written)
        reads = set(read)
        writes = {*written, *read} if locks else set(written)
        deletes = any(tree.find(exp.Delete, exp.Merge, exp.TruncateTable) for tree in trees)
        updates = any(tree.find(exp.Update, exp.Merge, exp.OnConflict) for tree in trees)
        writes, more = self._effective(writes, deletes, updates)
        opaque |= more and not (locks and not deletes and not updates)
        if _ADVISORY.search(sql):
            writes.add(ADVISORY)
            locks = True
        changes = any(
            tree.find(exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Create, exp.Drop, exp.TruncateTable)
            for tree in trees
        )
        kind = Kind.WRITE if changes or verb in {"COPY", "TRUNCATE"} else Kind.LOCK if locks else Kind.READ
        return Meaning(
            kind,
            frozenset(reads - writes),
            frozenset(writes),
            frozenset(
                key.table
                for name in writes & self.schema.tables.keys()
                for key in self.schema.tables[name].foreign
            )
            if changes
            else frozenset(),
            frozenset(writes) if deletes else frozenset(),
            locks,
            opaque,
            next(iter(written or read), ""),
        )

    def _walk(self, tree: exp.Expr, reads: list[str], writes: list[str]) -> bool:
        """Collect tables, the outermost first. Returns whether the statement may touch more than those."""
        opaque = isinstance(tree, (exp.Create, exp.Drop, exp.Alter, exp.Copy))
        own = {cte.alias for cte in tree.find_all(exp.CTE)}
        written: set[int] = set()
        for change in tree.find_all(exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.TruncateTable):
            target = change.this.this if isinstance(change.this, exp.Schema) else change.this
            targets = change.expressions if isinstance(change, exp.TruncateTable) else [target]
            for table in targets:
                if isinstance(table, exp.Table):
                    written.add(id(table))
                    opaque |= not self._add(table, writes)
        for table in tree.find_all(exp.Table):
            if id(table) in written or (table.name in own and not table.db):
                continue
            if isinstance(table.this, exp.Func):
                continue
            opaque |= not self._add(table, reads)
        for call in tree.find_all(exp.Anonymous):
            opaque |= str(call.this).lower() in self.schema.functions
        return opaque

    def _add(self, table: exp.Table, names: list[str]) -> bool:
        """Add a table's name. Returns whether it is known: a view, for one, is not."""
        if table.db in ("pg_catalog", "information_schema") or table.name.startswith("pg_"):
            return True
        name = table.name if table.db in ("", "public") else f"{table.db}.{table.name}"
        name = self.schema.partitions.get(name, name)
        if name not in self.schema.tables:
            same = [known for known in self.schema.tables if known.rpartition(".")[2] == name.lower()]
            if len(same) != 1:
                return False
            name = same[0]
        names.append(name)
        return True

    def _effective(self, writes: set[str], deletes: bool, updates: bool) -> tuple[set[str], bool]:
        """The tables written, with those that cascades change; and whether a trigger may do more."""
        found = set(writes)
        waiting = list(writes)
        opaque = False
        while waiting:
            name = waiting.pop()
            table = self.schema.tables[name]
            opaque |= table.triggers
            for child, key in self.schema.children(name):
                if ((key.cascades and deletes) or (key.follows and updates)) and child.name not in found:
                    found.add(child.name)
                    waiting.append(child.name)
        return found, opaque


def conflicts(first: Meaning, second: Meaning) -> bool:
    """Whether the order of the two can matter: one writes what the other touches, or one is opaque."""
    if first.kind is None or second.kind is None:
        return False
    if first.opaque or second.opaque:
        return True
    return bool(
        first.writes & second.touches
        or second.writes & first.touches
        or first.checks & second.deletes
        or second.checks & first.deletes
    )
