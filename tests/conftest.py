"""What the tests share: the servers that are there, and how a missing one is met."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable

import pytest

POSTGRESQL = os.environ.get("MAINSTAY_TEST_DATABASE_URL", "postgresql://postgres@127.0.0.1:5432/postgres")


def require(there: bool, what: str) -> None:
    """Skip where `what` is missing; fail instead where MAINSTAY_REQUIRE_SERVICES=1 is set, as in CI."""
    if there:
        return
    if os.environ.get("MAINSTAY_REQUIRE_SERVICES") == "1":
        pytest.fail(f"{what} is missing, and MAINSTAY_REQUIRE_SERVICES=1 says that it must be there")
    pytest.skip(f"{what} is missing")


def listening(port: int) -> bool:
    """Whether something listens on the port on loopback."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="session")
def postgresql_url() -> str:
    """URL of an empty database on a PostgreSQL server that was there before the tests."""
    require(listening(5432), "PostgreSQL on port 5432")
    return POSTGRESQL


@pytest.fixture(scope="session")
def chromium() -> tuple[str, str]:
    """Paths of Chromium and its driver."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    require(bool(browser and driver), "Chromium with its driver")
    assert browser and driver
    return browser, driver


@pytest.fixture(scope="session")
def node() -> str:
    """Path of Node.js."""
    found = shutil.which("node")
    require(bool(found and shutil.which("npm")), "Node.js with npm")
    assert found
    return found


@pytest.fixture(scope="session")
def needs_server() -> Callable[[int, str], None]:
    """``needs_server(port, name)``: go on only where that server listens on loopback."""
    return lambda port, name: require(listening(port), f"{name} on port {port}")
