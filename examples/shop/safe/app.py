"""The shop over HTTP."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse
from sqlalchemy import text

from mainstay.patterns import NotFound
from shop.errors import answer_errors
from shop.schemas import (
    CustomerView,
    Id,
    NewCustomer,
    NewOrder,
    OrderStatus,
    OrderView,
    PaymentView,
    ProductSales,
    ProductView,
    Restock,
    ShipmentView,
    Tracking,
)

from . import catalogue, customers, orders, payments, providers, reports, shipping
from .database import db

Limit = Annotated[int, Query(ge=1, le=100)]
Days = Annotated[int, Query(ge=1, le=365)]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Close what is open when the service ends."""
    yield
    await providers.close()
    await db.close()


app = FastAPI(title="Shop", lifespan=lifespan)
answer_errors(app)


@app.exception_handler(NotFound)
async def not_found(request: Request, error: NotFound) -> JSONResponse:
    """A row that a repository did not find."""
    return JSONResponse({"detail": f"no such {error.model.__name__.lower()}"}, status_code=404)


@app.get("/health")
async def health() -> dict[str, str]:
    """Whether the shop reaches its database."""
    async with db.transaction() as tx:
        await tx.execute(text("SELECT 1"))
    return {"status": "ok"}


@app.get("/products", response_model=list[ProductView])
async def list_products(after: Id | None = None, limit: Limit = 50) -> object:
    return await catalogue.list_products(after, limit)


@app.get("/products/{product_id}", response_model=ProductView)
async def get_product(product_id: Id) -> object:
    return await catalogue.get_product(product_id)


@app.post("/products/{product_id}/restock", response_model=ProductView)
async def restock(product_id: Id, body: Restock) -> object:
    return await catalogue.restock(product_id, body.quantity)


@app.post("/customers", status_code=201, response_model=CustomerView)
async def register(body: NewCustomer) -> object:
    return await customers.register(body)


@app.get("/customers/{customer_id}/orders", response_model=list[OrderStatus])
async def history(customer_id: Id, before: Id | None = None, limit: Limit = 50) -> object:
    return await customers.history(customer_id, before, limit)


@app.post("/orders", status_code=201, response_model=OrderStatus)
async def place_order(body: NewOrder) -> object:
    return await orders.place(body)


@app.get("/orders")
async def list_orders(before: Id | None = None, limit: Limit = 50) -> list[OrderView]:
    return await orders.list_orders(before, limit)


@app.get("/orders/{order_id}")
async def get_order(order_id: Id) -> OrderView:
    return await orders.get_order(order_id)


@app.post("/orders/{order_id}/pay", response_model=PaymentView)
async def pay(order_id: Id) -> object:
    return await payments.pay(order_id)


@app.post("/orders/{order_id}/cancel", response_model=OrderStatus)
async def cancel(order_id: Id) -> object:
    return await orders.cancel(order_id)


@app.post("/orders/{order_id}/ship", response_model=ShipmentView)
async def ship(order_id: Id) -> object:
    return await shipping.ship(order_id)


@app.get("/orders/{order_id}/tracking")
async def track(order_id: Id) -> Tracking:
    return await shipping.track(order_id)


@app.get("/reports/sales")
async def sales(days: Days = 30, limit: Limit = 20) -> list[ProductSales]:
    return await reports.sales(days, limit)
