"""Figures for the office."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select

from shop.models import Line, Order, Product
from shop.schemas import ProductSales

from .database import db


async def sales(days: int, limit: int) -> list[ProductSales]:
    """What was sold in the last `days` days, best first."""
    revenue = func.sum(Line.quantity * Line.price_cents)
    query = (
        select(Product.name, func.sum(Line.quantity).label("quantity"), revenue.label("revenue_cents"))
        .join(Line, Line.product_id == Product.id)
        .join(Order, Order.id == Line.order_id)
        .where(
            Order.status.in_(["paid", "shipping", "shipped"]),
            Order.placed_at >= datetime.now(UTC) - timedelta(days=days),
        )
        .group_by(Product.id)
        .order_by(revenue.desc(), Product.id)
        .limit(limit)
    )
    async with db.transaction() as tx:
        rows = await tx.execute(query)
        return [
            ProductSales(product=row.name, quantity=row.quantity, revenue_cents=row.revenue_cents)
            for row in rows
        ]
