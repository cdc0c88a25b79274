"""Customers and what they ordered."""

from collections.abc import Sequence

from sqlalchemy.dialects.postgresql import insert

from shop.errors import Conflict
from shop.models import Customer, Order
from shop.schemas import NewCustomer

from .database import db, orders


async def register(new: NewCustomer) -> Customer:
    """Add a customer; an email address belongs to one of them."""
    async with db.transaction() as tx:
        customer: Customer | None = await tx.scalar(
            insert(Customer)
            .values(email=new.email, name=new.name)
            .on_conflict_do_nothing(index_elements=[Customer.email])
            .returning(Customer)
        )
        if customer is None:
            raise Conflict("a customer with this email address exists")
        return customer


async def history(customer_id: int, before: int | None, limit: int) -> Sequence[Order]:
    """A customer's newest orders with an id below `before`, without their lines."""
    older = [] if before is None else [Order.id < before]
    async with db.transaction() as tx:
        page = await orders.page(
            tx, Order.customer_id == customer_id, *older, order_by=Order.id.desc(), limit=limit
        )
        return page.items
