"""What the page of messages says is so: its states are the database's, and the tests it names are there."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from typing import Any, get_args

import psycopg
import pytest
from engine_waiting import dsn
from sqlalchemy import URL

from mainstay.patterns.messages import control
from mainstay.patterns.messages.control import State

PAGE = Path(control.__file__).with_name("messages.md").read_text(encoding="utf-8")
STATES: tuple[str, ...] = get_args(State)
ARROWS = set(re.findall(r"^    (\S+) --> (\w+|\[\*\]): \S", PAGE, re.MULTILINE))
ENDED = {state for state in STATES if (state, "[*]") in ARROWS} - {"running"}
"""Drawn with a way out; a running message goes out by being deleted as it is done."""


def fitting(state: str) -> str:
    """SET clause: a state with what its checks ask for."""
    return (
        f"state = '{state}', leased_by = {'1' if state == 'running' else 'NULL'},"
        f" ended_at = {'now()' if state in ENDED else 'NULL'}"
    )


def test_every_state_is_drawn(sql: Any) -> None:
    """The states of the type are those of the page and of the code."""
    drawn = {state for arrow in ARROWS for state in arrow} - {"[*]"}
    (row,) = sql("SELECT enum_range(NULL::mainstay.message_state)::text[]")
    assert set(row[0]) == drawn == set(STATES)


def test_the_ways_drawn_are_those_that_the_database_allows(empty: URL) -> None:
    """For each two states: the database lets a message go there exactly where an arrow is drawn."""
    allowed = set()
    with psycopg.connect(dsn(empty)) as connection:
        for before, after in product(STATES, STATES):
            if before == after:
                continue
            connection.execute(
                "INSERT INTO mainstay.message (kind, queue, payload, ready_at, rank, state, leased_by, ended_at)"
                f" SELECT 'k', 'q', '{{}}', now(), now(), '{before}',"
                f" {1 if before == 'running' else 'NULL'}, {'now()' if before in ENDED else 'NULL'}"
            )
            try:
                with connection.transaction():
                    connection.execute(f"UPDATE mainstay.message SET {fitting(after)}")
                allowed.add((before, after))
            except psycopg.errors.CheckViolation as error:
                assert f"cannot go from {before} to {after}" in str(error)
            connection.rollback()
    assert allowed == {arrow for arrow in ARROWS if "[*]" not in arrow}


@pytest.mark.parametrize("state", STATES)
def test_what_a_state_asks_for(empty: URL, state: str) -> None:
    """A lease belongs to what runs, a time of ending to what has ended, a slot to what runs under a key."""
    accepted = set()
    with psycopg.connect(dsn(empty)) as connection:
        for leased, ended, slot in product((False, True), repeat=3):
            try:
                with connection.transaction():
                    connection.execute(
                        "INSERT INTO mainstay.message (kind, queue, payload, ready_at, rank, state, leased_by,"
                        f" ended_at, key, key_limit, key_slot) SELECT 'k', 'q', '{{}}', now(), now(), '{state}',"
                        f" {1 if leased else 'NULL'}, {'now()' if ended else 'NULL'}, 'x', 1,"
                        f" {1 if slot else 'NULL'}"
                    )
                    accepted.add((leased, ended, slot))
                    raise psycopg.Rollback
            except psycopg.errors.CheckViolation:
                pass
    assert accepted == {(state == "running", state in ENDED, state == "running")}


def test_the_tests_named_are_there() -> None:
    """Each test that the page calls as a witness exists."""
    tests = "".join(
        file.read_text(encoding="utf-8") for file in Path(__file__).parents[1].glob("*/test_*.py")
    )
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(named) >= 10
    assert not {name for name in named if f"def {name}(" not in tests}
