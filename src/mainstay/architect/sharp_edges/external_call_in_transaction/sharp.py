"""Checkout of an order: the card is charged by a payment provider, then the order counts as paid."""

import os

import httpx
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy.exc import NoResultFound
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str]
    total_cents: Mapped[int]
    charge_id: Mapped[str | None]


class OrderView(BaseModel):
    id: int
    status: str
    charge_id: str | None


app = FastAPI(title="Checkout")
sessions = async_sessionmaker(create_async_engine(os.environ["DATABASE_URL"]), expire_on_commit=False)
provider = httpx.AsyncClient(base_url=os.environ["PAYMENT_URL"], timeout=httpx.Timeout(5.0, connect=2.0))


@app.exception_handler(NoResultFound)
async def not_found(request: Request, error: NoResultFound) -> JSONResponse:
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
    async with sessions.begin() as session:
        order = await session.get_one(Order, order_id, with_for_update=True)
        if order.status != "open":
            raise HTTPException(409, "the order is paid")
        reply = await charge(order)
        if reply.status_code == 402:
            raise HTTPException(402, "the card was declined")
        reply.raise_for_status()
        order.status = "paid"
        order.charge_id = reply.json()["id"]
    return OrderView(id=order.id, status=order.status, charge_id=order.charge_id)
