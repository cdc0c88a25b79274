"""Fill pretix: an event with one ticket left, a paid order, a gift card, a voucher, somebody on the waiting list."""

from datetime import UTC, datetime
from decimal import Decimal

import django

django.setup()

from django.db import transaction  # noqa: E402
from django_scopes import scopes_disabled  # noqa: E402
from pretix.base.models import (  # noqa: E402
    CheckinList,
    Event,
    Item,
    Order,
    OrderPosition,
    Organizer,
    Quota,
    Team,
)

NOW = datetime.now(UTC)
LATER = datetime(2035, 6, 1, 18, tzinfo=UTC)


def order(event: Event, ticket: Item, code: str, status: str) -> Order:
    made = Order.objects.create(
        code=code,
        event=event,
        email="guest@example.org",
        status=status,
        datetime=NOW,
        expires=LATER,
        total=ticket.default_price,
        sales_channel=event.organizer.sales_channels.get(identifier="web"),
        secret=f"secret{code}".lower(),
        locale="en",
    )
    OrderPosition.objects.create(
        order=made,
        item=ticket,
        price=ticket.default_price,
        positionid=1,
        secret=f"ticket{code}".lower(),
        attendee_name_parts={"full_name": "Ada"},
    )
    made.create_transactions(is_new=True)
    return made


with scopes_disabled(), transaction.atomic():
    organizer = Organizer.objects.create(name="Hall", slug="hall")
    event = Event.objects.create(
        organizer=organizer,
        name="Concert",
        slug="concert",
        currency="EUR",
        date_from=LATER,
        live=True,
        plugins="pretix.plugins.banktransfer",
    )
    event.settings.timezone = "UTC"
    event.settings.payment_banktransfer__enabled = True
    event.settings.payment_giftcard__enabled = True
    event.settings.reservation_time = 1_000_000  # minutes

    scarce = event.items.create(name="Front row", default_price=Decimal("80.00"), active=True)
    plenty = event.items.create(name="Gallery", default_price=Decimal("20.00"), active=True)
    for item, size in ((scarce, 1), (plenty, 1000)):
        quota: Quota = event.quotas.create(name=str(item.name), size=size)
        quota.items.add(item)
    soldout = event.items.create(name="Box", default_price=Decimal("120.00"), active=True)
    event.quotas.create(name="Box", size=1).items.add(soldout)

    card = organizer.issued_gift_cards.create(secret="GIFTCARD100", currency="EUR")
    card.transactions.create(value=Decimal("100.00"), acceptor=organizer)

    paid = order(event, plenty, "PAID1", Order.STATUS_PAID)
    paid.payments.create(
        provider="giftcard",
        amount=Decimal("20.00"),
        state="confirmed",
        info=f'{{"gift_card": {card.pk}, "gift_card_secret": "GIFTCARD100", "retry": true}}',
    )
    card.transactions.create(
        value=Decimal("-20.00"), acceptor=organizer, order=paid, payment=paid.payments.get()
    )
    pending = order(event, plenty, "OPEN1", Order.STATUS_PENDING)
    pending.payments.create(provider="manual", amount=Decimal("20.00"), state="created", info="{}")

    event.vouchers.create(code="ONCE", max_usages=1, item=plenty, price_mode="set", value=Decimal("5.00"))
    event.waitinglistentries.create(item=soldout, email="waiting@example.org", locale="en")
    gate = CheckinList.objects.create(event=event, name="Gate", all_products=True)

    team = Team.objects.create(
        organizer=organizer,
        name="Office",
        all_events=True,
        all_event_permissions=True,
        all_organizer_permissions=True,
    )
    team.tokens.create(name="laboratory", token="mainstay-laboratory")
