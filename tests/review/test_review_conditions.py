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


def test_a_flag_that_no_caller_sets_is_off(find: Reviewer) -> None:
    """A loop's own function is judged by its callers too; a route that nobody in the program calls is not."""
    text = (
        HEAD
        + """
def page(session: Session):
    return show(session)

def show(session: Session, deep=False):
    return [one(session, order, deep) for order in session.scalars(select(Order))]

def one(session: Session, order: Order, deep):
    return session.get(Customer, order.customer_id) if deep else None
"""
    )
    assert not find({"models.py": MODELS, "app.py": text}, "n-plus-one")
    loud = text.replace("return show(session)", "return session")
    assert len(find({"models.py": MODELS, "app.py": loud}, "n-plus-one")) == 1


def test_a_function_that_keeps_its_answers_is_asked_once_for_each(find: Reviewer) -> None:
    """Decorators that keep what a function returned are seen at any depth below the loop."""
    text = (
        """
from functools import lru_cache
"""
        + HEAD
        + """
def show(session: Session):
    for order in session.scalars(select(Order)):
        name_of(session, order.customer_id)

def name_of(session: Session, key):
    return customer(session, key).name

@lru_cache
def customer(session: Session, key):
    return session.get(Customer, key)
"""
    )
    assert not find({"models.py": MODELS, "app.py": text}, "n-plus-one")


def test_rows_of_one_parent_load_it_once(find: Reviewer) -> None:
    """Rows chosen by one foreign key share the parent, which the session keeps."""
    text = (
        HEAD
        + """
def show(session: Session, key: int):
    lines = session.scalars(select(Line).where(Line.order_id {operator})).all()
    return [line.order.customer_id for line in lines]
"""
    )
    assert not find({"models.py": MODELS, "app.py": text.replace("{operator}", "== key")}, "n-plus-one")
    loud = text.replace("Line.order_id {operator}", "Line.order_id.in_([key, 2])")
    assert len(find({"models.py": MODELS, "app.py": loud}, "n-plus-one")) == 1


def test_an_async_session_loads_nothing_by_being_looked_at(find: Reviewer) -> None:
    """Under an async session a relation is there or the access fails: there is no query to repeat."""
    text = (
        HEAD
        + """
from sqlalchemy.ext.asyncio import AsyncSession

async def store(session: AsyncSession, lines: list[Line]):
    session.add_all(lines)
    return [line.order.customer_id for line in lines]
"""
    )
    assert not find({"models.py": MODELS, "app.py": text}, "n-plus-one")


def test_a_refresh_of_rows_without_a_session_is_no_query_of_those_with_one(find: Reviewer) -> None:
    """``if row not in session`` does not hold for rows that the session has just read."""
    text = (
        HEAD
        + """
def show(session: Session):
    for order in session.scalars(select(Order)):
        touch(session, order)

def touch(session: Session, order: Order):
    if order not in session:
        session.scalar(select(Order).where(Order.id == order.id))
"""
    )
    assert not find({"models.py": MODELS, "app.py": text}, "n-plus-one")


def test_a_limit_of_few_by_default_is_a_limit_of_few(find: Reviewer) -> None:
    """A loop over as many rows as a small default allows does not grow with data."""
    text = (
        HEAD
        + """
def top(session: Session, most: int = 10):
    return [order.customer.name for order in session.scalars(select(Order).limit(most))]
"""
    )
    assert not find({"models.py": MODELS, "app.py": text}, "n-plus-one")
    assert len(find({"models.py": MODELS, "app.py": text.replace("= 10", "= 500")}, "n-plus-one")) == 1


def test_a_unit_of_work_of_its_own_for_each_row_is_meant(find: Reviewer) -> None:
    """A function that writes and commits for one row reads what it needs on purpose; one that reads does not."""
    text = (
        HEAD
        + """
def all_of_them(session: Session):
    for order in session.scalars(select(Order)):
        settle(session, order.customer_id)

def settle(session: Session, key: int):
    customer = session.get(Customer, key)
    {write}
    return customer.name
"""
    )
    written = text.replace("{write}", "session.add(Line(order_id=key))\n    session.commit()")
    assert not find({"models.py": MODELS, "app.py": written}, "n-plus-one")
    assert len(find({"models.py": MODELS, "app.py": text.replace("    {write}\n", "")}, "n-plus-one")) == 1


def test_a_session_given_by_a_factory_is_known_by_its_annotation(find: Reviewer) -> None:
    """``Callable -> AbstractContextManager[Session]`` opens a session: each call is a unit of work."""
    text = (
        HEAD
        + """
from contextlib import AbstractContextManager

class Factory:
    def __call__(self) -> AbstractContextManager[Session]:
        return self.make()

def all_of_them(db: Factory, keys):
    with db() as work:
        found = list(work.scalars(select(Order)))
    for order in found:
        settle(db, order.customer_id)

def settle(db: Factory, key: int):
    with db() as work:
        customer = work.get(Customer, key)
        {write}
    return customer.name
"""
    )
    written = text.replace("{write}", "work.add(Line(order_id=key))")
    assert not find({"models.py": MODELS, "app.py": written}, "n-plus-one")
    assert (
        len(find({"models.py": MODELS, "app.py": text.replace("        {write}\n", "")}, "n-plus-one")) == 1
    )


def test_what_happens_in_every_turn_is_shown_first(find: Reviewer) -> None:
    """Of several queries below a loop, the one that no branch stands before is named."""
    text = (
        HEAD
        + """
def show(session: Session):
    for order in session.scalars(select(Order)):
        one(session, order)

def one(session: Session, order: Order):
    if order.customer_id > 7:
        session.get(Customer, order.customer_id)
    two(session, order.id)

def two(session: Session, key: int):
    session.scalar(select(Line).where(Line.order_id == key))
"""
    )
    (finding,) = find({"models.py": MODELS, "app.py": text}, "n-plus-one")
    assert "Line" in finding.path[-1].text or "queries Line" in finding.message


def test_of_one_query_the_surest_loops_are_printed(find: Reviewer) -> None:
    """Where more loops reach one query than are printed, those that reach it in every turn come first."""
    seldom = "\n".join(
        f"def seldom_{n}(session: Session):\n"
        "    for order in session.scalars(select(Order)):\n"
        "        if order.customer_id > 7:\n            one(session, order)\n"
        for n in range(3)
    )
    always = "\n".join(
        f"def always_{n}(session: Session):\n"
        "    for order in session.scalars(select(Order)):\n        far(session, order)\n"
        for n in range(3)
    )
    text = (
        HEAD
        + f"""
{seldom}
{always}
def far(session: Session, order: Order):
    one(session, order)

def one(session: Session, order: Order):
    session.get(Customer, order.customer_id)
"""
    )
    found = find({"models.py": MODELS, "app.py": text}, "n-plus-one")
    assert [f.subject for f in found] == ["always_0", "always_1", "always_2"]


def test_a_query_to_tell_what_is_wrong_is_not_made_in_every_turn(find: Reviewer) -> None:
    """Functions that warn or make the message of an error are called for the rows that are wrong."""
    text = (
        HEAD
        + """
def check(session: Session):
    for order in session.scalars(select(Order)):
        if order.customer_id < 0:
            {name}(session, order)

def {name}(session: Session, order: Order):
    return session.get(Customer, order.customer_id).name
"""
    )
    assert not find(
        {"models.py": MODELS, "app.py": text.replace("{name}", "make_error_message")}, "n-plus-one"
    )
    for name in ("describe", "get_or_raise"):
        assert len(find({"models.py": MODELS, "app.py": text.replace("{name}", name)}, "n-plus-one")) == 1


def test_rows_of_a_class_or_query_handed_to_a_helper_are_known(find: Reviewer) -> None:
    """A helper that is handed the class, or a query to complete, gives rows of that class with what they load."""
    text = (
        HEAD
        + """
from sqlalchemy.orm import selectinload

def rows(session: Session, model):
    return session.query(model).filter(model.id > 0)

def newest(query):
    return query.order_by(Order.id.desc())

def show(session: Session):
    return [order.customer.name for order in {orders}]
"""
    )

    def found(orders: str) -> int:
        return len(find({"models.py": MODELS, "app.py": text.replace("{orders}", orders)}, "n-plus-one"))

    assert found("rows(session, Order).all()") == 1
    assert not found("rows(session, Order).options(selectinload(Order.customer)).all()")
    assert not found("session.scalars(newest(select(Order).options(selectinload(Order.customer))))")


def test_what_is_asked_for_only_where_it_is_loaded(find: Reviewer) -> None:
    """``if name in state.dict`` asks first whether a relation is loaded; then looking at it costs nothing."""
    text = (
        HEAD
        + """
from sqlalchemy import inspect

def show(session: Session):
    return [as_mapping(order) for order in session.scalars(select(Order))]

def as_mapping(order: Order):
    state = inspect(order)
    if {test}:
        return {"name": order.customer.name}
    return {}
"""
    )
    asked = text.replace("{test}", '"customer" in state.dict')
    assert not find({"models.py": MODELS, "app.py": asked}, "n-plus-one")
    loud = text.replace("{test}", "order.customer_id > 1")
    assert len(find({"models.py": MODELS, "app.py": loud}, "n-plus-one")) == 1


def test_related_rows_fetched_by_their_keys_are_in_the_session(find: Reviewer) -> None:
    """One query for all related rows makes the lazy relation find them without a query."""
    text = (
        HEAD
        + """
def show(session: Session):
    orders = session.scalars(select(Order)).all()
    {before}
    return [order.customer.name for order in orders]
"""
    )
    fetched = "kept = session.scalars(select(Customer).where(Customer.id.in_({o.customer_id for o in orders}))).all()"
    assert not find({"models.py": MODELS, "app.py": text.replace("{before}", fetched)}, "n-plus-one")
    assert len(find({"models.py": MODELS, "app.py": text.replace("{before}", "pass")}, "n-plus-one")) == 1
