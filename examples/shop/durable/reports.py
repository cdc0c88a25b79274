"""Figures for the office, kept up to date from events instead of counted anew."""

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from mainstay.patterns import Transaction
from safe.database import db
from shop.models import Line, Product
from shop.schemas import ProductSales

from .events import OrderCancelled, OrderPaid, OrderPlaced, OrderShipped
from .messages import messages
from .models import EventTotal, ProductTotal
from .settings import FOR_EVER


@messages.subscribe(OrderPaid, name="sales report", retry=FOR_EVER)
async def add_sale(event: OrderPaid, tx: Transaction) -> None:
    """Add what was paid for to the totals. In the order of products, so that no two of these wait in a circle."""
    lines = await tx.scalars(select(Line).where(Line.order_id == event.order_id).order_by(Line.product_id))
    for line in lines.all():
        added = insert(ProductTotal).values(
            product_id=line.product_id,
            quantity=line.quantity,
            revenue_cents=line.quantity * line.price_cents,
        )
        await tx.execute(
            added.on_conflict_do_update(
                index_elements=[ProductTotal.product_id],
                set_={
                    "quantity": ProductTotal.quantity + added.excluded.quantity,
                    "revenue_cents": ProductTotal.revenue_cents + added.excluded.revenue_cents,
                },
            )
        )


@messages.subscribe(OrderPlaced, OrderPaid, OrderShipped, OrderCancelled, name="event totals", retry=FOR_EVER)
async def count(event: OrderPlaced | OrderPaid | OrderShipped | OrderCancelled, tx: Transaction) -> None:
    """Count what happens."""
    added = insert(EventTotal).values(event=event.event_name, orders=1)
    await tx.execute(
        added.on_conflict_do_update(index_elements=[EventTotal.event], set_={"orders": EventTotal.orders + 1})
    )


async def sales(limit: int) -> list[ProductSales]:
    """What was sold, best first."""
    query = (
        select(Product.name, ProductTotal.quantity, ProductTotal.revenue_cents)
        .join(ProductTotal, ProductTotal.product_id == Product.id)
        .order_by(ProductTotal.revenue_cents.desc(), Product.id)
        .limit(limit)
    )
    async with db.transaction() as tx:
        return [
            ProductSales(product=row.name, quantity=row.quantity, revenue_cents=row.revenue_cents)
            for row in await tx.execute(query)
        ]
