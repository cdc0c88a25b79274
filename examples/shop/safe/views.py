"""Orders as the client sees them."""

from collections.abc import Collection

from sqlalchemy.orm import joinedload, selectinload

from shop.models import Line, Order
from shop.schemas import LineView, OrderView

WHOLE = (joinedload(Order.customer), selectinload(Order.lines).joinedload(Line.product))
"""What must be loaded of an order that is shown."""


def order_view(order: Order) -> OrderView:
    """The whole order; `WHOLE` must be loaded."""
    return OrderView(
        id=order.id,
        customer=order.customer.name,
        status=order.status,
        total_cents=order.total_cents,
        lines=line_views(order.lines),
    )


def line_views(lines: Collection[Line]) -> list[LineView]:
    """The lines, with the names of their products."""
    return [
        LineView(product=line.product.name, quantity=line.quantity, price_cents=line.price_cents)
        for line in lines
    ]
