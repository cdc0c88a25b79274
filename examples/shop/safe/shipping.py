"""Shipping of an order through the carrier."""

from sqlalchemy import select

from shop.errors import Conflict, NotFound
from shop.models import Shipment
from shop.schemas import Tracking

from .database import db, orders
from .orders import abandoned, move
from .providers import book_parcel, parcel_state


async def ship(order_id: int) -> Shipment:
    """Have a paid order collected.

    The carrier is asked between two transactions. If the process dies there, the order stays in `shipping`,
    and after a minute anyone may ask again: the carrier books one parcel for each idempotency key.
    """
    async with db.transaction() as tx:
        order = await orders.lock(tx, order_id)
        if order.status != "paid" and not (order.status == "shipping" and abandoned(order)):
            raise Conflict("only an order that is paid and not shipped can be shipped")
        move(order, "shipping")
    tracking_number = await book_parcel(order)
    async with db.transaction() as tx:
        order = await orders.lock(tx, order_id)
        if order.status != "shipping":
            raise Conflict("the order was shipped by someone else")
        shipment = Shipment(order_id=order.id, tracking_number=tracking_number)
        tx.add(shipment)
        move(order, "shipped")
    return shipment


async def track(order_id: int) -> Tracking:
    """Where the order's parcel is."""
    async with db.transaction() as tx:
        tracking_number = await tx.scalar(
            select(Shipment.tracking_number).where(Shipment.order_id == order_id)
        )
    if tracking_number is None:
        raise NotFound("the order has no parcel")
    return Tracking(tracking_number=tracking_number, state=await parcel_state(tracking_number))
