"""An order's way from `placed` to `shipped`, or to `cancelled` with all that was done undone.

Stock and status change in this database; the payment provider and the carrier are called in steps of their own, each
with an idempotency key that is the same in every attempt. Once the money is captured there is no way back.
"""

from sqlalchemy import select

from mainstay.patterns import Transaction
from mainstay.patterns.saga import Call, Refused, Saga, on_compensated, step
from safe.catalogue import give_back, reserve
from safe.database import orders
from safe.orders import move
from shop.errors import OutOfStock
from shop.models import Line, Payment, Shipment
from shop.schemas import NewLine

from . import providers
from .events import OrderCancelled, OrderPaid, OrderShipped
from .messages import messages
from .settings import FOR_EVER, INSIDE, OUTSIDE


@messages.saga(name="fulfil order", key="{order_id}")
class FulfilOrder(Saga):
    """The steps, in order."""

    order_id: int
    total_cents: int
    authorization: str = ""
    tracking_number: str = ""

    @on_compensated(retry=FOR_EVER)
    async def cancel(self, tx: Transaction) -> None:
        """The order was placed by the transaction that started the saga: whatever came of it, it is cancelled now."""
        move(await orders.lock(tx, self.order_id), "cancelled")
        await tx.publish(OrderCancelled(order_id=self.order_id))

    @step(retry=INSIDE)
    async def reserve_stock(self, tx: Transaction) -> None:
        try:
            await reserve(tx, await _lines(tx, self.order_id))
        except OutOfStock as error:
            raise Refused(str(error)) from error
        move(await orders.lock(tx, self.order_id), "paying")

    @reserve_stock.undo
    async def release_stock(self, tx: Transaction) -> None:
        await give_back(tx, self.order_id)

    @step(retry=OUTSIDE)
    async def authorize_payment(self, call: Call) -> None:
        self.authorization = await providers.authorize(self.order_id, self.total_cents, call)

    @authorize_payment.undo(retry=OUTSIDE)
    async def void_payment(self, call: Call) -> None:
        await providers.void(call)

    @step(pivot=True, retry=OUTSIDE)
    async def capture_payment(self, call: Call) -> None:
        await providers.capture(self.authorization, call)

    @step(retry=INSIDE)
    async def mark_paid(self, tx: Transaction) -> None:
        move(await orders.lock(tx, self.order_id), "paid")
        tx.add(Payment(order_id=self.order_id, amount_cents=self.total_cents, charge_id=self.authorization))
        await tx.publish(OrderPaid(order_id=self.order_id, total_cents=self.total_cents))

    @step(retry=OUTSIDE)
    async def book_parcel(self, call: Call) -> None:
        self.tracking_number = await providers.book_parcel(self.order_id, call)

    @step(retry=INSIDE)
    async def mark_shipped(self, tx: Transaction) -> None:
        move(await orders.lock(tx, self.order_id), "shipped")
        tx.add(Shipment(order_id=self.order_id, tracking_number=self.tracking_number))
        await tx.publish(OrderShipped(order_id=self.order_id, tracking_number=self.tracking_number))


async def _lines(tx: Transaction, order_id: int) -> list[NewLine]:
    lines = await tx.scalars(select(Line).where(Line.order_id == order_id))
    return [NewLine(product_id=line.product_id, quantity=line.quantity) for line in lines]
