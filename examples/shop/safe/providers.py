"""The two systems outside: who charges cards, and who carries parcels.

Both do a thing once for each idempotency key, however often they are asked.
"""

from mainstay.patterns import HttpClient
from shop.errors import CardDeclined
from shop.models import Order
from shop.settings import settings

payments = HttpClient(settings.payment_url)
carrier = HttpClient(settings.shipping_url)


async def charge(order: Order) -> str:
    """Charge the customer's card for the order; answers the id of the charge."""
    reply = await payments.post(
        "/charges",
        json={"amount": order.total_cents, "reference": f"order-{order.id}"},
        idempotency_key=f"charge-order-{order.id}",
    )
    if reply.status_code == 402:
        raise CardDeclined("the card was declined")
    reply.raise_for_status()
    return str(reply.json()["id"])


async def book_parcel(order: Order) -> str:
    """Have the order collected; answers the tracking number."""
    reply = await carrier.post(
        "/parcels",
        json={"reference": f"order-{order.id}"},
        idempotency_key=f"parcel-order-{order.id}",
    )
    reply.raise_for_status()
    return str(reply.json()["tracking_number"])


async def parcel_state(tracking_number: str) -> str:
    """Where the parcel is, in the carrier's words."""
    reply = await carrier.get(f"/parcels/{tracking_number}")
    reply.raise_for_status()
    return str(reply.json()["state"])


async def close() -> None:
    """Close the connections to both."""
    await payments.close()
    await carrier.close()
