"""One embedded PostgreSQL for all tests of the wire side, a database for each test, and proxies on demand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio
from gates import Record

from mainstay.architect.diagnose.postgres import Database, Postgres
from mainstay.architect.diagnose.proxy import Proxy


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests here share one event loop, because the server's connections live in it."""
    for item in items:
        if "diagnose_wire" in item.path.parts and isinstance(item, pytest.Function):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def postgres() -> AsyncIterator[Postgres]:
    async with await Postgres.embedded() as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def database(postgres: Postgres) -> AsyncIterator[Database]:
    made = await postgres.create()
    yield made
    await postgres.drop(made)


@pytest_asyncio.fixture(loop_scope="session")
async def open_proxy(
    postgres: Postgres, database: Database
) -> AsyncIterator[Callable[..., Awaitable[Proxy]]]:
    """Opens proxies that are attached to the test's database."""
    proxies = []

    async def opened(actor: str = "alice") -> Proxy:
        proxy = Proxy(postgres, actor)
        proxies.append(proxy)
        await proxy.start()
        await proxy.attach(database)
        return proxy

    yield opened
    for proxy in proxies:
        await proxy.close()


@pytest_asyncio.fixture(loop_scope="session")
async def proxy(open_proxy: Callable[..., Awaitable[Proxy]]) -> Proxy:
    return await open_proxy()


@pytest.fixture
def record(proxy: Proxy) -> Record:
    gate = Record()
    proxy.gate = gate
    return gate
