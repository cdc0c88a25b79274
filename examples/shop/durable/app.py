"""The shop over HTTP. A request places an order; workers do the rest."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Query
from sqlalchemy import text

from mainstay.patterns import AnswerErrors
from mainstay.patterns.idempotency import BY_ROUTE, SHARED, IdempotencyKeys, IdempotencyMiddleware
from mainstay.patterns.idempotency.fastapi import idempotency_key
from mainstay.patterns.schema import check
from safe import catalogue, customers, shipping
from safe.database import db
from safe.orders import get_order, list_orders
from shop.errors import answer_errors
from shop.schemas import (
    CustomerView,
    Id,
    NewCustomer,
    NewOrder,
    OrderStatus,
    OrderView,
    ProductSales,
    ProductView,
    Tracking,
)

from . import orders, providers, reports
from .schemas import Progress

Limit = Annotated[int, Query(ge=1, le=100)]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """See that the tables are there; close what is open when the service ends."""
    await check(db)
    yield
    await providers.close()
    await db.close()


app = FastAPI(title="Shop", lifespan=lifespan)
answer_errors(app)
app.add_middleware(IdempotencyMiddleware, keys=IdempotencyKeys(db), tenant=BY_ROUTE)
app.add_middleware(AnswerErrors)

# The shop has no sign-in. With one, a key would count for its customer: tenant=current_customer.
once = Depends(idempotency_key(tenant=SHARED, required=True))


@app.get("/health")
async def health() -> dict[str, str]:
    """Whether the shop reaches its database."""
    async with db.transaction() as tx:
        await tx.execute(text("SELECT 1"))
    return {"status": "ok"}


@app.get("/products", response_model=list[ProductView])
async def list_products(after: Id | None = None, limit: Limit = 50) -> object:
    return await catalogue.list_products(after, limit)


@app.post("/customers", status_code=201, response_model=CustomerView)
async def register(body: NewCustomer) -> object:
    return await customers.register(body)


@app.post("/orders", status_code=201, response_model=OrderStatus, dependencies=[once])
async def place_order(body: NewOrder) -> object:
    return await orders.place(body)


@app.get("/orders")
async def page_of_orders(before: Id | None = None, limit: Limit = 50) -> list[OrderView]:
    return await list_orders(before, limit)


@app.get("/orders/{order_id}")
async def one_order(order_id: Id) -> OrderView:
    return await get_order(order_id)


@app.get("/orders/{order_id}/progress")
async def progress(order_id: Id) -> Progress:
    return await orders.progress(order_id)


@app.post("/orders/{order_id}/cancel", status_code=202)
async def cancel(order_id: Id) -> dict[str, str]:
    await orders.cancel_order(order_id)
    return {"status": "on its way back"}


@app.get("/orders/{order_id}/tracking")
async def track(order_id: Id) -> Tracking:
    return await shipping.track(order_id)


@app.get("/reports/sales")
async def sales(limit: Limit = 20) -> list[ProductSales]:
    return await reports.sales(limit)
