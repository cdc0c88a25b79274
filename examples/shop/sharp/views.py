"""Orders as the client sees them."""

from collections.abc import Collection

from sqlalchemy.ext.asyncio import AsyncSession

from shop.models import Line, Order
from shop.schemas import LineView, OrderView

from .catalogue import product_names


async def order_view(session: AsyncSession, order: Order) -> OrderView:
    """The whole order; its customer and lines must be loaded."""
    return OrderView(
        id=order.id,
        customer=order.customer.name,
        status=order.status,
        total_cents=order.total_cents,
        lines=await line_views(session, order.lines),
    )


async def line_views(session: AsyncSession, lines: Collection[Line]) -> list[LineView]:
    """The lines, with the names of their products."""
    names = await product_names(session, [line.product_id for line in lines])
    return [
        LineView(product=names[line.product_id], quantity=line.quantity, price_cents=line.price_cents)
        for line in lines
    ]
