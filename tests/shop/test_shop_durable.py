"""The durable edition: what a client sees of it, and whether its books add up however it is killed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest
from shop_durable import DurableShop, Stack, audit, books, log_of

from mainstay.architect.diagnose import leftovers


@pytest.fixture(scope="module")
def shop(postgresql_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DurableShop]:
    """Service, two workers and stub providers on a database of their own; afterwards none of them is left."""
    log = log_of(tmp_path_factory.mktemp("shop"))
    stack = Stack(
        postgresql_url,
        workers=2,
        lease=audit.LEASE,
        faults={"delay": 0.0},
        path=Path(__file__).parent,
        log=log,
    )
    with asyncio.Runner() as runner:
        runner.run(stack.__aenter__())
        try:
            with httpx.Client(base_url=stack.urls["service"], timeout=30) as client:
                yield DurableShop(stack, runner, client, runner.run(audit.stock(stack)))
            pids = stack.pids
        finally:
            runner.run(stack.__aexit__())
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_every_process_is_noted_for_whoever_sweeps(shop: DurableShop) -> None:
    """Where this one is killed, the next laboratory ends them."""
    noted = [lair.folder / "processes" for lair in leftovers._open]
    lines = [line for file in noted if file.exists() for line in file.read_text().splitlines()]
    assert set(shop.stack.pids) <= {int(line.split()[0]) for line in lines}


def test_an_order_is_fulfilled_step_by_step_and_placed_once(shop: DurableShop) -> None:
    """The same key gives the same order, however often; each step is seen, and the order ends shipped."""
    first, again = shop.place("one"), shop.place("one")
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    order = first.json()["id"]
    found = shop.progress(order, lambda now: now["status"] == "shipped" and now["fulfilment"] == "completed")
    assert {step["state"] for step in found["steps"]} == {"done"}
    assert shop.client.get(f"/orders/{order}/tracking").json()["tracking_number"].startswith("PX-")
    assert shop.client.post(f"/orders/{order}/cancel").status_code == 409


def test_a_request_needs_a_key_and_keeps_its_body(shop: DurableShop) -> None:
    """Without a key 400; the key of another body 422; an unknown product 404; nothing is placed."""
    order = {"customer_id": 1, "lines": [{"product_id": 1, "quantity": 1}]}
    assert shop.client.post("/orders", json=order).status_code == 400
    shop.place("two")
    assert shop.place("two", quantity=2).status_code == 422
    assert shop.place("three", product=99).status_code == 404


def test_a_declined_card_and_an_empty_shelf_end_in_a_cancelled_order(shop: DurableShop) -> None:
    """With the reason to be seen, and the pieces back in stock."""
    before = shop.client.get("/products").json()
    shop.faults(refuse=1.0)
    declined = shop.place("declined").json()["id"]
    found = shop.progress(declined, lambda now: now["status"] == "cancelled")
    shop.faults()
    assert found["reason"] == "step authorize_payment was refused: the card was declined"
    too_many = shop.place("too many", product=2, quantity=1000).json()["id"]
    found = shop.progress(too_many, lambda now: now["status"] == "cancelled")
    assert found["reason"] == "step reserve_stock was refused: too few of Teapot are left"
    assert shop.client.get("/products").json()[1:] == before[1:]


@pytest.mark.parametrize("fault", ["lose", "late"])
def test_a_customer_cancels_while_the_payment_is_on_its_way(shop: DurableShop, fault: str) -> None:
    """The step at work ends first; then all is undone: what the provider holds, and what it is yet to be asked for."""
    shop.faults(**{fault: 1.0})
    order = shop.place(f"regretted, {fault}").json()["id"]
    shop.progress(order, lambda now: now["steps"][2]["state"] == "begun")
    assert shop.client.post(f"/orders/{order}/cancel").status_code == 202
    shop.faults()
    found = shop.progress(order, lambda now: now["fulfilment"] == "compensated")
    assert found["status"] == "cancelled"
    assert found["reason"] == "cancelled: the customer asked for it"
    (entry,) = shop.wait_for_entries("payments", order, 1)
    assert entry["state"] == "voided"


def test_an_order_is_cancelled_before_any_step(shop: DurableShop) -> None:
    """Nothing has been done but to place it, and that is undone."""
    with psycopg.connect(shop.stack.conninfo, autocommit=True) as connection:
        connection.execute("INSERT INTO mainstay.queue (name, paused) VALUES ('default', true)")
        order = shop.place("early").json()["id"]
        assert shop.client.post(f"/orders/{order}/cancel").status_code == 202
        connection.execute("DELETE FROM mainstay.queue WHERE name = 'default'")
    found = shop.progress(order, lambda now: now["fulfilment"] == "compensated")
    assert found["status"] == "cancelled"
    assert {step["name"]: step["state"] for step in found["steps"]}["start"] == "undone"
    assert shop.client.post(f"/orders/{order}/cancel").status_code == 409


def test_the_books_add_up_whatever_is_killed(shop: DurableShop) -> None:
    """Orders under load while service, workers and connections are killed and the providers misbehave."""
    load, chaos = shop.storm(seed=11, seconds=10.0, every=0.8)
    assert chaos.kills.total() >= 3, chaos.kills
    assert len(load.replies) >= 4, "not even one order of each client"
    assert books.differences(shop.examine()) == []


def test_the_audit_finds_a_worker_that_sends_no_keys(shop: DurableShop) -> None:
    """Where answers are lost such a worker has money held twice, and may send mails twice; the rest is in order."""
    shop.stack.use_worker("keyless_worker:messages")
    shop.faults(lose=1.0)
    order = shop.place("keyless").json()["id"]
    shop.wait_for_entries("payments", order, 2)
    shop.faults()
    wrong = {finding.what: finding.wrong for finding in shop.examine()}
    assert wrong.pop("money")
    wrong.pop("mails")
    assert not any(wrong.values())
