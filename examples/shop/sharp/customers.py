"""Customers and what they ordered."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from shop.errors import Conflict
from shop.models import Customer, Order
from shop.schemas import NewCustomer

from .database import sessions


async def register(new: NewCustomer) -> Customer:
    """Add a customer; an email address belongs to one of them."""
    async with sessions.begin() as session:
        customer: Customer | None = await session.scalar(
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
    query = select(Order).where(Order.customer_id == customer_id).order_by(Order.id.desc()).limit(limit)
    if before is not None:
        query = query.where(Order.id < before)
    async with sessions() as session:
        return (await session.scalars(query)).all()
