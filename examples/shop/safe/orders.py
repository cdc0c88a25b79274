"""The life of an order: placed, paid, shipped; or placed and cancelled."""

from datetime import UTC, datetime, timedelta

from shop.errors import Conflict
from shop.models import Line, Order
from shop.schemas import NewOrder, OrderView

from .catalogue import give_back, reserve
from .database import customers, db, orders
from .views import WHOLE, order_view

ABANDONED = timedelta(minutes=1)


async def place(new: NewOrder) -> Order:
    """Reserve the pieces and write the order down."""
    async with db.transaction() as tx:
        await customers.get(tx, new.customer_id)
        prices = {product.id: product.price_cents for product in await reserve(tx, new.lines)}
        lines = [
            Line(product_id=line.product_id, quantity=line.quantity, price_cents=prices[line.product_id])
            for line in new.lines
        ]
        total = sum(line.quantity * line.price_cents for line in lines)
        order = Order(customer_id=new.customer_id, total_cents=total, lines=lines)
        tx.add(order)
    return order


async def list_orders(before: int | None, limit: int) -> list[OrderView]:
    """The newest orders with an id below `before`."""
    older = [] if before is None else [Order.id < before]
    async with db.transaction() as tx:
        page = await orders.page(tx, *older, order_by=Order.id.desc(), limit=limit, load=WHOLE)
        return [order_view(order) for order in page.items]


async def get_order(order_id: int) -> OrderView:
    """One order."""
    async with db.transaction() as tx:
        order = await orders.get(tx, order_id, load=WHOLE)
        return order_view(order)


async def cancel(order_id: int) -> Order:
    """Give the pieces back, as long as nobody has begun to pay."""
    async with db.transaction() as tx:
        order = await orders.lock(tx, order_id)
        if order.status != "placed":
            raise Conflict("only an order that is not paid can be cancelled")
        await give_back(tx, order.id)
        move(order, "cancelled")
    return order


def move(order: Order, status: str) -> None:
    """Give the order another status."""
    order.status = status
    order.changed_at = datetime.now(UTC)


def abandoned(order: Order) -> bool:
    """Whether whoever works on the order has had time enough to finish."""
    return order.changed_at < datetime.now(UTC) - ABANDONED
