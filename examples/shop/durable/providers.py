"""The systems outside. Each does a thing once for each idempotency key, however often it is asked."""

import httpx

from mainstay.patterns import HttpClient
from mainstay.patterns.saga import Call, Refused
from safe import providers as safe
from shop.settings import settings

from .settings import PATIENCE, mail_url

payments = HttpClient(settings.payment_url, timeout=PATIENCE, deadline=PATIENCE)
carrier = HttpClient(settings.shipping_url, timeout=PATIENCE, deadline=PATIENCE)
mail = HttpClient(mail_url, timeout=PATIENCE, deadline=PATIENCE)


async def authorize(order_id: int, amount: int, call: Call) -> str:
    """Have the amount held on the customer's card; answers the id of the authorization."""
    reply = await payments.post(
        "/authorizations",
        json={"amount": amount, "reference": f"order-{order_id}"},
        idempotency_key=call.idempotency_key,
    )
    if reply.status_code == httpx.codes.PAYMENT_REQUIRED:
        raise Refused("the card was declined")
    reply.raise_for_status()
    return str(reply.json()["id"])


async def void(call: Call) -> None:
    """Let go of what is held. Named by the key it was asked for with, since its id may never have arrived."""
    reply = await payments.post(
        "/voids", json={"authorization_key": call.undoes}, idempotency_key=call.idempotency_key
    )
    reply.raise_for_status()


async def capture(authorization: str, call: Call) -> None:
    """Take the money that is held."""
    reply = await payments.post(
        "/captures", json={"authorization": authorization}, idempotency_key=call.idempotency_key
    )
    reply.raise_for_status()


async def book_parcel(order_id: int, call: Call) -> str:
    """Have the order collected; answers the tracking number."""
    reply = await carrier.post(
        "/parcels", json={"reference": f"order-{order_id}"}, idempotency_key=call.idempotency_key
    )
    reply.raise_for_status()
    return str(reply.json()["tracking_number"])


async def send_mail(to: str, subject: str, key: str) -> None:
    """Send a mail."""
    reply = await mail.post("/mails", json={"to": to, "subject": subject}, idempotency_key=key)
    reply.raise_for_status()


async def close() -> None:
    """Close all connections."""
    for client in (payments, carrier, mail):
        await client.close()
    await safe.close()
