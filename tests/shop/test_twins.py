"""The twins of each sharp edge: one small service, with the edge and without it."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any

import httpx
import psycopg
import pytest
import yaml
from shop_editions import Providers, database, service
from sqlalchemy import make_url

from mainstay.architect import catalog

# DECLINE is a POST while the payment provider refuses cards.
CONVERSATIONS: dict[str, list[tuple[str, str, Any, int]]] = {
    "check-then-act": [
        ("GET", "/accounts/1", None, 200),
        ("GET", "/accounts/2", None, 404),
        ("POST", "/accounts/1/withdrawals", {"amount": 80}, 201),
        ("POST", "/accounts/1/withdrawals", {"amount": 80}, 409),
        ("POST", "/accounts/1/withdrawals", {"amount": 0}, 422),
        ("POST", "/accounts/2/withdrawals", {"amount": 80}, 404),
        ("GET", "/accounts/1", None, 200),
    ],
    "external-call-in-transaction": [
        ("DECLINE", "/orders/1/checkout", None, 402),
        ("POST", "/orders/1/checkout", None, 200),
        ("POST", "/orders/9/checkout", None, 404),
    ],
    "n-plus-one": [
        ("GET", "/orders", None, 200),
        ("GET", "/orders?limit=2", None, 200),
        ("GET", "/orders?limit=0", None, 422),
        ("GET", "/orders/1", None, 200),
        ("GET", "/orders/9", None, 404),
    ],
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_sharp_and_safe_answer_the_same_to_one_request_after_another(
    name: str, postgresql_url: str, providers: Providers
) -> None:
    """What a client sees alone is the same; the edge needs company, growth or a slow provider to show."""
    edge = catalog.edges()[name]
    scenario = yaml.safe_load((edge.folder / "scenario.yaml").read_text())
    (scheme,) = scenario["service"]["database"].values()
    said = {}
    with ExitStack() as stack:
        clients = {}
        for twin in ("sharp", "safe"):
            url = stack.enter_context(database(postgresql_url, f"mainstay_twin_{os.getpid()}_{twin}"))
            plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
            with psycopg.connect(plain) as connection:
                for step in scenario["setup"]:
                    connection.execute(step["sql"])
            address = stack.enter_context(
                service(
                    twin,
                    edge.folder,
                    {
                        "DATABASE_URL": make_url(url).set(drivername=scheme).render_as_string(False),
                        "PAYMENT_URL": providers.address,
                    },
                )
            )
            clients[twin] = stack.enter_context(httpx.Client(base_url=address, timeout=60))
        for twin, client in clients.items():
            said[twin] = []
            for method, path, body, status in CONVERSATIONS[name]:
                providers.mode = "decline" if method == "DECLINE" else "accept"
                reply = client.request(method.replace("DECLINE", "POST"), path, json=body)
                assert reply.status_code == status, (twin, path, reply.text)
                said[twin].append(reply.json())
    assert said["sharp"] == said["safe"]
