"""Laws: what an unrelated edit may and may not change."""

from __future__ import annotations

import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from review_models import MODELS

PROGRAM = """
from sqlalchemy import select
from sqlalchemy.orm import Session
from models import Customer, Order
import httpx

def name(session, key):
    return session.get(Customer, key).name

def listing(session: Session):
    orders = session.scalars(select(Order)).all()
    return [name(session, order.customer_id) for order in orders]

def pay(session: Session):
    session.add(Order())
    session.flush()
    httpx.post("https://pay.example.com/charges")
    session.commit()

def move(session: Session, key, wanted):
    order = session.get(Order, key)
    if order.customer_id < wanted:
        raise ValueError
    order.customer_id -= wanted
"""

UNRELATED = [
    "# a comment",
    "",
    "def helper_{n}(a, b):\n    return a + b\n",
    "class Helper{n}:\n    def go(self):\n        return self\n",
    "LIMIT_{n} = 3",
    "import json as json_{n}",
]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000))
def test_fingerprints_survive_unrelated_edits(find, seed: int) -> None:
    """Comments, blank lines and unrelated code between functions move findings and keep fingerprints."""
    chance = random.Random(seed)
    parts = PROGRAM.split("\n\n")
    edited = []
    for part in parts:
        edited.append(part)
        edited.extend(
            chance.choice(UNRELATED).replace("{n}", str(chance.randrange(10_000)))
            for _ in range(chance.randrange(3))
        )
    before = find({"models.py": MODELS, "app.py": PROGRAM})
    after = find({"models.py": MODELS, "app.py": "\n\n".join(edited)})
    assert len(before) == 3
    assert sorted(f.fingerprint for f in before) == sorted(f.fingerprint for f in after)
    assert sorted(f.message for f in before) == sorted(f.message for f in after)


def test_the_order_of_files_changes_nothing(find) -> None:
    """The same code in other file names, so read in another order, gives the same messages."""
    one = find({"models.py": MODELS, "app.py": PROGRAM})
    two = find({"models.py": MODELS, "app.py": "", "zzz.py": PROGRAM})
    assert sorted(f.message for f in one) == sorted(f.message for f in two)


def test_findings_are_the_same_twice(find) -> None:
    """Two runs say the same in the same order."""
    files = {"models.py": MODELS, "app.py": PROGRAM}
    assert find(files, possible=True) == find(files, possible=True)


def test_recursion_ends(find) -> None:
    """Functions that call each other in circles are summarised all the same."""
    found = find(
        {
            "models.py": MODELS,
            "app.py": """
                from sqlalchemy import select
                from sqlalchemy.orm import Session
                from models import Customer, Order

                def a(session, key):
                    return b(session, key) if key else None

                def b(session, key):
                    session.get(Customer, key)
                    return a(session, key - 1)

                def f(session: Session):
                    for order in session.scalars(select(Order)).all():
                        a(session, order.id)
            """,
        },
        "n-plus-one",
    )
    assert [f.subject for f in found] == ["f"]
