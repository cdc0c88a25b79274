"""The audit of the durable shop finds each thing that does not add up."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
from shop_durable import books

SOUND = books.Facts(
    stock_before={1: 10},
    replies={"a": (201, {"id": 1}), "b": (201, {"id": 2})},
    differing=[],
    tables={
        "orders": [
            {"id": 1, "status": "shipped", "total_cents": 200},
            {"id": 2, "status": "cancelled", "total_cents": 100},
        ],
        "lines": [
            {"order_id": 1, "product_id": 1, "quantity": 2, "price_cents": 100},
            {"order_id": 2, "product_id": 1, "quantity": 1, "price_cents": 100},
        ],
        "products": [{"id": 1, "name": "Kettle", "stock": 8}],
        "payments": [{"order_id": 1, "amount_cents": 200, "charge_id": "au_1"}],
        "shipments": [{"order_id": 1, "tracking_number": "PX-1"}],
        "product_totals": [{"product_id": 1, "quantity": 2, "revenue_cents": 200}],
        "event_totals": [
            {"event": "OrderPlaced", "orders": 2},
            {"event": "OrderPaid", "orders": 1},
            {"event": "OrderShipped", "orders": 1},
            {"event": "OrderCancelled", "orders": 1},
        ],
        "sagas": [
            {"id": 1, "order_id": 1, "state": "completed", "stuck": None, "ended": True},
            {"id": 2, "order_id": 2, "state": "compensated", "stuck": None, "ended": True},
        ],
        "messages": [],
    },
    ledgers={
        "payments": {
            "entries": [
                {"id": "au_1", "amount": 200, "captures": 1, "state": "captured", "reference": "order-1"},
                {"id": "au_2", "amount": 100, "captures": 0, "state": "voided", "reference": "order-2"},
            ]
        },
        "carrier": {"entries": [{"tracking_number": "PX-1", "reference": "order-1"}]},
        "mail": {"entries": [{"subject": "order 1 is confirmed"}, {"subject": "order 2 is cancelled"}]},
    },
)
Broken = Callable[[books.Facts], Any]


def _again(rows: list[Any], **changes: Any) -> None:
    rows.append({**rows[0], **changes})


BREAKS: dict[str, tuple[str, Broken]] = {
    "a request placed two orders": ("requests", lambda f: _again(f.tables["orders"], id=3)),
    "two requests got one order": ("requests", lambda f: f.replies.update(c=(201, {"id": 1}))),
    "an order was promised and lost": ("requests", lambda f: f.replies.update(c=(201, {"id": 9}))),
    "a request was never answered": ("requests", lambda f: f.replies.update(c=(0, "timeout"))),
    "a repetition was answered otherwise": ("requests", lambda f: f.differing.append("a")),
    "an order hangs": ("orders", lambda f: f.tables["orders"][1].update(status="paying")),
    "an order has two sagas": ("sagas", lambda f: _again(f.tables["sagas"], id=3)),
    "a saga ended otherwise": ("sagas", lambda f: f.tables["sagas"][1].update(state="completed")),
    "money was taken twice": ("money", lambda f: f.ledgers["payments"]["entries"][0].update(captures=2)),
    "money was taken under two numbers": (
        "money",
        lambda f: _again(f.ledgers["payments"]["entries"], id="au_3"),
    ),
    "money of a cancelled order was taken": (
        "money",
        lambda f: f.ledgers["payments"]["entries"][1].update(state="captured", captures=1),
    ),
    "money is still held": (
        "money",
        lambda f: f.ledgers["payments"]["entries"][1].update(state="authorized"),
    ),
    "a payment has another number": ("money", lambda f: f.tables["payments"][0].update(charge_id="au_2")),
    "a piece is missing": ("stock", lambda f: f.tables["products"][0].update(stock=7)),
    "a piece came back twice": ("stock", lambda f: f.tables["products"][0].update(stock=9)),
    "two parcels": ("parcels", lambda f: _again(f.ledgers["carrier"]["entries"])),
    "no parcel": ("parcels", lambda f: f.ledgers["carrier"]["entries"].clear()),
    "a parcel of a cancelled order": (
        "parcels",
        lambda f: _again(f.ledgers["carrier"]["entries"], reference="order-2"),
    ),
    "another parcel's number": ("parcels", lambda f: f.tables["shipments"][0].update(tracking_number="PX-2")),
    "an event was counted twice": ("events", lambda f: f.tables["event_totals"][2].update(orders=2)),
    "an event was lost": ("events", lambda f: f.tables["event_totals"][0].update(orders=1)),
    "a sale was counted twice": ("sales report", lambda f: f.tables["product_totals"][0].update(quantity=4)),
    "two mails": ("mails", lambda f: _again(f.ledgers["mail"]["entries"])),
    "the wrong mail": (
        "mails",
        lambda f: f.ledgers["mail"]["entries"][1].update(subject="order 2 is confirmed"),
    ),
    "a dead message": (
        "messages left",
        lambda f: f.tables["messages"].append({"id": 1, "kind": "send mail", "state": "dead", "error": "x"}),
    ),
    "a message at work": (
        "messages left",
        lambda f: f.tables["messages"].append({"id": 1, "kind": "mails", "state": "running", "error": None}),
    ),
}


def test_sound_books_add_up() -> None:
    """Nothing is found where nothing is wrong."""
    assert books.differences(books.audit(SOUND)) == []


@pytest.mark.parametrize("name", BREAKS)
def test_what_is_wrong_is_found(name: str) -> None:
    """In the line of the audit where it belongs."""
    line, break_it = BREAKS[name]
    facts = deepcopy(SOUND)
    break_it(facts)
    wrong = {finding.what: finding.wrong for finding in books.audit(facts)}
    assert wrong[line]


def test_an_order_that_is_stuck_with_a_reason_is_told() -> None:
    """What it has in the air, stock and money and its message, is not held against the books."""
    facts = deepcopy(SOUND)
    facts.tables["orders"][1].update(status="paying")
    facts.tables["sagas"][1].update(
        state="running", ended=False, stuck="step capture_payment has failed 8 times"
    )
    facts.tables["products"][0].update(stock=7)
    facts.tables["event_totals"][3].update(orders=0)
    facts.tables["messages"].append(
        {"id": 1, "kind": "saga/fulfil order/capture_payment", "state": "scheduled", "error": "x"}
    )
    facts.ledgers["payments"]["entries"][1].update(state="authorized")
    facts.ledgers["mail"]["entries"].pop()
    findings = books.audit(facts)
    assert books.differences(findings) == []
    assert "order 2: step capture_payment has failed 8 times" in findings[1].found
