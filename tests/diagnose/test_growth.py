"""Growth runs: constant, capped and linear are told apart, whatever hides them."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay.architect.diagnose.growth import FACTORS, Survey, form, survey
from mainstay.architect.diagnose.laboratory import Budget, Laboratory, laboratory
from mainstay.architect.diagnose.scenario import Scenario
from mainstay.architect.findings import Measurement

REQUESTS = ("baskets", "baskets page", "baskets together", "owners", "touch", "read")


@pytest.fixture(scope="module")
def surveys(bank: Scenario) -> dict[str, Survey]:
    """Each request over more and more rows, in one laboratory."""

    async def run() -> dict[str, Survey]:
        async with laboratory(
            bank, command=None, database_url=None, budget=Budget(), progress=lambda text: None
        ) as lab:
            assert isinstance(lab, Laboratory)
            return {name: await survey(lab, name) for name in REQUESTS}

    return asyncio.run(run())


def test_a_query_for_each_row_is_linear(surveys: dict[str, Survey]) -> None:
    """Two baskets, two queries; sixteen baskets, sixteen queries."""
    (growth,) = surveys["baskets"].growths
    assert growth.form == "linear"
    assert growth.soil.table == "basket"
    assert growth.measurements == [Measurement(rows, rows) for rows in (2, 4, 8, 16)]
    assert growth.slope == 1
    assert growth.trace.meaning.target == "item"


def test_a_page_with_a_limit_is_capped(surveys: dict[str, Survey]) -> None:
    """A query for each row of a page of six grows to six and stays there."""
    (growth,) = surveys["baskets page"].growths
    assert growth.form == "capped"
    assert [point.count for point in growth.measurements] == [2, 4, 6, 6]


@pytest.mark.parametrize("name", ["baskets together", "read"])
def test_rows_loaded_together_are_constant(surveys: dict[str, Survey], name: str) -> None:
    """An IN list that grows is one statement."""
    assert surveys[name].growths == []
    assert surveys[name].grown
    assert not surveys[name].undecided


def test_rows_that_share_a_parent_do_not_hide_it(surveys: dict[str, Survey]) -> None:
    """All items have one maker, who is asked for once; the copies get makers of their own, and it shows."""
    (growth,) = surveys["owners"].growths
    assert growth.form == "linear"
    assert [(name, key.table) for name, key in growth.soil.remapped] == [("item", "maker")]
    assert growth.trace.meaning.target == "maker"


def test_a_batch_sent_in_one_go_is_one_wait(surveys: dict[str, Survey]) -> None:
    """`executemany` in a pipeline is not a query for each row."""
    assert surveys["touch"].growths == []


points = st.integers(1, 50).flatmap(
    lambda rows: st.tuples(st.just(rows), st.floats(0.6, 3), st.integers(0, 20)).map(
        lambda drawn: (
            [
                Measurement(drawn[0] * factor, drawn[2] + round(drawn[0] * factor * drawn[1]))
                for factor in FACTORS
            ]
        )
    )
)


@given(points)
def test_what_grows_with_the_rows_is_linear(series: list[Measurement]) -> None:
    """A constant and a multiple of the rows, rounded, is linear (or constant, where it is only a few)."""
    few = series[-1].count - series[0].count < 4
    assert form(series) == ("constant" if few else "linear") or series[0].rows < 3


@given(st.integers(1, 100), st.integers(0, 30))
def test_what_does_not_grow_is_constant(rows: int, count: int) -> None:
    """However many statements there are."""
    assert form([Measurement(rows * factor, count) for factor in FACTORS]) == "constant"
