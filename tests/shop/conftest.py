"""Both editions of the shop, each as a process of its own on a database of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import httpx
import pytest
from psycopg.conninfo import make_conninfo
from shop_editions import EDITIONS, SHOP, Edition, Providers, alembic, database, service
from sqlalchemy import make_url


@pytest.fixture(scope="session")
def provider_server(postgresql_url: str) -> Iterator[Providers]:
    """The outside world, on loopback."""
    providers = Providers(server_url=postgresql_url)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._send(*providers.answer(self.headers["Idempotency-Key"], body))

        def do_GET(self) -> None:
            self._send(200, {"state": "on its way"})

        def _send(self, status: int, body: dict[str, Any]) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    providers.address = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, daemon=True).start()
    yield providers
    server.shutdown()
    server.server_close()


@pytest.fixture
def providers(provider_server: Providers) -> Providers:
    """The outside world, with nothing done yet."""
    provider_server.forget()
    return provider_server


@pytest.fixture(scope="session")
def running(postgresql_url: str, provider_server: Providers) -> Iterator[dict[str, Edition]]:
    """Both editions, by name."""
    with ExitStack() as stack:
        editions = {}
        for name in EDITIONS:
            url = stack.enter_context(database(postgresql_url, f"mainstay_shop_{os.getpid()}_{name}"))
            alembic(url, "upgrade", "head")
            address = stack.enter_context(
                service(
                    f"{name}.app",
                    SHOP,
                    {
                        "DATABASE_URL": url,
                        "PAYMENT_URL": provider_server.address,
                        "SHIPPING_URL": provider_server.address,
                    },
                )
            )
            client = stack.enter_context(httpx.Client(base_url=address, timeout=60))
            plain = make_url(url)
            conninfo = make_conninfo(
                host=plain.host,
                port=plain.port,
                user=plain.username,
                password=plain.password,
                dbname=plain.database,
            )
            editions[name] = Edition(name, client, conninfo)
        yield editions


@pytest.fixture
def editions(running: dict[str, Edition], providers: Providers) -> dict[str, Edition]:
    """Both editions with the rows of the seed."""
    for edition in running.values():
        edition.reset()
    return running


@pytest.fixture(params=EDITIONS)
def edition(editions: dict[str, Edition], request: pytest.FixtureRequest) -> Edition:
    """One edition with the rows of the seed; the test runs once with each."""
    return editions[request.param]
