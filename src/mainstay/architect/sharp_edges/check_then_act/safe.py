"""Accounts with a balance that may not fall below zero, and a ledger of what was taken out."""

import os

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, PositiveInt
from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from mainstay.patterns import Database, NotFound, Repository


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "accounts"
    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int]


class Entry(Base):
    __tablename__ = "ledger"
    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    amount: Mapped[int]


class Withdrawal(BaseModel):
    amount: PositiveInt


class AccountView(BaseModel):
    id: int
    balance: int


app = FastAPI(title="Accounts")
db = Database(os.environ["DATABASE_URL"])
accounts = Repository(Account)


@app.exception_handler(NotFound)
async def not_found(request: Request, error: NotFound) -> JSONResponse:
    return JSONResponse({"detail": "no such account"}, status_code=404)


@app.get("/accounts/{account_id}")
async def get_account(account_id: int) -> AccountView:
    """The account as it stands."""
    async with db.transaction() as tx:
        account = await accounts.get(tx, account_id)
        return AccountView(id=account.id, balance=account.balance)


@app.post("/accounts/{account_id}/withdrawals", status_code=201)
async def withdraw(account_id: int, withdrawal: Withdrawal) -> AccountView:
    """Take money out, if there is enough."""
    async with db.transaction() as tx:
        account = await accounts.lock(tx, account_id)
        if account.balance < withdrawal.amount:
            raise HTTPException(409, "insufficient funds")
        account.balance -= withdrawal.amount
        tx.add(Entry(account_id=account.id, amount=-withdrawal.amount))
    return AccountView(id=account.id, balance=account.balance)
