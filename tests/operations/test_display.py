"""Ages, widths and what is harmless."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay.operations.display import Column, _widths, ago, duration, harmless

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.4, "now"),
        (45, "45 s ago"),
        (99, "99 s ago"),
        (180, "3 min ago"),
        (5399, "90 min ago"),
        (5 * 3600, "5 h ago"),
        (47 * 3600, "47 h ago"),
        (12 * 86400, "12 days ago"),
        (-300, "in 5 min"),
    ],
)
def test_ages_are_told_as_people_do(seconds: float, told: str) -> None:
    """In the largest unit of which there are about two."""
    assert ago(NOW - timedelta(seconds=seconds), NOW) == told


def test_a_time_of_json_has_an_age_too() -> None:
    """And no time has none."""
    assert ago("2026-02-28T23:57:00+00:00", NOW) == "3 min ago"
    assert ago(None, NOW) == duration(None) == ""


@given(st.text())
def test_nothing_that_is_printed_is_obeyed_by_a_terminal(text: str) -> None:
    """Only line feeds and tabs are left of control characters, and printable text stays as it is."""
    shown = harmless(text)
    assert all(character.isprintable() or character in "\n\t" for character in shown)
    assert len(shown) == len(text)
    assert all(now == before for now, before in zip(shown, text, strict=True) if before.isprintable())


@given(
    st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(1, 80)), min_size=1, max_size=8),
    st.integers(0, 200),
)
def test_columns_shrink_only_as_far_as_they_may(columns: list[tuple[bool, bool, int]], room: int) -> None:
    """None grows, those that may neither be cut nor fold stay, and the table fits if it can."""
    made = [Column("", cut=cut, fold=fold) for cut, fold, _ in columns]
    wanted = [width for _, _, width in columns]
    widths = _widths(made, wanted, room)
    least = [min(w, 5) if c.cut else min(w, 8) if c.fold else w for c, w in zip(made, wanted, strict=True)]
    assert all(low <= now <= high for low, now, high in zip(least, widths, wanted, strict=True))
    assert sum(widths) <= room or all(
        now <= max(low, 8 if c.fold else 0) for now, low, c in zip(widths, least, made, strict=True)
    )
    assert widths == wanted or sum(wanted) > room
