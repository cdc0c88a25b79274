"""Whose session a function works on: the caller's or one of its own, as each call says, and where that one ends."""

from __future__ import annotations

import pytest
from review_models import MODELS

from conftest import Reviewer

HEAD = """
from contextlib import asynccontextmanager, contextmanager
from models import Order
from sqlalchemy import create_engine
from sqlalchemy.orm import Session, sessionmaker
import httpx

Local = sessionmaker(create_engine("postgresql://"))

def charge():
    httpx.post("https://pay.example.com/charges")

@contextmanager
def own_or(db=None):
    if db is not None:
        yield db
    else:
        with Local() as mine:
            yield mine

"""

LATER = """
def checkout():
    with Local() as session, Local() as db:
        {call}
        charge()
"""

OWN = """
def put(amount, db: Session | None = None):
    if db is None:
        with Local() as mine:
            mine.add(Order(id=amount))
            mine.flush()
        return
    db.add(Order(id=amount))
    db.flush()
"""
TURNED = """
def put(amount, db: Session | None = None):
    if db is not None:
        db.add(Order(id=amount))
        db.flush()
    else:
        put_in_own(amount)

def put_in_own(amount):
    with Local() as mine:
        put(amount, db=mine)
        mine.commit()
"""
TRUTH = """
def put(amount, db: Session | None = None):
    if not db:
        with Local() as mine:
            put(amount, mine)
            mine.commit()
            return 1
    else:
        db.add(Order(id=amount))
        db.flush()
        return 2
"""
MANAGER = """
def put(amount, db: Session | None = None):
    with own_or(db) as at:
        at.add(Order(id=amount))
        at.flush()
"""
HANDED_ON = (
    OWN
    + """
def put_all(amount, session=None):
    put(amount, db=session)
"""
)

PAIRS = {
    "the branch for none": (OWN, "put(3)", "put(3, db)"),
    "none, said": (OWN, "put(3, db=None)", "put(3, db=db)"),
    "turned round, and back through itself": (TURNED, "put(3)", "put(3, db)"),
    "by truth": (TRUTH, "put(3)", "put(3, db)"),
    "a context manager chooses": (MANAGER, "put(3)", "put(3, db)"),
    "handed on": (HANDED_ON, "put_all(3)", "put_all(3, session)"),
    "a text chooses": (
        """
def put(db: Session, how="later"):
    if how == "now":
        db.add(Order())
        db.flush()
""",
        "put(db)", 'put(db, "now")',
    ),
    "a number chooses": (
        """
def put(db: Session, level):
    if level != 0:
        db.add(Order())
        db.flush()
""",
        "put(db, 0)", "put(db, 40)",
    ),
    "a switch chooses": (
        """
def put(db: Session, *, flush=False):
    if flush is False:
        return
    db.add(Order())
    db.flush()
""",
        "put(db)", "put(db, flush=True)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_each_call_takes_its_branch(find: Reviewer, name: str) -> None:
    """What a call passes or leaves out tells which branch it takes: the transaction of the other is not its own."""
    helpers, quiet, loud = PAIRS[name]
    for call, subjects in ((quiet, []), (loud, ["checkout"])):
        files = {"app.py": HEAD + helpers + LATER.format(call=call), "models.py": MODELS}
        found = find(files, "external-call-in-transaction")
        assert [f.subject for f in found] == subjects, call


def test_the_request_of_the_other_branch_is_not_made(find: Reviewer) -> None:
    """A request that a function makes for one value of an argument is none in calls that pass another."""
    helpers = "\ndef tell(address=None):\n    if address:\n        charge()\n"
    held = "\ndef checkout(session: Session):\n    with session.begin():\n        {call}\n"
    for call, subjects in (("tell()", []), ("tell(None)", []), ("tell('https://a.example')", ["checkout"])):
        files = {"app.py": HEAD + helpers + held.format(call=call), "models.py": MODELS}
        assert [f.subject for f in find(files, "external-call-in-transaction")] == subjects, call


ELSEWHERE = """
from elsewhere.deps import session_scope as theirs

@asynccontextmanager
async def session_scope():
    async with theirs() as session:
        yield session

async def put():
    async with {scope}() as session:
        session.add(Order())
        await session.flush()
        {inside}
    {after}
"""


@pytest.mark.parametrize("scope", ["session_scope", "theirs"])
def test_a_context_manager_out_of_sight_ends_its_session(find: Reviewer, scope: str) -> None:
    """The session that a context manager of another package gives ends with the block, and not before."""
    after = ELSEWHERE.format(scope=scope, inside="pass", after="charge()")
    assert find({"app.py": HEAD + after, "models.py": MODELS}, "external-call-in-transaction") == []
    inside = ELSEWHERE.format(scope=scope, inside="charge()", after="pass")
    (found,) = find({"app.py": HEAD + inside, "models.py": MODELS}, "external-call-in-transaction")
    assert found.subject == "put"


def test_the_callers_session_does_not_end_there(find: Reviewer) -> None:
    """A block over something else leaves the caller's transaction as open as it was."""
    text = """
from elsewhere.deps import timer

def put(session: Session):
    with timer() as watch:
        session.add(Order())
        session.flush()
    charge()
"""
    (found,) = find({"app.py": HEAD + text, "models.py": MODELS}, "external-call-in-transaction")
    assert found.subject == "put"
