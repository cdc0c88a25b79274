"""Mails to customers: enqueued by what happens, sent by a job that the mail service may keep waiting."""

from mainstay.patterns import Transaction
from mainstay.patterns.messages import Message
from safe.database import db, orders
from shop.models import Customer

from . import providers
from .events import OrderCancelled, OrderPaid
from .messages import messages
from .settings import FOR_EVER


@messages.subscribe(OrderPaid, OrderCancelled, name="mails", retry=FOR_EVER)
async def tell_customer(event: OrderPaid | OrderCancelled, tx: Transaction) -> None:
    """Have the customer told."""
    what = "confirmed" if isinstance(event, OrderPaid) else "cancelled"
    await tx.enqueue(send_mail, order_id=event.order_id, what=what)


@messages.job(name="send mail", queue="mail", retry=FOR_EVER)
async def send_mail(message: Message, order_id: int, what: str) -> None:
    """Send one. The job's key lets the mail service know a second attempt."""
    async with db.transaction() as tx:
        order = await orders.get(tx, order_id)
        customer = await tx.get(Customer, order.customer_id)
        assert customer is not None
    await providers.send_mail(customer.email, f"order {order_id} is {what}", message.idempotency_key)
