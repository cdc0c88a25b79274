"""Payment of an order through the payment provider."""

from shop.errors import CardDeclined, Conflict
from shop.models import Payment

from .database import db, orders
from .orders import abandoned, move
from .providers import charge


async def pay(order_id: int) -> Payment:
    """Charge the customer's card for a placed order.

    The provider is asked between two transactions. If the process dies there, the order stays in `paying`,
    and after a minute anyone may ask again: the provider makes one charge for each idempotency key.
    """
    async with db.transaction() as tx:
        order = await orders.lock(tx, order_id)
        if order.status != "placed" and not (order.status == "paying" and abandoned(order)):
            raise Conflict("only an order that is placed and not paid can be paid")
        move(order, "paying")
    try:
        charge_id = await charge(order)
    except CardDeclined:
        async with db.transaction() as tx:
            order = await orders.lock(tx, order_id)
            if order.status == "paying":
                move(order, "placed")
        raise
    async with db.transaction() as tx:
        order = await orders.lock(tx, order_id)
        if order.status != "paying":
            raise Conflict("the order was paid through another request")
        payment = Payment(order_id=order.id, amount_cents=order.total_cents, charge_id=charge_id)
        tx.add(payment)
        move(order, "paid")
    return payment
