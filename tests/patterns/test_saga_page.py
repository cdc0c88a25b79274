"""The page of the saga draws what the tables enforce."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from saga_shop import prepare
from sqlalchemy import text

import mainstay.patterns.saga
from mainstay.patterns import Database

PAGE = Path(mainstay.patterns.saga.__file__).with_name("saga.md").read_text(encoding="utf-8")
DRAWINGS = re.findall(r"^```mermaid\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("drawing", "table"), [(0, "saga"), (1, "saga_step")])
async def test_the_state_machines_are_those_of_the_tables(db: Database, drawing: int, table: str) -> None:
    """Each arrow is a transition that the trigger lets pass, and each such transition an arrow; so are the states."""
    await prepare(db)
    arrows = re.findall(r"^ +(\S+) --> (\S+?):?(?: .*)?$", DRAWINGS[drawing], re.MULTILINE)
    drawn = {(a, b) for a, b in arrows if "[*]" not in (a, b)}
    async with db.transaction() as tx:
        trigger = await tx.scalar(
            text(
                "SELECT pg_get_triggerdef(oid) FROM pg_trigger"
                " WHERE tgname = 'transition' AND tgrelid = CAST(:table AS regclass)"
            ),
            {"table": f"mainstay.{table}"},
        )
        states = await tx.scalar(
            text(f"SELECT enum_range(NULL::mainstay.{table}_state)::text")  # one of two names above
        )
    named = re.findall(rf"'(\w+)'::mainstay\.{table}_state", trigger)
    assert len(drawn) == len([pair for pair in arrows if "[*]" not in pair])
    assert drawn == set(zip(named[::2], named[1::2], strict=True))
    assert {state for pair in drawn for state in pair} == set(states.strip("{}").split(","))
