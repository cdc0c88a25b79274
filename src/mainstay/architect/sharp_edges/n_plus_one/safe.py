"""Orders of a small store, newest first, each with its customer and its lines."""

import os
from typing import Annotated

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, joinedload, mapped_column, relationship, selectinload

from mainstay.patterns import Database, NotFound, Repository


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
    customer: Mapped[Customer] = relationship()
    lines: Mapped[list[Line]] = relationship(order_by=Line.id)


class LineView(BaseModel):
    product: str
    quantity: int


class OrderView(BaseModel):
    id: int
    customer: str
    total_cents: int
    lines: list[LineView]


app = FastAPI(title="Orders")
db = Database(os.environ["DATABASE_URL"])
orders = Repository(Order)
WHOLE = (joinedload(Order.customer), selectinload(Order.lines))


@app.exception_handler(NotFound)
async def not_found(request: Request, error: NotFound) -> JSONResponse:
    return JSONResponse({"detail": "no such order"}, status_code=404)


def view(order: Order) -> OrderView:
    """The order as the client sees it."""
    return OrderView(
        id=order.id,
        customer=order.customer.name,
        total_cents=sum(line.quantity * line.cents for line in order.lines),
        lines=[LineView(product=line.product, quantity=line.quantity) for line in order.lines],
    )


@app.get("/orders")
async def list_orders(limit: Annotated[int, Query(ge=1, le=100)] = 50) -> list[OrderView]:
    """The newest orders."""
    async with db.transaction() as tx:
        page = await orders.page(tx, order_by=Order.id.desc(), limit=limit, load=WHOLE)
        return [view(order) for order in page.items]


@app.get("/orders/{order_id}")
async def get_order(order_id: int) -> OrderView:
    """One order."""
    async with db.transaction() as tx:
        order = await orders.get(tx, order_id, load=WHOLE)
        return view(order)
