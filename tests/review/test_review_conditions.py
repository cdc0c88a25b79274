"""What a call says of its arguments, and what was met before: queries that do not happen are not found."""

from __future__ import annotations

import pytest
from review_models import MODELS

from conftest import Reviewer

HEAD = """
from sqlalchemy import select
from sqlalchemy.orm import Session
from models import Customer, Line, Order
"""

WALKS = (
    HEAD
    + """
def show(session: Session):
    for order in session.scalars(select(Order)):
        total(session, order{argument})

def total(session: Session, order: Order, {parameter}):
{body}
"""
)

QUIET = {
    "flag left at its default": ("", "deep=False", "    if deep:\n        session.get(Customer, order.customer_id)"),
    "flag given": (", deep=False", "deep=True", "    if deep:\n        session.get(Customer, order.customer_id)"),
    "leaves early": (
        "", "deep=False", "    if not deep:\n        return\n    session.get(Customer, order.customer_id)"
    ),
    "two flags": (
        "", "deep=False, all=True", "    if all and deep:\n        session.get(Customer, order.customer_id)"
    ),
    "conditional expression": (
        "", "deep=False", "    return session.get(Customer, order.customer_id) if deep else None"
    ),
    "already loaded by the caller": (
        ", customers[order.id]", "customer=None",
        "    if customer is None:\n        customer = session.get(Customer, order.customer_id)",
    ),
    "remembered by key": (
        "", "known={}",
        "    if order.customer_id not in known:\n"
        "        known[order.customer_id] = session.get(Customer, order.customer_id)",
    ),
    "remembered, looked up first": (
        "", "known={}",
        "    found = known.get(order.customer_id)\n"
        "    if found is not None:\n        return found\n"
        "    known[order.customer_id] = session.get(Customer, order.customer_id)",
    ),
}  # fmt: skip

LOUD = {
    "flag on by default": ("", "deep=True", "    if deep:\n        session.get(Customer, order.customer_id)"),
    "flag on in the call": (
        ", deep=True", "deep=False", "    if deep:\n        session.get(Customer, order.customer_id)"
    ),
    "flag not known": (
        ", deep=order.deep", "deep=False", "    if deep:\n        session.get(Customer, order.customer_id)"
    ),
    "unpacked arguments": (
        ", **options", "deep=False", "    if deep:\n        session.get(Customer, order.customer_id)"
    ),
    "not loaded by the caller": (
        "", "customer=None",
        "    if customer is None:\n        customer = session.get(Customer, order.customer_id)",
    ),
    "looked up, never remembered": (
        "", "known={}",
        "    if order.customer_id not in known:\n        session.get(Customer, order.customer_id)",
    ),
}  # fmt: skip


def program(case: tuple[str, str, str]) -> dict[str, str]:
    argument, parameter, body = case
    return {
        "models.py": MODELS,
        "app.py": WALKS.replace("{argument}", argument)
        .replace("{parameter}", parameter)
        .replace("{body}", body),
    }


@pytest.mark.parametrize("name", QUIET)
def test_what_the_call_rules_out_is_not_found(find: Reviewer, name: str) -> None:
    """A query behind a condition that the arguments contradict, or for keys met before, is not printed."""
    assert not find(program(QUIET[name]), "n-plus-one")


@pytest.mark.parametrize("name", LOUD)
def test_what_the_call_allows_is_found(find: Reviewer, name: str) -> None:
    """The same query is found where the arguments let it happen in every turn."""
    assert len(find(program(LOUD[name]), "n-plus-one")) == 1


def test_flags_are_followed_through_functions_that_hand_them_on(find: Reviewer) -> None:
    """A flag handed on keeps its meaning through any number of calls."""
    text = (
        HEAD
        + """
def show(session: Session):
    for order in session.scalars(select(Order)):
        middle(session, order)

def middle(session: Session, order: Order, deep=False):
    low(session, order, deep)

def low(session: Session, order: Order, deep):
    if deep:
        session.get(Customer, order.customer_id)
"""
    )
    assert not find({"models.py": MODELS, "app.py": text}, "n-plus-one")
    loud = text.replace("middle(session, order)\n", "middle(session, order, True)\n", 1)
    assert len(find({"models.py": MODELS, "app.py": loud}, "n-plus-one")) == 1
