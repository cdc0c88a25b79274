"""Tables of this edition alone: what is kept up to date from events."""

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from shop.models import Base


class ProductTotal(Base):
    """What was sold of a product, in orders that were paid."""

    __tablename__ = "product_totals"

    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"), primary_key=True)
    quantity: Mapped[int]
    revenue_cents: Mapped[int]


class EventTotal(Base):
    """How often something has happened to an order."""

    __tablename__ = "event_totals"

    event: Mapped[str] = mapped_column(primary_key=True)
    orders: Mapped[int]
