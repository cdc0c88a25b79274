"""Orders, as a client places, watches and cancels them."""

from sqlalchemy import select

from mainstay.patterns import NotFound as NoSuchRow
from mainstay.patterns.saga import TooLate, cancel, list_sagas, show
from safe.database import customers, db, orders
from shop.errors import Conflict
from shop.models import Line, Order, Product
from shop.schemas import NewOrder

from .events import OrderPlaced
from .fulfilment import FulfilOrder
from .schemas import Progress, StepProgress


async def place(new: NewOrder) -> Order:
    """Write the order down, tell of it and have it fulfilled: all of it or, if this transaction fails, nothing."""
    async with db.transaction() as tx:
        await customers.get(tx, new.customer_id)
        wanted = [line.product_id for line in new.lines]
        found = await tx.execute(select(Product.id, Product.price_cents).where(Product.id.in_(wanted)))
        prices = {row.id: row.price_cents for row in found}
        if missing := set(wanted) - set(prices):
            raise NoSuchRow(Product, min(missing))
        lines = [
            Line(product_id=line.product_id, quantity=line.quantity, price_cents=prices[line.product_id])
            for line in new.lines
        ]
        total = sum(line.quantity * line.price_cents for line in lines)
        order = Order(customer_id=new.customer_id, total_cents=total, lines=lines)
        tx.add(order)
        await tx.flush()
        await tx.publish(OrderPlaced(order_id=order.id, total_cents=total))
        await FulfilOrder(order_id=order.id, total_cents=total).start(tx)
    return order


async def progress(order_id: int) -> Progress:
    """How far the order has come, step by step: order and saga as they were at one moment."""
    async with db.transaction(isolation="REPEATABLE READ") as tx:
        order = await orders.get(tx, order_id)
        saga = await show(tx, await _saga(tx, order_id))
    steps = [StepProgress(name=one["name"], state=one["state"]) for one in saga["steps"]]
    return Progress(
        id=order.id,
        status=order.status,
        fulfilment=saga["state"],
        steps=steps,
        reason=saga["stuck"] or saga["error"],
    )


async def cancel_order(order_id: int) -> None:
    """Ask for the order to be undone; a step that is at work ends first."""
    try:
        await cancel(db, await _saga(db, order_id), because="the customer asked for it")
    except TooLate as error:
        raise Conflict("the order is paid, or has ended already") from error


async def _saga(where: object, order_id: int) -> int:
    found = await list_sagas(where, kind="fulfil order", key=str(order_id), most=1)
    if not found:
        raise NoSuchRow(Order, order_id)
    return int(found[0]["id"])
