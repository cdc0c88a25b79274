"""What the shop does, the same in both editions."""

from __future__ import annotations

import pytest
from shop_editions import SHOP, Edition, Providers


def test_health_reaches_the_database(edition: Edition) -> None:
    """GET /health answers ok."""
    assert edition.client.get("/health").json() == {"status": "ok"}


def test_products_come_in_pages_by_id(edition: Edition) -> None:
    """`after` and `limit` cut the list."""
    assert [row["sku"] for row in edition.client.get("/products").json()] == [
        "KET-1",
        "POT-1",
        "CUP-6",
        "TEA-A",
    ]
    page = edition.client.get("/products", params={"after": 1, "limit": 2}).json()
    assert [row["id"] for row in page] == [2, 3]


def test_restock_adds_to_the_stock(edition: Edition) -> None:
    """The reply shows the new stock, and so does the product."""
    assert edition.client.post("/products/2/restock", json={"quantity": 5}).json()["stock"] == 6
    assert edition.client.get("/products/2").json()["stock"] == 6


def test_an_email_address_belongs_to_one_customer(edition: Edition) -> None:
    """The second registration is refused."""
    new = {"email": "barbara@example.org", "name": "Barbara"}
    assert edition.client.post("/customers", json=new).status_code == 201
    assert edition.client.post("/customers", json=new).status_code == 409


def test_an_order_reserves_stock_and_can_be_read(edition: Edition) -> None:
    """Order, list and history show it; the stock is smaller by what was ordered."""
    lines = [{"product_id": 1, "quantity": 2}, {"product_id": 4, "quantity": 3}]
    placed = edition.client.post("/orders", json={"customer_id": 2, "lines": lines})
    assert placed.status_code == 201
    assert placed.json() == {"id": 6, "status": "placed", "total_cents": 2 * 3900 + 3 * 450}
    shown = edition.client.get("/orders/6").json()
    assert shown["customer"] == "Grace"
    assert [(line["product"], line["quantity"]) for line in shown["lines"]] == [("Kettle", 2), ("Assam", 3)]
    assert edition.client.get("/orders").json()[0] == shown
    assert [row["id"] for row in edition.client.get("/customers/2/orders").json()] == [6, 5, 2]
    assert edition.client.get("/products/1").json()["stock"] == 10


def test_an_order_that_asks_for_too_much_changes_nothing(edition: Edition) -> None:
    """One product with too few pieces refuses the whole order."""
    before = edition.rows()
    lines = [{"product_id": 1, "quantity": 1}, {"product_id": 2, "quantity": 2}]
    refused = edition.client.post("/orders", json={"customer_id": 1, "lines": lines})
    assert (refused.status_code, refused.json()) == (409, {"detail": "too few of Teapot are left"})
    assert edition.rows() == before


def test_an_order_is_paid_once(edition: Edition, providers: Providers) -> None:
    """The second payment is refused, and the provider hears of one."""
    paid = edition.client.post("/orders/1/pay")
    assert paid.json() == {"order_id": 1, "amount_cents": 4350, "charge_id": "ch_1"}
    assert edition.client.post("/orders/1/pay").status_code == 409
    assert providers.calls == ["charge-order-1"]
    assert edition.client.get("/orders/1").json()["status"] == "paid"


def test_a_declined_card_leaves_the_order_placed(edition: Edition, providers: Providers) -> None:
    """Nothing is written, and another try may succeed."""
    before = edition.rows()
    providers.mode = "decline"
    assert edition.client.post("/orders/1/pay").status_code == 402
    assert edition.rows() == before
    providers.mode = "accept"
    assert edition.client.post("/orders/1/pay").status_code == 200


def test_a_provider_that_fails_is_a_502(edition: Edition, providers: Providers) -> None:
    """The client learns that the fault is further away."""
    providers.mode = "fail"
    assert edition.client.post("/orders/1/pay").status_code == 502
    assert edition.client.post("/orders/2/ship").status_code == 502


def test_cancelling_gives_the_stock_back(edition: Edition) -> None:
    """Once; a second cancellation and one of a paid order are refused."""
    assert edition.client.post("/orders/4/cancel").json()["status"] == "cancelled"
    assert edition.client.get("/products/4").json()["stock"] == 82
    assert edition.client.post("/orders/4/cancel").status_code == 409
    assert edition.client.post("/orders/2/cancel").status_code == 409


def test_a_paid_order_is_shipped_once_and_can_be_tracked(edition: Edition, providers: Providers) -> None:
    """An unpaid or shipped order is refused."""
    assert edition.client.post("/orders/1/ship").status_code == 409
    assert edition.client.post("/orders/2/ship").json() == {"order_id": 2, "tracking_number": "PX-2"}
    assert edition.client.post("/orders/2/ship").status_code == 409
    assert edition.client.get("/orders/2/tracking").json() == {
        "tracking_number": "PX-2",
        "state": "on its way",
    }
    assert providers.calls == ["parcel-order-2"]


def test_the_sales_report_counts_what_was_paid(edition: Edition) -> None:
    """Best first, without placed and cancelled orders."""
    assert edition.client.get("/reports/sales").json() == [
        {"product": "Six cups", "quantity": 2, "revenue_cents": 9600},
        {"product": "Teapot", "quantity": 1, "revenue_cents": 5200},
    ]


@pytest.mark.parametrize(
    ("path", "missing"),
    [("/products/99", "product"), ("/orders/99", "order"), ("/orders/1/tracking", None)],
)
def test_what_is_not_there_is_a_404(edition: Edition, path: str, missing: str | None) -> None:
    """The reply names what is missing."""
    reply = edition.client.get(path)
    assert reply.status_code == 404
    assert reply.json() == {"detail": f"no such {missing}" if missing else "the order has no parcel"}


@pytest.mark.parametrize(
    "body",
    [
        {"customer_id": 1, "lines": []},
        {"customer_id": 0, "lines": [{"product_id": 1, "quantity": 1}]},
        {"customer_id": 1, "lines": [{"product_id": 1, "quantity": 0}]},
        {"customer_id": 1, "lines": [{"product_id": 2**31, "quantity": 1}]},
        {"customer_id": 1, "lines": [{"product_id": 1, "quantity": 1}] * 2},
        {"customer_id": 1, "lines": [{"product_id": n, "quantity": 1} for n in range(1, 22)]},
    ],
)
def test_an_order_that_makes_no_sense_is_a_422(edition: Edition, body: dict[str, object]) -> None:
    """Empty, unbounded or doubled lines are refused before the database is asked."""
    assert edition.client.post("/orders", json=body).status_code == 422


def test_the_read_me_lists_every_endpoint(edition: Edition) -> None:
    """The table in the README is complete."""
    text = (SHOP / "README.md").read_text()
    for path, methods in edition.client.get("/openapi.json").json()["paths"].items():
        plain = (
            path.replace("{product_id}", "{id}")
            .replace("{order_id}", "{id}")
            .replace("{customer_id}", "{id}")
        )
        for method in methods:
            assert f"`{method.upper()} {plain}`" in text
