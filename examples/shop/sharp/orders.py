"""The life of an order: placed, paid, shipped; or placed and cancelled."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import joinedload, selectinload

from shop.errors import Conflict, NotFound
from shop.models import Customer, Line, Order
from shop.schemas import NewOrder, OrderView

from .catalogue import give_back, reserve
from .database import sessions
from .views import order_view

ABANDONED = timedelta(minutes=1)

whole = select(Order).options(joinedload(Order.customer), selectinload(Order.lines))


async def place(new: NewOrder) -> Order:
    """Reserve the pieces and write the order down."""
    async with sessions.begin() as session:
        if await session.get(Customer, new.customer_id) is None:
            raise NotFound("no such customer")
        prices = {product.id: product.price_cents for product in await reserve(session, new.lines)}
        lines = [
            Line(product_id=line.product_id, quantity=line.quantity, price_cents=prices[line.product_id])
            for line in new.lines
        ]
        total = sum(line.quantity * line.price_cents for line in lines)
        order = Order(customer_id=new.customer_id, total_cents=total, lines=lines)
        session.add(order)
    return order


async def list_orders(before: int | None, limit: int) -> list[OrderView]:
    """The newest orders with an id below `before`."""
    query = whole.order_by(Order.id.desc()).limit(limit)
    if before is not None:
        query = query.where(Order.id < before)
    async with sessions() as session:
        orders = await session.scalars(query)
        return [await order_view(session, order) for order in orders]


async def get_order(order_id: int) -> OrderView:
    """One order."""
    async with sessions() as session:
        order = await session.scalar(whole.where(Order.id == order_id))
        if order is None:
            raise NotFound("no such order")
        return await order_view(session, order)


async def cancel(order_id: int) -> Order:
    """Give the pieces back, as long as nobody has begun to pay."""
    async with sessions.begin() as session:
        order = await lock(session, order_id)
        if order.status != "placed":
            raise Conflict("only an order that is not paid can be cancelled")
        await give_back(session, order.id)
        move(order, "cancelled")
    return order


async def lock(session: AsyncSession, order_id: int) -> Order:
    """The order, with its row locked until the transaction ends."""
    order = await session.get(Order, order_id, with_for_update=True)
    if order is None:
        raise NotFound("no such order")
    return order


def move(order: Order, status: str) -> None:
    """Give the order another status."""
    order.status = status
    order.changed_at = datetime.now(UTC)


def abandoned(order: Order) -> bool:
    """Whether whoever works on the order has had time enough to finish."""
    return order.changed_at < datetime.now(UTC) - ABANDONED
