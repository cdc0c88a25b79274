"""`mainstay subscriptions declare`: the subscribers of an app are known before any worker runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from operations_help import Ended

Sql = Callable[..., list[Any]]
Mainstay = Callable[..., Ended]

SHOP = """
import os

from mainstay.patterns import Database
from mainstay.patterns.events import Event, upcast
from mainstay.patterns.messages import Messages

messages = Messages(Database(os.environ["DATABASE_URL"]))
nobody = Messages(Database(os.environ["DATABASE_URL"]))
gap = Messages(Database(os.environ["DATABASE_URL"]))


class Placed(Event):
    order: int


class Paid(Event, version=2):
    order: int


@messages.subscribe(Placed, name="stock")
async def stock(event: Placed) -> None: ...


@messages.subscribe(Placed, name="mail", queue="mails")
async def mail(event: Placed) -> None: ...


@gap.subscribe(Paid, name="paid")
async def paid(event: Paid) -> None: ...
"""


@pytest.fixture
def declare(
    tmp_path: Path, url: str, mainstay: Mainstay, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Ended]:
    """Run the command on an app of the current folder."""
    (tmp_path / "declared_shop.py").write_text(SHOP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.delitem(sys.modules, "declared_shop", raising=False)
    return lambda *arguments: mainstay("subscriptions", "declare", *arguments)


def test_all_subscribers_are_known_afterwards(declare: Callable[..., Ended], sql: Sql) -> None:
    """As a worker would make them; twice is once."""
    found = declare("declared_shop:messages")
    assert found.code == 0, found
    assert [line.split() for line in found.out.splitlines()[-2:]] == [
        ["mail", "Placed", "mails", "open"],
        ["stock", "Placed", "stock", "open"],
    ]
    assert [one["queue"] for one in declare("declared_shop:messages", "--json").json] == ["mails", "stock"]
    assert sql("SELECT subscriber, state::text FROM mainstay.subscription ORDER BY 1") == [
        ("mail", "open"),
        ("stock", "open"),
    ]
    assert sql("SELECT count(*) FROM mainstay.worker") == [(0,)]


def test_refusals_are_one_sentence(declare: Callable[..., Ended], sql: Sql) -> None:
    """No subscribers is fine; no app, or an event that cannot be read, is not."""
    nobody = declare("declared_shop:nobody")
    assert (nobody.code, nobody.out) == (0, "declared_shop:nobody subscribes to no events\n")
    for target, says in (
        ("declared_shop:message", "has no attribute 'message' (did you mean 'messages'?)"),
        ("declared_shop:gap", "nothing reads its version 1"),
        ("declared_shop", "names no app"),
    ):
        found = declare(target)
        assert found.code == 2
        assert says in found.refusal
        assert "Traceback" not in found.err
    assert sql("SELECT count(*) FROM mainstay.subscription") == [(0,)]
