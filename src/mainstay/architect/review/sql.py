"""What a piece of SQL text does: its kind, its table, the columns it looks at and those it writes."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from functools import lru_cache

from mainstay.architect.effects import Kind

_FIRST = re.compile(r"^\s*(?:(?:--[^\n]*\n|/\*.*?\*/)\s*)*\(*\s*([a-zA-Z]+)", re.DOTALL)
_PLACEHOLDER = re.compile(r"%\(\w+\)[sb]|%[sbt]|(?<!:):[a-zA-Z_]\w*|\$\d+|\?|\{\}")
_KINDS = {
    "select": Kind.READ, "values": Kind.READ, "table": Kind.READ, "with": Kind.READ, "insert": Kind.WRITE,
    "update": Kind.WRITE, "delete": Kind.WRITE, "merge": Kind.WRITE, "replace": Kind.WRITE, "copy": Kind.WRITE,
    "truncate": Kind.WRITE, "lock": Kind.LOCK, "begin": Kind.BEGIN, "start": Kind.BEGIN, "commit": Kind.COMMIT,
    "end": Kind.COMMIT, "rollback": Kind.ROLLBACK,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Statement:
    """What one statement does; ``kind`` None where it has no effect worth knowing (SET, EXPLAIN, DDL)."""

    kind: Kind | None
    table: str = ""
    traits: frozenset[str] = frozenset()


@lru_cache(maxsize=20_000)
def read_sql(text: str) -> Statement:
    """Read one statement. What cannot be parsed still tells its kind by its first word."""
    first = _FIRST.match(text)
    word = first[1].lower() if first else ""
    kind = _KINDS.get(word)
    lower = text.lower()
    traits: set[str] = set()
    if "pg_advisory" in lower or "get_lock(" in lower:
        return Statement(Kind.LOCK, "advisory lock", frozenset({"advisory"}))
    if kind is Kind.ROLLBACK and re.search(r"rollback\s+(work\s+|transaction\s+)?to\b", lower):
        return Statement(None)
    if word == "set" and "serializable" in lower:
        return Statement(None, "", frozenset({"serializable"}))
    if kind not in (Kind.READ, Kind.WRITE):
        return Statement(kind)
    if word == "with" and re.search(r"\b(insert\s+into|update\s+\w|delete\s+from)\b", lower):
        kind = Kind.WRITE
    if re.search(r"\bfor\s+(no\s+key\s+)?(update|share|key\s+share)\b", lower):
        traits.add("locks-rows")
    if re.search(r"\bon\s+(conflict|duplicate\s+key)\b", lower) or word in ("merge", "replace"):
        traits.add("atomic")
    if kind is Kind.WRITE and word == "insert":
        traits.add("insert")
        if re.search(r"\bwhere\s+not\s+exists\b", lower):
            traits.add("atomic")
    if word == "delete":
        traits.add("delete")
    table, columns = _details(text, word)
    return Statement(kind, table, frozenset(traits | columns))


def _details(text: str, word: str) -> tuple[str, set[str]]:
    """The table of a statement and its ``where:``, ``set:`` and ``reads:`` columns."""
    import sqlglot  # a second of CPU time that only programs with SQL text pay
    from sqlglot import expressions as e
    from sqlglot.errors import SqlglotError

    logging.getLogger("sqlglot").setLevel(logging.CRITICAL)
    try:
        tree = sqlglot.parse_one(_PLACEHOLDER.sub("NULL", text), read="postgres")
    except (SqlglotError, RecursionError, ValueError, TypeError, AttributeError):
        found = re.search(r"\b(?:from|into|update|join)\s+(?:only\s+)?([\w.\"]+)", text, re.IGNORECASE)
        return (found[1].replace('"', "").rpartition(".")[2] if found else ""), set()
    target = tree
    if word == "with":
        target = next(iter(tree.find_all(e.Update, e.Insert, e.Delete)), tree)
    table_node = target.find(e.Table)
    if isinstance(target, (e.Update, e.Insert, e.Delete)) and target.this is not None:
        table_node = target.this.find(e.Table) or table_node
    table = table_node.name if table_node is not None else ""
    columns: set[str] = set()
    where = target.args.get("where")
    if where is not None:
        columns |= {f"where:{c.name}" for c in where.find_all(e.Column) if c.name}
    if isinstance(target, e.Update):
        for assignment in target.expressions:
            if isinstance(assignment, e.EQ):
                columns.add(f"set:{assignment.this.name}")
                if isinstance(assignment.expression, e.Literal):
                    columns.add("constant")
                if any(c.name == assignment.this.name for c in assignment.expression.find_all(e.Column)):
                    columns.add("in-database")
    elif isinstance(target, e.Select):
        if target.args.get("limit") is not None:
            columns.add("limited")
        for projection in target.expressions:
            if projection.is_star:
                columns.add("reads:*")
            columns |= {f"reads:{c.name}" for c in projection.find_all(e.Column) if c.name != "*"}
            if projection.find(e.Count) is not None or isinstance(projection.unalias(), e.Literal):
                columns.add("presence")
    return table, columns
