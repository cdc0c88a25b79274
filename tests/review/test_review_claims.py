"""check-then-act where another lock, another row or another value is what counts."""

from __future__ import annotations

from conftest import Reviewer

HEAD = """
from contextlib import contextmanager
from sqlalchemy import ForeignKey, func, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

class Base(DeclarativeBase):
    pass

class Shop(Base):
    __tablename__ = "shops"
    id: Mapped[int] = mapped_column(primary_key=True)
    busy: Mapped[bool] = mapped_column()
    slots: Mapped[int] = mapped_column()

class Place(Base):
    __tablename__ = "places"
    id: Mapped[int] = mapped_column(primary_key=True)
    shop_id: Mapped[int] = mapped_column(ForeignKey("shops.id"))
    above_id: Mapped[int] = mapped_column()
    free: Mapped[int] = mapped_column()
    slots: Mapped[int] = mapped_column()
    shop: Mapped["Shop"] = relationship()
"""

RACE = """
def book(session: Session, key: int):
{before}
    place = session.get(Place, key)
    if place.free < 1:
        raise ValueError("full")
    place.free -= 1
    session.commit()
"""


def test_a_row_claimed_first_is_a_lock(find: Reviewer) -> None:
    """A function that claims something by a write keeps others out until the transaction ends."""
    claim = """
def claim_shop(session: Session, key: int):
    return session.execute(update(Shop).where(Shop.id == key, Shop.busy == False).values(busy=True)).rowcount
"""
    quiet = (
        HEAD
        + claim
        + RACE.replace("{before}", "    if not claim_shop(session, 1):\n        raise ValueError")
    )
    assert not find(quiet, "check-then-act")
    assert len(find(HEAD + claim + RACE.replace("{before}", ""), "check-then-act")) == 1


def test_a_context_manager_that_is_a_lock_by_its_name(find: Reviewer) -> None:
    """The program's own ``with lock_shop(...)`` counts as the lock that it says it is."""
    text = (
        HEAD
        + """
@contextmanager
def lock_shop(session: Session, key: int):
    session.execute(select(Shop.id).where(Shop.id == key).with_for_update())
    yield

def book(session: Session, key: int):
    with lock_shop(session, 1):
        place = session.get(Place, key)
        if place.free < 1:
            raise ValueError("full")
        place.free -= 1
"""
    )
    assert not find(text, "check-then-act")


def test_an_attribute_of_the_related_row_is_not_the_rows_own(find: Reviewer) -> None:
    """A decision on ``place.shop.slots`` is no decision on ``place.slots``."""
    text = (
        HEAD
        + """
def book(session: Session, key: int):
    place = session.get(Place, key)
    if place.shop.slots < 1:
        raise ValueError("full")
    place.slots = place.shop.slots
    session.commit()
"""
    )
    assert not find(text, "check-then-act")


def test_a_sum_over_other_rows_is_no_check_of_those_written(find: Reviewer) -> None:
    """A relative update of rows that are chosen otherwise than those looked at is not printed."""
    text = (
        HEAD
        + """
def pass_on(session: Session, above: int, key: int):
    total = session.scalar(select(func.sum(Place.slots)).where(Place.above_id == above))
    if not total:
        return None
    session.execute(update(Place).where(Place.id == key).values(slots=Place.slots + total))
    return total
"""
    )
    assert not find(text, "check-then-act")


def test_a_default_set_by_a_method_of_the_row_loses_nothing(find: Reviewer) -> None:
    """A row handed to a method is judged like a row at hand: a value that rests on nothing read is quiet."""
    text = (
        HEAD
        + """
def book(session: Session, key: int):
    place = session.get(Place, key)
    {call}

def {name}(place: Place, number: int):
    if place.slots != number:
        place.slots = {value}
"""
    )
    quiet = text.replace("{call}", "move(place, 3)").replace("{name}", "move").replace("{value}", "number")
    loud = (
        text.replace("{call}", "take(place, 3)")
        .replace("{name}", "take")
        .replace("{value}", "place.slots - 1")
    )
    assert not find(quiet, "check-then-act")
    assert len(find(loud, "check-then-act")) == 1


def test_how_many_there_are_is_not_whether_there_is_one(find: Reviewer) -> None:
    """A count below a limit that only chooses between two ways refuses nobody; one that refuses is found."""
    text = (
        HEAD
        + """
def note(session: Session, shop: int):
    tries = session.scalar(select(func.count()).select_from(Place).where(Place.shop_id == shop))
    if tries < 5:
        session.add(Place(shop_id=shop))
    else:
        session.execute(update(Shop).where(Shop.id == shop).values(busy=True))
"""
    )
    assert not find(text, "check-then-act")
    assert len(find(text.replace("tries < 5", "tries == 0"), "check-then-act")) == 1


def test_a_unique_column_compared_without_regard_to_case(find: Reviewer) -> None:
    """``func.lower(column) == value`` asks for that column: its constraint decides in the end."""
    text = (
        HEAD
        + """
class Guest(Base):
    __tablename__ = "guests"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column({unique})

def enter(session: Session, email: str):
    guest = session.scalar(select(Guest).where(func.lower(Guest.email) == email.lower()))
    if guest is None:
        guest = Guest(email=email)
        session.add(guest)
    return guest
"""
    )
    assert not find(text.replace("{unique}", "unique=True"), "check-then-act")
    assert len(find(text.replace("{unique}", ""), "check-then-act")) == 1
