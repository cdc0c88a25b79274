"""What the database knows of subscribers through deploys: newer versions wait, and the forgotten are retired."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from events_lab import DRIVERS, Lab, copy, template

from mainstay.patterns import Misuse
from mainstay.patterns.events import Event, MissingUpcaster, subscriptions, upcast
from mainstay.patterns.events.control import NoSuchSubscriber, list_subscriptions, retire
from mainstay.patterns.messages import Messages, Worker

if TYPE_CHECKING:
    from mainstay.patterns.transaction import Transaction


class Placed(Event, key="order_id"):
    order_id: int


class PlacedNow(Event, name="Placed", version=2, key="order_id"):
    order_id: int
    currency: str


@upcast(PlacedNow, from_version=1)
def add_currency(data: dict[str, Any]) -> dict[str, Any]:
    return data | {"currency": "EUR"}


class Other(Event):
    pass


@pytest.fixture(scope="module")
def blank(postgresql_url: str) -> Iterator[str]:
    """The database that tests copy."""
    with template(postgresql_url) as name:
        yield name


@pytest.fixture(params=DRIVERS)
async def lab(postgresql_url: str, blank: str, request: pytest.FixtureRequest) -> AsyncIterator[Lab]:
    """A database of the test's own, once with each driver."""
    with copy(postgresql_url, blank) as address:
        lab = Lab(address, request.param)
        yield lab
        await lab.close()


def states(lab: Lab) -> dict[tuple[str, str], str]:
    """Each subscription's state."""
    rows = lab.look("SELECT subscriber, event, state::text FROM mainstay.subscription")
    return {(subscriber, event): state for subscriber, event, state in rows}


async def tidy(lab: Lab, messages: Messages, worker: Worker) -> None:
    """What a worker does every twenty seconds, now."""
    await messages.subscriptions()._tidy(worker)


async def test_a_newer_version_waits_for_newer_code_and_costs_no_attempt(lab: Lab) -> None:
    """An old worker beside a new publisher keeps it, says why, and the new worker handles both versions in order."""
    seen: list[str] = []

    @lab.messages.subscribe(Placed, name="see")
    async def see(event: Placed) -> None:
        seen.append(f"old {event.order_id}")

    async with lab.messages.worker():
        await lab.publish(PlacedNow(order_id=1, currency="USD"), Placed(order_id=1), Placed(order_id=2))
        await lab.until(
            lambda: (
                lab.look("SELECT progress ->> 'postponed' FROM mainstay.message WHERE state = 'scheduled'")
                == ["Placed of version 2 was published by newer code; this code knows up to version 1"]
            )
        )
        await lab.until(lambda: seen == ["old 2"])
    assert lab.look("SELECT attempts, errors::text FROM mainstay.message WHERE state = 'scheduled'") == [
        (0, "[]")
    ]
    lab.change("UPDATE mainstay.message SET ready_at = now() WHERE state = 'scheduled'")
    new = lab.another()

    @new.subscribe(PlacedNow, name="see")
    async def see_new(event: PlacedNow) -> None:
        seen.append(f"new {event.order_id} {event.currency}")

    async with new.worker():
        await lab.until(lambda: lab.left() == 0)
    await new.database.close()
    assert seen == ["old 2", "new 1 USD", "new 1 EUR"]


async def test_a_worker_whose_upcasters_have_a_gap_does_not_start(lab: Lab) -> None:
    """It would fail with every older message."""

    class Gap(Event, version=2):
        pass

    @lab.messages.subscribe(Gap, name="see")
    async def see(event: Gap) -> None: ...

    with pytest.raises(MissingUpcaster, match="nothing reads its version 1"):
        async with lab.messages.worker():
            pass


async def test_old_and_new_workers_side_by_side_do_not_flip_flop(lab: Lab) -> None:
    """A subscriber that is gone from new code stays open while an old worker runs, whoever starts in which order."""
    new = lab.another()

    async def see(event: Event) -> None: ...

    for messages in (lab.messages, new):
        messages.subscribe(Placed, name="stays")(see)
    lab.messages.subscribe(Placed, name="goes")(see)
    for messages in (lab.messages, new):
        messages.subscriptions().retire_after = 60
    async with lab.messages.worker() as old_worker, new.worker() as new_worker:
        lab.change("UPDATE mainstay.subscription SET declared_at = now() - interval '50 s'")
        await tidy(lab, lab.messages, old_worker)
        await tidy(lab, new, new_worker)
        assert set(states(lab).values()) == {"open"}
        assert lab.look(
            "SELECT count(*) FROM mainstay.subscription WHERE declared_at < now() - interval '9 s'"
        ) == [0]
    await new.database.close()


async def test_a_forgotten_subscriber_is_retired_and_what_waits_is_called_off_in_sight(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its messages say why they ended, publishers make no more, and code that has it again brings it back."""
    monkeypatch.setattr(subscriptions, "OBSERVED", 0.0)
    old = lab.another()

    async def see(event: Event) -> None: ...

    old.subscribe(Placed, name="goes")(see)
    lab.messages.subscribe(Other, name="other")(see)
    lab.messages.subscriptions().retire_after = 3600
    async with old.worker():
        pass
    await lab.publish(*(Placed(order_id=1) for _ in range(3)), Placed(order_id=2))
    lab.change(
        "UPDATE mainstay.message SET state = 'blocked' WHERE id IN (SELECT id FROM mainstay.message LIMIT 1)"
    )
    async with lab.messages.worker() as worker:
        await tidy(lab, lab.messages, worker)
        assert states(lab)["goes", "Placed"] == "open"
        lab.change(
            "UPDATE mainstay.subscription SET declared_at = now() - interval '2 h' WHERE subscriber = 'goes'"
        )
        await tidy(lab, lab.messages, worker)
        assert states(lab)["goes", "Placed"] == "retired"
        assert lab.left() == 0
        reasons = lab.look("SELECT errors -> 0 ->> 'error' FROM mainstay.message WHERE state = 'cancelled'")
        assert len(reasons) == 4 and all(
            reason.startswith("its subscriber was retired at") for reason in reasons
        )
        await lab.publish(Placed(order_id=3))
        assert lab.look("SELECT queue FROM mainstay.message WHERE ended_at IS NULL") == [
            "mainstay.unclaimed:Placed"
        ]
    async with old.worker():
        await lab.until(lambda: lab.left() == 0)
    assert states(lab)["goes", "Placed"] == "open"
    await old.database.close()


async def test_people_see_subscriptions_and_retire_one_at_once(lab: Lab) -> None:
    """Also while its worker runs: that one does not bring it back, one that starts does."""

    async def see(event: Event) -> None: ...

    lab.messages.subscribe(Placed, Other, name="see")(see)
    async with lab.messages.worker() as worker:
        found = await list_subscriptions(lab.db)
        assert [(one["subscriber"], one["event"], one["state"]) for one in found] == [
            ("see", "Other", "open"), ("see", "Placed", "open")
        ]  # fmt: skip
        assert await retire(lab.db, "see") == 0
        lab.change("UPDATE mainstay.subscription SET declared_at = now() - interval '1 min'")
        await tidy(lab, lab.messages, worker)
        assert set(states(lab).values()) == {"retired"}
    with pytest.raises(NoSuchSubscriber, match="'see'"):
        await retire(lab.db, "see")
    async with lab.messages.worker():
        assert set(states(lab).values()) == {"open"}


async def test_what_waits_moves_with_its_subscriber_to_another_queue(lab: Lab) -> None:
    """A new queue in the code takes the old queue's messages along."""

    async def see(event: Event) -> None: ...

    lab.messages.subscribe(Placed, name="see")(see)
    async with lab.messages.worker():
        pass
    await lab.publish(Placed(order_id=1))
    new = lab.another()
    new.subscribe(Placed, name="see", queue="stock")(see)
    async with new.worker():
        await lab.until(lambda: lab.left() == 0)
    await new.database.close()


async def test_transitions_of_a_subscription_are_those_drawn(lab: Lab) -> None:
    """The state machine on the page is what the table enforces."""
    import re
    from pathlib import Path

    import mainstay.patterns.events

    page = (Path(mainstay.patterns.events.__file__).parent / "event.md").read_text(encoding="utf-8")
    drawn = set(re.findall(r"^\s+(\w+) --> (\w+)", page, re.MULTILINE))
    allowed = set()
    names = ("opening", "open", "retired")
    for a in names:
        for b in names:
            lab.change("TRUNCATE mainstay.subscription")
            lab.change(
                "INSERT INTO mainstay.subscription (subscriber, event, queue, state)"
                " VALUES ('s', 'e', 'q', %s::mainstay.subscription_state)",
                a,
            )
            try:
                lab.change("UPDATE mainstay.subscription SET state = %s::mainstay.subscription_state", b)
                allowed |= {(a, b)} - {(a, a)}
            except Exception as error:
                assert "cannot go from" in str(error)
    assert drawn == allowed and drawn


async def test_functions_that_cannot_subscribe_are_refused_with_one_sentence(lab: Lab) -> None:
    """As the module is imported, not when the first event comes."""
    subscribe = lab.messages.subscribe

    def nothing() -> None: ...

    def more(event: Placed, price: int) -> None: ...

    def wrong(event: Other) -> None: ...

    def tx_in_thread(event: Placed, tx: Transaction) -> None: ...

    async def fine(event: Placed, tx: Transaction, limit: int = 3) -> None: ...

    cases: list[tuple[str, Any, Any]] = [
        ("must take the event as its first argument", nothing, [Placed]),
        ("has an argument 'price' that nothing fills", more, [Placed]),
        ("is subscribed to Placed, and its first argument is", wrong, [Placed]),
        ("two classes with the name 'Placed'", fine, [Placed, PlacedNow]),
        ("classes derived from Event", fine, [int]),
        ("subscribe to which event", fine, []),
    ]
    for sentence, function, events in cases:
        with pytest.raises(Misuse, match=sentence):
            subscribe(*events, name="x")(function)
    with pytest.raises(Misuse, match="no name that is the same in every process"):
        subscribe(Placed)(fine)
    subscribe(Placed, name="fine")(test_functions_of_this_module)
    with pytest.raises(Misuse, match="have a handler already"):
        subscribe(Placed, name="fine")(test_functions_of_this_module)
    with pytest.raises(Misuse, match="make it async"):
        subscribe(Placed, name="y")(sync_with_transaction)


async def test_functions_of_this_module(event: Placed | None = None) -> None:
    """A function at the top of a module needs no name given (and is no real test)."""
    assert event is None


def sync_with_transaction(event: Placed, tx: Transaction) -> None:
    """A plain function cannot await its transaction."""
