"""check-then-act, loud and quiet."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

MODELS = """
    from sqlalchemy import ForeignKey, UniqueConstraint
    from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

    class Base(DeclarativeBase):
        pass

    class Account(Base):
        __tablename__ = "accounts"
        id: Mapped[int] = mapped_column(primary_key=True)
        balance: Mapped[int] = mapped_column()

    class Versioned(Base):
        __tablename__ = "versioned"
        id: Mapped[int] = mapped_column(primary_key=True)
        version: Mapped[int] = mapped_column()
        balance: Mapped[int] = mapped_column()
        __mapper_args__ = {"version_id_col": version}

    class User(Base):
        __tablename__ = "users"
        id: Mapped[int] = mapped_column(primary_key=True)
        email: Mapped[str] = mapped_column(unique=True)
        nick: Mapped[str] = mapped_column()

    class Seat(Base):
        __tablename__ = "seats"
        __table_args__ = (UniqueConstraint("event", "number"),)
        id: Mapped[int] = mapped_column(primary_key=True)
        event: Mapped[int] = mapped_column()
        number: Mapped[int] = mapped_column()

    class Charge(Base):
        __tablename__ = "charges"
        id: Mapped[int] = mapped_column(primary_key=True)
"""

HEAD = """
from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from models import Account, Charge, Seat, User, Versioned

def load(session, key):
    return session.get(Account, key)

def load_locked(session, key):
    return session.scalar(select(Account).where(Account.id == key).with_for_update())

def take(account, amount):
    if account.balance < amount:
        raise ValueError
    account.balance -= amount

def f(session: Session, key, amount, email, conn, locks):
"""

GUARD = "if account.balance < amount:\n    raise ValueError\n"
SPEND = "account.balance = account.balance - amount"

LOUD = {
    "withdraw": f"account = session.get(Account, key)\n{GUARD}{SPEND}",
    "withdraw in place": f"account = session.get(Account, key)\n{GUARD}account.balance -= amount",
    "withdraw in the branch": (
        "account = session.get(Account, key)\nif account.balance >= amount:\n    account.balance -= amount"
    ),
    "loaded by a helper": f"account = load(session, key)\n{GUARD}{SPEND}",
    "checked and spent in a helper": "take(session.get(Account, key), amount)",
    "both in helpers": "take(load(session, key), amount)",
    "scalar then update": (
        "balance = session.scalar(select(Account.balance).where(Account.id == key))\n"
        "if balance < amount:\n    raise ValueError\n"
        "session.execute(update(Account).where(Account.id == key).values(balance=Account.balance - amount))"
    ),
    "SQL text": (
        "row = session.execute(text('select balance from accounts where id = :k'), {'k': key}).one()\n"
        "if row[0] < amount:\n    raise ValueError\n"
        "session.execute(text('update accounts set balance = balance - :a where id = :k'), {'a': amount, 'k': key})"
    ),
    "exists then insert": (
        "if session.scalar(select(User).where(User.nick == email)):\n    raise ValueError\n"
        "session.add(User(nick=email))"
    ),
    "none then insert": (
        "user = session.query(User).filter_by(nick=email).first()\nif user is None:\n    session.add(User(nick=email))"
    ),
    "count then insert": (
        "if session.scalar(select(func.count()).select_from(User).where(User.nick == email)) > 3:\n"
        "    raise ValueError\nsession.add(User(nick=email))"
    ),
}

QUIET = {
    "the row made is not the one looked for": (
        "user = session.query(User).filter_by(nick=email).first()\n"
        "if user is None:\n    session.execute(insert(User).values(email=email))"
    ),
    "row lock": f"account = session.get(Account, key, with_for_update=True)\n{GUARD}{SPEND}",
    "row lock in a helper": f"account = load_locked(session, key)\n{GUARD}{SPEND}",
    "row lock, both in helpers": "take(load_locked(session, key), amount)",
    "advisory lock": (
        "session.execute(text('select pg_advisory_xact_lock(1)'))\n"
        f"account = session.get(Account, key)\n{GUARD}{SPEND}"
    ),
    "named lock": (
        "with locks.lock(key):\n    account = session.get(Account, key)\n"
        "    if account.balance < amount:\n        raise ValueError\n    account.balance -= amount"
    ),
    "conditional update": (
        "balance = session.scalar(select(Account.balance).where(Account.id == key))\n"
        "if balance < amount:\n    raise ValueError\n"
        "session.execute(update(Account).where(Account.id == key, Account.balance >= amount)"
        ".values(balance=Account.balance - amount))"
    ),
    "conditional SQL": (
        "row = session.execute(text('select balance from accounts where id = :k')).one()\n"
        "if row[0] < amount:\n    raise ValueError\n"
        "session.execute(text('update accounts set balance = balance - :a where id = :k and balance >= :a'))"
    ),
    "version column": f"account = session.get(Versioned, key)\n{GUARD}{SPEND}",
    "on conflict": (
        "if session.scalar(select(User).where(User.nick == email)):\n    raise ValueError\n"
        "session.execute(insert(User).values(nick=email).on_conflict_do_nothing())"
    ),
    "unique column": (
        "if session.scalar(select(User).where(User.email == email)):\n    raise ValueError\n"
        "session.add(User(email=email))"
    ),
    "unique together": (
        "if session.scalar(select(Seat).where(Seat.event == key, Seat.number == amount)):\n    raise ValueError\n"
        "session.add(Seat(event=key, number=amount))"
    ),
    "integrity error handled": (
        "if session.scalar(select(User).where(User.nick == email)):\n    raise ValueError\n"
        "try:\n    session.add(User(nick=email))\n    session.commit()\nexcept IntegrityError:\n    raise ValueError"
    ),
    "write without a check": "account = session.get(Account, key)\naccount.balance = amount",
    "check without a write": f"account = session.get(Account, key)\n{GUARD}",
    "another table": f"account = session.get(Account, key)\n{GUARD}session.add(Charge())",
    "only whether it exists": (
        "account = session.get(Account, key)\nif account is None:\n    raise ValueError\naccount.balance = amount"
    ),
    "the same whoever comes first": (
        "account = session.get(Account, key)\nif account.balance != amount:\n    account.balance = amount"
    ),
}


def program(body: str) -> dict[str, str]:
    lines = "\n".join("    " + line for line in body.split("\n"))
    return {"models.py": MODELS, "app.py": HEAD + lines + "\n"}


@pytest.mark.parametrize("name", LOUD)
def test_loud(find, name: str) -> None:
    """A read, a decision and a write with no lock between are found, also across functions."""
    found = find(program(LOUD[name]), "check-then-act")
    assert [f.subject for f in found] == ["f"], name


@pytest.mark.parametrize("name", QUIET)
def test_quiet(find, name: str) -> None:
    """Locks, conditional writes, constraints and versions make it right; so it is no finding."""
    assert find(program(QUIET[name]), "check-then-act") == []


def test_django(find) -> None:
    """The same on Django: loud on a plain read, quiet under select_for_update and with F() and a condition."""
    head = """
        from django.db import models, transaction
        from django.db.models import F
        class Wallet(models.Model):
            balance = models.IntegerField()
        class Coupon(models.Model):
            code = models.CharField(max_length=9)
        def loud(key, amount):
            wallet = Wallet.objects.get(pk=key)
            if wallet.balance < amount:
                raise ValueError
            wallet.balance -= amount
            wallet.save()
        def also_loud(code):
            if not Coupon.objects.filter(code=code).exists():
                Coupon.objects.create(code=code)
        def locked(key, amount):
            with transaction.atomic():
                wallet = Wallet.objects.select_for_update().get(pk=key)
                if wallet.balance < amount:
                    raise ValueError
                wallet.balance -= amount
                wallet.save()
        def conditional(key, amount):
            wallet = Wallet.objects.get(pk=key)
            if wallet.balance < amount:
                raise ValueError
            Wallet.objects.filter(pk=key, balance__gte=amount).update(balance=F("balance") - amount)
        def upsert(code):
            if not Coupon.objects.filter(code=code).exists():
                Coupon.objects.get_or_create(code=code)
    """
    assert {f.subject for f in find(head, "check-then-act")} == {"loud", "also_loud"}


def test_lock_held_by_every_caller(find) -> None:
    """A function that only runs under its callers' lock needs none of its own."""
    text = """
        from sqlalchemy import select
        from sqlalchemy.orm import Session
        from models import Account

        def spend(session: Session, key, amount):
            account = session.get(Account, key)
            if account.balance < amount:
                raise ValueError
            account.balance -= amount

        def one(session: Session, key):
            session.execute(select(Account).where(Account.id == key).with_for_update())
            spend(session, key, 3)
    """
    files = {"models.py": MODELS, "app.py": text}
    assert find(files, "check-then-act") == []
    files["other.py"] = "from app import spend\ndef two(session, key):\n    spend(session, key, 4)\n"
    assert [f.subject for f in find(files, "check-then-act")] == ["spend"]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted({**LOUD, **QUIET})))
def test_a_lock_never_adds_findings(find, name: str) -> None:
    """Whatever the program does, taking an advisory lock first never makes it worse."""
    body = {**LOUD, **QUIET}[name]
    locked = f"session.execute(text('select pg_advisory_xact_lock(1)'))\n{body}"
    before = find(program(body), "check-then-act", possible=True)
    after = find(program(locked), "check-then-act", possible=True)
    assert len(after) <= len(before)


def test_object_of_a_class_based_view(find) -> None:
    """``self.get_object()`` of a view reads a row of its queryset without a lock."""
    files = {
        "shop.py": """
            from django.db import models
            class Wallet(models.Model):
                balance = models.IntegerField()
                def spend(self, amount):
                    if self.balance < amount:
                        raise ValueError
                    self.balance -= amount
                    self.save()
        """,
        "views.py": """
            from rest_framework.viewsets import ModelViewSet
            from shop import Wallet
            class WalletViewSet(ModelViewSet):
                queryset = Wallet.objects.all()
                def pay(self, request):
                    self.get_object().spend(3)
            class LockedViewSet(ModelViewSet):
                def get_queryset(self):
                    return Wallet.objects.select_for_update()
                def pay(self, request):
                    self.get_object().spend(3)
        """,
    }
    assert [f.subject for f in find(files, "check-then-act")] == ["WalletViewSet.pay"]
