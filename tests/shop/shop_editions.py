"""The shop as the tests see it: its processes, its databases and the providers it calls."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
from sqlalchemy import make_url

SHOP = Path(__file__).parents[2] / "examples" / "shop"
EDITIONS = ("sharp", "safe")
TABLES = ("customers", "products", "orders", "lines", "payments", "shipments")


@dataclass
class Providers:
    """The payment provider and the carrier in one server; a key that was used gets its first answer again."""

    address: str = ""
    mode: str = "accept"
    """``accept``, ``decline`` (402) or ``fail`` (500 after it was done)."""
    done: dict[str, Any] = field(default_factory=dict)
    """What was done, by idempotency key."""
    calls: list[str] = field(default_factory=list)
    """The keys of all calls, in order."""
    open_transactions: list[int] = field(default_factory=list)
    """For each charge: how many transactions were open in the databases meanwhile."""
    server_url: str = ""

    def answer(self, key: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.calls.append(key)
        if key.startswith("charge"):
            self.open_transactions.append(self._count_open())
        if self.mode == "decline":
            return 402, {"reason": "no cover"}
        # The number follows from the order, so that both editions are told the same.
        number = body["reference"].removeprefix("order-")
        self.done.setdefault(key, {"id": f"ch_{number}", "tracking_number": f"PX-{number}"})
        return (500, {}) if self.mode == "fail" else (201, self.done[key])

    def _count_open(self) -> int:
        with psycopg.connect(self.server_url) as connection:
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname LIKE %s AND state = 'idle in transaction'",
                [f"mainstay_shop_{os.getpid()}_%"],
            ).fetchone()
        assert row
        return int(row[0])

    def forget(self) -> None:
        self.mode = "accept"
        self.done.clear()
        self.calls.clear()
        self.open_transactions.clear()


@contextmanager
def database(server_url: str, name: str) -> Iterator[str]:
    """A new empty database; dropped at the end. Gives its URL for SQLAlchemy."""
    with psycopg.connect(server_url, autocommit=True) as server:
        server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")  # of a process that was killed
        server.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        try:
            url = make_url(server_url).set(drivername="postgresql+psycopg", database=name)
            yield url.render_as_string(hide_password=False)
        finally:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def alembic(url: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Alembic in the shop's folder."""
    return subprocess.run(
        [sys.executable, "-m", "alembic", *words],
        cwd=SHOP,
        env={**os.environ, "DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=True,
    )


@contextmanager
def service(module: str, folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """A service as a process; gives its base URL. Requests wait in the socket until it is up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", f"{module}:app", "--fd", str(listener.fileno())],
            cwd=folder,
            env={**os.environ, **environment},
            pass_fds=[listener.fileno()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            process.terminate()
            process.wait(timeout=20)


@dataclass
class Edition:
    """One running edition of the shop."""

    name: str
    client: httpx.Client
    conninfo: str

    def connect(self) -> psycopg.Connection:
        """A connection of our own to its database."""
        return psycopg.connect(self.conninfo, autocommit=True, options="-c synchronous_commit=off")

    def reset(self) -> None:
        """The rows of the seed, and nothing else."""
        with self.connect() as connection:
            for table in reversed(TABLES):  # cheaper than TRUNCATE, which makes new files
                connection.execute(f"DELETE FROM {table}")
                connection.execute(f"SELECT setval('{table}_id_seq', 1, false)")
            connection.execute((SHOP / "seed.sql").read_bytes())

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """All rows of all tables, without the columns that hold a clock."""
        found = {}
        with self.connect() as connection:
            for table in TABLES:
                cursor = connection.execute(
                    f"SELECT to_jsonb(t) - 'placed_at' - 'changed_at' FROM {table} t ORDER BY id"
                )
                found[table] = [row[0] for row in cursor]
        return found
