"""What the two editions have in common, and where they part."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shop_editions import SHOP, Edition, Providers

ids = st.integers(1, 8)
lines = st.lists(
    st.fixed_dictionaries({"product_id": st.integers(1, 5), "quantity": st.integers(1, 9)}),
    min_size=1,
    max_size=3,
    unique_by=lambda line: line["product_id"],
)
requests = st.one_of(
    st.builds(lambda n, q: ("POST", f"/products/{n}/restock", {"quantity": q}), ids, st.integers(0, 5)),
    st.builds(
        lambda name: ("POST", "/customers", {"email": f"{name}@example.org", "name": name}),
        st.sampled_from(["ada", "barbara", "donald"]),
    ),
    st.builds(lambda n, ls: ("POST", "/orders", {"customer_id": n, "lines": ls}), st.integers(1, 4), lines),
    st.builds(
        lambda n, verb: ("POST", f"/orders/{n}/{verb}", None),
        ids,
        st.sampled_from(["pay", "cancel", "ship"]),
    ),
    st.builds(
        lambda n, what: ("GET", what.format(n), None),
        ids,
        st.sampled_from(
            [
                "/products?after={}",
                "/products/{}",
                "/orders?before={}&limit=3",
                "/orders/{}",
                "/orders/{}/tracking",
                "/customers/{}/orders?before=6",
                "/reports/sales?limit={}",
                "/orders?limit=0",
            ]
        ),
    ),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(requests, st.sampled_from(["accept", "accept", "decline"])), max_size=15))
def test_one_after_the_other_both_answer_the_same(
    editions: dict[str, Edition], providers: Providers, steps: list[tuple[Any, str]]
) -> None:
    """Any serial sequence of requests gets the same replies and leaves the same rows and charges behind."""
    left = {}
    for name, edition in editions.items():
        edition.reset()
        providers.forget()
        replies = []
        for (method, path, body), mode in steps:
            # The carrier never declines.
            providers.mode = mode if path.endswith("/pay") else "accept"
            reply = edition.client.request(method, path, json=body)
            replies.append((reply.status_code, reply.json()))
        left[name] = (replies, edition.rows(), list(providers.calls))
    assert left["sharp"] == left["safe"]
    assert all(status < 500 for status, _ in left["safe"][0])


def test_both_have_the_same_files_and_the_same_interface(editions: dict[str, Edition]) -> None:
    """`diff -ru sharp safe` compares file with file, and OpenAPI tells no difference."""
    files = [{file.name for file in (SHOP / name).glob("*.py")} for name in editions]
    assert files[0] == files[1]
    documents = [edition.client.get("/openapi.json").json() for edition in editions.values()]
    assert documents[0] == documents[1]


def _buy_the_last_teapot(edition: Edition) -> list[int]:
    """Two orders at once for the one teapot; both have looked at its row before either can change it."""
    order = {"customer_id": 1, "lines": [{"product_id": 2, "quantity": 1}]}
    with edition.connect() as holder, edition.connect() as watcher, ThreadPoolExecutor(2) as pool:
        for _ in range(
            20
        ):  # on a busy machine they may not come within the time that the shop waits for a lock
            with holder.transaction():
                holder.execute("SELECT FROM products WHERE id = 2 FOR UPDATE")
                buyers = [pool.submit(edition.client.post, "/orders", json=order) for _ in range(2)]
                both = _wait_for_locks(watcher, 2)
            answers = sorted(buyer.result().status_code for buyer in buyers)
            if both:
                return answers
            edition.reset()
    raise AssertionError("two buyers never met at the teapot")


def _wait_for_locks(watcher: Any, sessions: int) -> bool:
    query = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0"
    )
    end = monotonic() + 1.5  # the shop waits two seconds for a lock
    while monotonic() < end:
        if watcher.execute(query).fetchone()[0] >= sessions:
            return True
    return False


def test_sharp_sells_the_last_teapot_twice(editions: dict[str, Edition]) -> None:
    """Both buyers are told that they have it, and the stock does not even look wrong."""
    sharp = editions["sharp"]
    assert _buy_the_last_teapot(sharp) == [201, 201]
    assert sharp.rows()["products"][1]["stock"] == 0


def test_safe_sells_the_last_teapot_once(editions: dict[str, Edition]) -> None:
    """The second buyer waits for the first one, then learns that none is left."""
    safe = editions["safe"]
    assert _buy_the_last_teapot(safe) == [201, 409]
    assert safe.rows()["products"][1]["stock"] == 0


def test_only_sharp_has_a_transaction_open_while_the_card_is_charged(
    editions: dict[str, Edition], providers: Providers
) -> None:
    """Seen from the provider's side, in PostgreSQL's own list of sessions."""
    for edition in editions.values():
        assert edition.client.post("/orders/1/pay").status_code == 200
    assert providers.open_transactions == [1, 0]


def test_safe_takes_over_a_payment_that_nobody_finished(
    editions: dict[str, Edition], providers: Providers
) -> None:
    """A charge with unknown end blocks the order for a minute; then the same key is asked again."""
    safe = editions["safe"]
    providers.mode = "fail"
    assert safe.client.post("/orders/1/pay").status_code == 502
    providers.mode = "accept"
    assert safe.client.post("/orders/1/pay").status_code == 409
    assert safe.client.post("/orders/1/cancel").status_code == 409
    with safe.connect() as connection:
        connection.execute("UPDATE orders SET changed_at = changed_at - interval '61 s' WHERE id = 1")
    assert safe.client.post("/orders/1/pay").json()["charge_id"] == "ch_1"
    assert providers.calls == ["charge-order-1"] * 2
    assert list(providers.done) == ["charge-order-1"]
