"""What the tests share: the servers that are there, and how a missing one is met."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from cluster import Cluster, binaries
from hypothesis import HealthCheck, settings

NAMED = os.environ.get("MAINSTAY_TEST_DATABASE_URL")
LONG = """
test_races test_engine test_the_law test_demo test_node test_leftovers test_interrupt
test_saga_crash test_saga_law test_death test_crash test_interleavings test_schedules_crash
test_worker_command test_cli_refusals test_command_line test_wings test_shop_durable
test_broker_outage test_database_troubles test_outages test_deploys test_chaos
test_receive test_publish_and_consume test_saga test_jobs test_worker test_idempotency_crash
""".split()  # noqa: SIM905 (nobody reads a list of thirty lines)
"""Files of some seconds each. They are begun first, or the last of them would be waited for by one process alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; otherwise as they stand."""
    items.sort(key=lambda item: item.path.stem not in LONG)


# How long an example takes says nothing where others use the machine too. In CI the same examples are tried each time:
# what fails there failed before it was submitted. Elsewhere new ones are looked for.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("busy"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("MAINSTAY_REQUIRE_SERVICES") == "1" else "busy")


def require(there: bool, what: str) -> None:
    """Skip where `what` is missing; fail instead where MAINSTAY_REQUIRE_SERVICES=1 is set, as in CI."""
    if there:
        return
    if os.environ.get("MAINSTAY_REQUIRE_SERVICES") == "1":
        pytest.fail(f"{what} is missing, and MAINSTAY_REQUIRE_SERVICES=1 says that it must be there")
    pytest.skip(f"{what} is missing")


@pytest.fixture(scope="session")
def required() -> Callable[[bool, str], None]:
    """`require`, for tests in folders with a conftest of their own."""
    return require


def listening(port: int) -> bool:
    """Whether something listens on the port on loopback."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def guarded(server: Cluster) -> Iterator[None]:
    """Stop the server and remove its data also where these tests are killed: a process waits for the end of a pipe."""
    postmaster = (server.data / "postmaster.pid").read_text().split()[0]
    waiting = 'read _; kill -QUIT "$0"; sleep 1; rm -rf "$1"'
    with subprocess.Popen(
        ["sh", "-c", waiting, postmaster, str(server.folder)], stdin=subprocess.PIPE, start_new_session=True
    ) as guard:
        yield
        guard.kill()


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """URL of an empty database on a PostgreSQL server that was there before the test.

    The server that MAINSTAY_TEST_DATABASE_URL names; else one of the installed PostgreSQL, started for these tests with
    its data in memory, so that no other's load, locks or checkpoints are met; else the one on port 5432.
    """
    if NAMED is not None:
        yield NAMED
    elif binaries() is not None:
        with Cluster() as server, guarded(server):
            yield server.dsn
    else:
        require(listening(5432), "PostgreSQL on port 5432")
        yield "postgresql://postgres@127.0.0.1:5432/postgres"


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
