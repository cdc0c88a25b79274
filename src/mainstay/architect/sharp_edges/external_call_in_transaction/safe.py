"""Checkout of an order: the card is charged by a payment provider, then the order counts as paid."""

import os
from datetime import UTC, datetime, timedelta

import httpx
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy import DateTime
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from mainstay.patterns import Database, HttpClient, NotFound, Repository


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str]
    total_cents: Mapped[int]
    charge_id: Mapped[str | None]
    charging_since: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class OrderView(BaseModel):
    id: int
    status: str
    charge_id: str | None


app = FastAPI(title="Checkout")
db = Database(os.environ["DATABASE_URL"])
orders = Repository(Order)
provider = HttpClient(os.environ["PAYMENT_URL"])
PATIENCE = timedelta(minutes=1)


@app.exception_handler(NotFound)
async def not_found(request: Request, error: NotFound) -> JSONResponse:
    return JSONResponse({"detail": "no such order"}, status_code=404)


async def charge(order: Order) -> httpx.Response:
    """Charge the card; the provider takes one charge for each key, however often it is asked."""
    return await provider.post(
        "/charges",
        json={"amount": order.total_cents, "reference": f"order-{order.id}"},
        headers={"Idempotency-Key": f"order-{order.id}"},
    )


@app.post("/orders/{order_id}/checkout")
async def checkout(order_id: int) -> OrderView:
    """Charge an open order's card and mark the order as paid."""
    async with db.transaction() as tx:
        order = await orders.lock(tx, order_id)
        now = datetime.now(UTC)
        if order.status != "open" or (order.charging_since and now - order.charging_since < PATIENCE):
            raise HTTPException(409, "the order is paid or being paid")
        order.charging_since = now
    # If the process dies here, a checkout a minute later asks again with the same key: it is one charge.
    reply = await charge(order)
    async with db.transaction() as tx:
        order = await orders.lock(tx, order_id)
        order.charging_since = None
        if reply.is_success:
            order.status = "paid"
            order.charge_id = reply.json()["id"]
    if reply.status_code == 402:
        raise HTTPException(402, "the card was declined")
    reply.raise_for_status()
    return OrderView(id=order.id, status=order.status, charge_id=order.charge_id)
