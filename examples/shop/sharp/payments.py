"""Payment of an order through the payment provider."""

from shop.errors import Conflict
from shop.models import Payment

from .database import sessions
from .orders import lock, move
from .providers import charge


async def pay(order_id: int) -> Payment:
    """Charge the customer's card for a placed order."""
    async with sessions.begin() as session:
        order = await lock(session, order_id)
        if order.status != "placed":
            raise Conflict("only an order that is placed and not paid can be paid")
        charge_id = await charge(order)
        payment = Payment(order_id=order.id, amount_cents=order.total_cents, charge_id=charge_id)
        session.add(payment)
        move(order, "paid")
    return payment
