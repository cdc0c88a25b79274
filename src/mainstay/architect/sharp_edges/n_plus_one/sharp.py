"""Orders of a small store, newest first, each with its customer and its lines."""

import os
from typing import Annotated

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy import ForeignKey, select
from sqlalchemy.exc import NoResultFound
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Line(Base):
    __tablename__ = "lines"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    product: Mapped[str]
    quantity: Mapped[int]
    cents: Mapped[int]


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))


class LineView(BaseModel):
    product: str
    quantity: int


class OrderView(BaseModel):
    id: int
    customer: str
    total_cents: int
    lines: list[LineView]


app = FastAPI(title="Orders")
sessions = async_sessionmaker(create_async_engine(os.environ["DATABASE_URL"]), expire_on_commit=False)


@app.exception_handler(NoResultFound)
async def not_found(request: Request, error: NoResultFound) -> JSONResponse:
    return JSONResponse({"detail": "no such order"}, status_code=404)


async def view(session: AsyncSession, order: Order) -> OrderView:
    """The order as the client sees it."""
    customer = await session.get_one(Customer, order.customer_id)
    lines = (await session.scalars(select(Line).where(Line.order_id == order.id).order_by(Line.id))).all()
    return OrderView(
        id=order.id,
        customer=customer.name,
        total_cents=sum(line.quantity * line.cents for line in lines),
        lines=[LineView(product=line.product, quantity=line.quantity) for line in lines],
    )


@app.get("/orders")
async def list_orders(limit: Annotated[int, Query(ge=1, le=100)] = 50) -> list[OrderView]:
    """The newest orders."""
    async with sessions() as session:
        orders = await session.scalars(select(Order).order_by(Order.id.desc()).limit(limit))
        return [await view(session, order) for order in orders]


@app.get("/orders/{order_id}")
async def get_order(order_id: int) -> OrderView:
    """One order."""
    async with sessions() as session:
        order = await session.get_one(Order, order_id)
        return await view(session, order)
