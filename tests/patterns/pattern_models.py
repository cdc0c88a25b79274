"""The models that the tests of the patterns work on."""

from __future__ import annotations

import enum
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, ForeignKey, Numeric, SmallInteger, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    """Base of the models."""


class Account(Base):
    """A bank account, over whose balance two requests may race."""

    __tablename__ = "account"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(Text, unique=True)
    balance: Mapped[int] = mapped_column(default=0)
    entries: Mapped[list[Entry]] = relationship(back_populates="account")


class Entry(Base):
    """A line in an account's ledger."""

    __tablename__ = "entry"

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"), index=True)
    amount: Mapped[int]
    account: Mapped[Account] = relationship(back_populates="entries")


class Document(Base):
    """A row that several people edit, with a version column."""

    __tablename__ = "document"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(Text)
    words: Mapped[int] = mapped_column(default=0)
    version: Mapped[int] = mapped_column(server_default="1")

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 (SQLAlchemy's own notation)


class Seat(Base):
    """A row with a key of two columns."""

    __tablename__ = "seat"

    row: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    holder: Mapped[str | None] = mapped_column(Text)


class Colour(enum.Enum):
    """An enumeration whose order in PostgreSQL is that of its declaration."""

    RED = "r"
    GREEN = "g"
    BLUE = "b"


class Thing(Base):
    """A row with a column of each kind that a page can be ordered by, and one that it cannot."""

    __tablename__ = "thing"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    small: Mapped[int] = mapped_column(SmallInteger, default=0)
    big: Mapped[int | None] = mapped_column(BigInteger)
    name: Mapped[str | None] = mapped_column(Text(collation="C"))
    weight: Mapped[float | None]
    price: Mapped[Decimal | None] = mapped_column(Numeric)
    at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    local: Mapped[datetime | None]
    day: Mapped[date | None]
    code: Mapped[UUID | None]
    done: Mapped[bool | None]
    colour: Mapped[Colour | None]
    extra: Mapped[dict[str, int] | None] = mapped_column(JSONB)
