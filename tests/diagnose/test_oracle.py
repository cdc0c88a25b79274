"""The oracle's laws: serial outcomes are always accepted, names do not matter, what differs in twins is masked."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mainstay.architect.diagnose.oracle import VARIES, Answer, Left, Mask, Oracle, judge, moment, told
from mainstay.architect.diagnose.schema import Column, ForeignKey, Schema, Table
from mainstay.architect.diagnose.snapshot import Snapshot

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def _column(name: str) -> Column:
    return Column(name, "int4", "N", None, True, None, False)


SCHEMA = Schema(
    {
        "basket": Table("basket", {"id": _column("id"), "owner": _column("owner")}, ("id",), [("id",)]),
        "item": Table(
            "item",
            {"id": _column("id"), "basket_id": _column("basket_id"), "name": _column("name")},
            ("id",),
            [("id",)],
            [ForeignKey(("basket_id",), "basket", ("id",), False)],
        ),
    }
)
Rows = dict[str, list[dict[str, Any]]]


def snapshot(rows: Rows) -> Snapshot:
    full = {name: rows.get(name, []) for name in SCHEMA.tables}
    return Snapshot(full, {name: (len(each), repr(sorted(map(repr, each)))) for name, each in full.items()})


EMPTY = snapshot({})


def left(rows: Rows | None = None, outside: dict[str, list[Any]] | None = None, **answers: Answer) -> Left:
    return Left(answers, snapshot(rows or {}), outside or {})


def oracle(template: Snapshot = EMPTY) -> Oracle:
    return Oracle(SCHEMA, template, (), NOW)


def baskets(start: int, owners: list[str]) -> Rows:
    """A basket with one item for each owner, with ids from `start`."""
    return {
        "basket": [{"id": start + at, "owner": owner} for at, owner in enumerate(owners)],
        "item": [
            {"id": start * 2 + at, "basket_id": start + at, "name": owner} for at, owner in enumerate(owners)
        ],
    }


owners = st.lists(st.sampled_from(["ada", "bob", "eve"]), max_size=5)
ids = st.integers(1, 10**6)


@given(owners, ids, ids, ids)
def test_a_serial_outcome_is_always_accepted(names: list[str], one: int, two: int, three: int) -> None:
    """Whatever ids the database gave: what a serial order leaves behind is never a finding."""
    judge_of = oracle()
    answers = {"alice": Answer(201, {"id": one}), "bob": Answer(201, {"id": one + 1})}
    first = left(baskets(one, names), **answers)
    second = left(
        baskets(two + 10**7, names), alice=Answer(201, {"id": two}), bob=Answer(201, {"id": two + 1})
    )
    third = left(
        baskets(three + 2 * 10**7, names), alice=Answer(201, {"id": -3}), bob=Answer(201, {"id": -4})
    )
    mask = judge_of.learn([[first, second]])
    if one == two:  # no two runs share a stride, so the laboratory never sees this
        return
    assert not mask.trouble
    serial = {("alice", "bob"): judge_of.outcome("alice then bob", first, mask)}
    assert judge(judge_of.outcome("observed", third, mask), serial).fits == "alice then bob"


@given(owners, ids)
def test_equal_actors_may_be_swapped(names: list[str], start: int) -> None:
    """If alice and bob do the same, an outcome with their names changed is accepted just as well."""
    judge_of = oracle()
    rows = baskets(start, names)
    one = left(rows, alice=Answer(201, "won"), bob=Answer(409, "lost"))
    other = left(rows, alice=Answer(409, "lost"), bob=Answer(201, "won"))
    mask = Mask()
    serial = {
        ("alice", "bob"): judge_of.outcome("alice then bob", one, mask),
        ("bob", "alice"): judge_of.outcome("bob then alice", other, mask),
    }
    assert judge(judge_of.outcome("", one, mask), serial).fits == "alice then bob"
    assert judge(judge_of.outcome("", other, mask), serial).fits == "bob then alice"
    both = left(rows, alice=Answer(201, "won"), bob=Answer(201, "won"))
    assert judge(judge_of.outcome("", both, mask), serial).fits is None


@given(owners.filter(bool), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(names: list[str], random: Any) -> None:
    """PostgreSQL returns rows in any order."""
    rows = baskets(1, names)
    shuffled = {name: random.sample(each, len(each)) for name, each in rows.items()}
    judge_of = oracle()
    serial = judge_of.outcome("serial", left(rows, alice=Answer(200, "")), Mask())
    assert judge_of.outcome("", left(shuffled, alice=Answer(200, "")), Mask()).fits(serial)


def test_a_line_on_the_wrong_order_is_seen_although_ids_are_masked() -> None:
    """Both items hang on one basket: the same number of rows, the same values, another shape."""
    judge_of = oracle()
    right, twin = baskets(1, ["ada", "ada"]), baskets(100, ["ada", "ada"])
    wrong = baskets(200, ["ada", "ada"])
    wrong["item"][1]["basket_id"] = 200
    answer = Answer(200, "")
    mask = judge_of.learn([[left(right, alice=answer), left(twin, alice=answer)]])
    serial = judge_of.outcome("serial", left(right, alice=answer), mask)
    observed = judge_of.outcome("observed", left(wrong, alice=answer), mask)
    assert not observed.fits(serial)
    _, (outcome,) = told(observed, [serial])
    assert any("belong together differently" in line for line in outcome.differs)


def test_a_masked_value_that_was_there_before_is_kept() -> None:
    """So a row that was touched differs from one that was not, even where the new value is masked."""
    template = snapshot({"basket": [{"id": 1, "owner": "old"}, {"id": 2, "owner": "old"}]})
    judge_of = oracle(template)

    def touched(number: int) -> Left:
        rows = [{"id": at, "owner": str(uuid.uuid4()) if at == number else "old"} for at in (1, 2)]
        return left({"basket": rows}, alice=Answer(200, ""))

    mask = judge_of.learn([[touched(1), touched(1)]])
    serial = judge_of.outcome("serial", touched(1), mask)
    assert serial.tables["basket"] == [{"id": 1, "owner": VARIES}, {"id": 2, "owner": "old"}]
    assert judge_of.outcome("", touched(1), mask).fits(serial)
    assert not judge_of.outcome("", touched(2), mask).fits(serial)


def test_a_refused_request_counts_as_not_run_if_it_left_nothing() -> None:
    """Bob was refused. With only alice's rows that is fine; with a row or a payment of his it is not."""
    judge_of = oracle()
    one = left(baskets(1, ["ada"]), {"alice": [{"to": "shop"}]}, alice=Answer(201, ""))
    serial = {("alice",): judge_of.outcome("only alice", one, Mask())}
    refused = {"alice": Answer(201, ""), "bob": Answer(500, "serialization failure")}

    def verdict(rows: Rows, outside: dict[str, list[Any]]) -> str | None:
        return judge(judge_of.outcome("", left(rows, outside, **refused), Mask()), serial).fits

    assert verdict(baskets(1, ["ada"]), {"alice": [{"to": "shop"}], "bob": []}) == "only alice"
    assert verdict(baskets(1, ["ada", "bob"]), {"alice": [{"to": "shop"}]}) is None
    assert verdict(baskets(1, ["ada"]), {"alice": [{"to": "shop"}], "bob": [{"to": "shop"}]}) is None


def test_calls_are_counted() -> None:
    """Twice is not once, although the rows are the same."""
    judge_of = oracle()
    once = judge_of.outcome(
        "", left({}, {"alice": [{"to": "x", "send": "POST /"}]}, alice=Answer(200, "")), Mask()
    )
    twice = judge_of.outcome(
        "", left({}, {"alice": [{"to": "x", "send": "POST /"}] * 2}, alice=Answer(200, "")), Mask()
    )
    assert not twice.fits(once)


def test_ignored_tables_and_columns_are_not_compared() -> None:
    """`ignore` in the scenario."""
    rows, others = baskets(1, ["ada"]), baskets(1, ["eve"])
    quiet = Oracle(SCHEMA, EMPTY, ("basket", "item.name"), NOW)
    serial = quiet.outcome("", left(rows, alice=Answer(200, "")), Mask())
    assert quiet.outcome("", left(others, alice=Answer(200, "")), Mask()).fits(serial)


@given(st.timedeltas(timedelta(hours=-30), timedelta(hours=30)))
def test_the_present_is_recognized_in_every_form(distance: timedelta) -> None:
    """ISO 8601 as PostgreSQL and Python write it, seconds and milliseconds since 1970."""
    then = NOW + distance
    for value in (
        then.isoformat(),
        then.isoformat().replace("+00:00", "Z"),
        str(then.replace(tzinfo=None)),
        then.strftime("%Y-%m-%d %H:%M:%S+00"),
        int(then.timestamp()),
        then.timestamp() * 1000,
    ):
        assert moment(value, NOW), value


@given(st.integers(0, 10**8) | st.text(max_size=8) | st.booleans() | st.none())
def test_other_values_are_not_taken_for_the_present(value: Any) -> None:
    """An amount, a name, a truth value."""
    assert not moment(value, NOW)
