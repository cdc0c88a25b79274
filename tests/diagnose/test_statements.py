"""What a statement does, from its text: too much where the text does not tell, never too little."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay.architect.diagnose.schema import Column, ForeignKey, Schema, Table
from mainstay.architect.diagnose.statements import ADVISORY, Meaning, Reader, conflicts, shape
from mainstay.architect.effects import Kind

ID = Column("id", "int4", "N", None, False, None, False)
SCHEMA = Schema(
    {
        "account": Table("account", {"id": ID}, ("id",)),
        "entry": Table(
            "entry", {"id": ID}, ("id",), foreign=[ForeignKey(("account_id",), "account", ("id",), True)]
        ),
        "audited": Table("audited", {"id": ID}, ("id",), triggers=True),
        "sales.order": Table("sales.order", {"id": ID}, ("id",)),
    },
    functions={"pay_all"},
    partitions={"entry_2026": "entry"},
)
READER = Reader(SCHEMA)


@pytest.mark.parametrize(
    ("sql", "kind", "reads", "writes"),
    [
        ("SELECT a.id FROM account a", Kind.READ, {"account"}, set()),
        ("select 1 from account for no key update", Kind.LOCK, set(), {"account"}),
        ("UPDATE account SET id = 2", Kind.WRITE, set(), {"account"}),
        ("INSERT INTO account SELECT * FROM entry_2026", Kind.WRITE, {"entry"}, {"account"}),
        ("DELETE FROM account", Kind.WRITE, set(), {"account", "entry"}),  # by cascade
        (
            "WITH x AS (DELETE FROM entry RETURNING id) SELECT * FROM x, account",
            Kind.WRITE,
            {"account"},
            {"entry"},
        ),
        ('SELECT * FROM sales."order"', Kind.READ, {"sales.order"}, set()),
        ("SELECT pg_advisory_xact_lock(1)", Kind.LOCK, set(), {ADVISORY}),
        ("SELECT relname FROM pg_catalog.pg_class", Kind.READ, set(), set()),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE", Kind.BEGIN, set(), set()),
        ("START TRANSACTION", Kind.BEGIN, set(), set()),
        ("/* x */ COMMIT;", Kind.COMMIT, set(), set()),
        ("ROLLBACK", Kind.ROLLBACK, set(), set()),
        ("ROLLBACK TO SAVEPOINT a", None, set(), set()),
        ("SET LOCAL statement_timeout = 5", None, set(), set()),
    ],
)
def test_kinds_and_tables(sql: str, kind: Kind | None, reads: set[str], writes: set[str]) -> None:
    """Tables by their own names; partitions as their parent, cascades and locks among the writes."""
    meaning = READER.read(sql)
    assert (meaning.kind, set(meaning.reads), set(meaning.writes), meaning.opaque) == (
        kind,
        reads,
        writes,
        False,
    )


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT pay_all()",
        "SELECT * FROM some_view",
        "INSERT INTO audited VALUES (1)",
        "DO $$ BEGIN END $$",
        "CALL x()",
        "COPY entry FROM STDIN",
        "LOCK TABLE account",
        "ALTER TABLE account ADD x int",
        "this is not sql ((",
        "BEGIN; SELECT pay_all(); COMMIT",
    ],
)
def test_what_the_text_does_not_tell_may_touch_everything(sql: str) -> None:
    """Functions of the application, views, triggers, what the parser does not know."""
    meaning = READER.read(sql)
    assert meaning.opaque
    assert conflicts(meaning, READER.read("SELECT * FROM account"))


@pytest.mark.parametrize(
    ("first", "second", "matters"),
    [
        ("SELECT * FROM account", "SELECT * FROM account", False),
        ("SELECT * FROM account", "UPDATE account SET id = 1", True),
        ("UPDATE account SET id = 1", "UPDATE account SET id = 2", True),
        ("DELETE FROM account", "SELECT * FROM entry", True),  # its cascade writes entry
        ("INSERT INTO entry VALUES (1)", "DELETE FROM account", True),  # the key it points at goes away
        ("SELECT * FROM account", "INSERT INTO entry VALUES (1)", False),
        ("BEGIN", "UPDATE account SET id = 1", False),
        ("SELECT pg_try_advisory_lock(1)", "SELECT pg_advisory_xact_lock(1)", True),
    ],
)
def test_conflicts(first: str, second: str, matters: bool) -> None:
    """Whether the order of two statements can matter; it does not hang on which is named first."""
    one, other = READER.read(first), READER.read(second)
    assert conflicts(one, other) is matters
    assert conflicts(other, one) is matters


def test_a_statement_without_effect_conflicts_with_nothing() -> None:
    """Not even with what may touch everything."""
    assert not conflicts(Meaning(None), READER.read("SELECT pay_all()"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SELECT * FROM a WHERE id = 1", "SELECT *  FROM a WHERE id = $1::INTEGER"),
        ("SELECT * FROM a WHERE id IN (1, 2)", "SELECT * FROM a WHERE id IN ($1, $2, $3)"),
        ("INSERT INTO a VALUES (1, 'x')", "INSERT INTO a VALUES ($1, $2), ($3, $4)"),
        ("SELECT 'it''s' -- why\nFROM a", "SELECT $1 FROM a"),
    ],
)
def test_statements_that_differ_in_values_have_one_shape(one: str, other: str) -> None:
    """Literals, parameters, casts, comments, the length of lists."""
    assert shape(one) == shape(other)


def test_names_with_digits_stay() -> None:
    """Only values go."""
    assert shape('SELECT "Co1", x1 FROM t2 WHERE t2.a = 3') == 'SELECT "Co1", x1 FROM t2 WHERE t2.a = ?'


@given(st.text(max_size=200))
def test_any_text_has_a_meaning_and_a_shape(text: str) -> None:
    """A service may send anything."""
    READER.read(text)
    assert shape(shape(text)) == shape(shape(shape(text)))
