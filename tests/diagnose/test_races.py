"""Known-good and known-bad ways of handling two requests at once: the laboratory tells them apart."""

from __future__ import annotations

import asyncio

import pytest

from mainstay.architect.diagnose.laboratory import Budget, laboratory
from mainstay.architect.diagnose.race import Exploration, explore
from mainstay.architect.diagnose.scenario import Scenario

PROVEN = {
    "sharp": "bob is answered 409",
    "count in service": "account.balance is 102, here 101",
    "guests": "bob is answered 409",
    "on call": "somebody must stay",
    "charge": "bob calls the outside world never, here once",
    "order wrong": "belong together differently",
}
CLEARED = {
    "locked": "",
    "conditional": "",
    "repeatable": "refused with 503 (SQLSTATE 40001)",
    "serializable": "refused with 503 (SQLSTATE 40001)",
    "advisory": "",
    "try lock": "refused with 503",
    "count in database": "",
    "members": "refused with 500 (SQLSTATE 23505)",
    "charge with key": "",
    "transfer": "refused with 503 (SQLSTATE 40P01)",
    "order": "",
}
UNDECIDED = {"later": "", "dice": "two equal runs left"}


@pytest.fixture(scope="module")
def explored(bank: Scenario) -> dict[tuple[str, str], Exploration]:
    """Every pair of the scenario, explored in one laboratory."""

    async def run() -> dict[tuple[str, str], Exploration]:
        async with laboratory(
            bank, command=None, database_url=None, budget=Budget(), progress=lambda text: None
        ) as lab:
            return {pair: await explore(lab, *pair) for pair in bank.pairs()}

    return asyncio.run(run())


def _of(explored: dict[tuple[str, str], Exploration], name: str) -> Exploration:
    return explored.get((name, name)) or explored[(name, f"{name} back")]


@pytest.mark.parametrize("name", PROVEN)
def test_a_race_is_proven(explored: dict[tuple[str, str], Exploration], name: str) -> None:
    """Whatever no serial order leaves behind is proven, with what differs in the message, and at once."""
    found = _of(explored, name)
    assert found.story is not None, found.cleared or found.undecided
    assert PROVEN[name] in found.story.message
    assert found.schedules <= 5
    assert found.story.argument[-1].startswith("No serial order")
    assert any(event.marked for event in found.story.events)
    assert {event.kind for event in found.story.events} >= {
        "request",
        "reply",
        "statement",
        "pause",
        "resume",
    }


@pytest.mark.parametrize("name", CLEARED)
def test_what_is_safe_is_cleared(explored: dict[tuple[str, str], Exploration], name: str) -> None:
    """A lock, a decision in the database, a strict isolation level, a constraint: nothing is said against them."""
    found = _of(explored, name)
    assert found.story is None, found.story and found.story.argument
    assert not found.undecided
    assert found.cleared.startswith("all ")
    assert CLEARED[name] in found.cleared
    assert found.schedules <= 25


def test_a_row_lock_is_cleared_within_twenty_schedules(explored: dict[tuple[str, str], Exploration]) -> None:
    """Schedules that cannot differ are not tried."""
    assert _of(explored, "locked").schedules <= 20


def test_work_after_the_reply_is_waited_for(explored: dict[tuple[str, str], Exploration]) -> None:
    """A service that goes on working after its reply is judged by what it leaves when it is quiet."""
    assert not _of(explored, "later").undecided


def test_what_is_not_the_same_twice_is_undecided(explored: dict[tuple[str, str], Exploration]) -> None:
    """A service that rolls dice cannot be judged, and is not passed."""
    found = _of(explored, "dice")
    assert not found.cleared
    assert found.undecided.startswith("two equal runs left")


def test_requests_that_share_no_table_need_no_schedule(explored: dict[tuple[str, str], Exploration]) -> None:
    """Where neither writes what the other touches, the order cannot matter."""
    found = explored[("sharp", "charge")]
    assert found.schedules == 0
    assert found.cleared.startswith("no schedule is needed")


def test_a_budget_that_runs_out_is_undecided(bank: Scenario) -> None:
    """Never passed, and it says how far it came."""

    async def run() -> Exploration:
        async with laboratory(
            bank, command=None, database_url=None, budget=Budget(schedules=2), progress=lambda text: None
        ) as lab:
            return await explore(lab, "locked", "locked")

    found = asyncio.run(run())
    assert not found.cleared
    assert found.undecided.startswith("the budget ran out after 2 of ")
