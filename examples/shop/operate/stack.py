"""The shop's processes on a database of its own: started, killed, started again, and all ended at the end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import httpx
import psycopg
from sqlalchemy import URL

from mainstay.architect.diagnose.leftovers import note
from mainstay.architect.diagnose.postgres import Postgres

SHOP = Path(__file__).parents[1]
PROVIDERS = {"payments": "PAYMENT_URL", "carrier": "SHIPPING_URL", "mail": "MAIL_URL"}
STARTING = 60.0
"""Seconds that a process may take to be up."""
ENDING = 15.0
"""Seconds that the processes may take to end when asked; then they are killed."""


class Stack:
    """Service, workers and stub providers. An async context manager: leaving ends all of it.

    Args:
        database_url: of an empty database on a server on which another one may be made; None starts a server.
        workers: worker processes.
        lease: seconds until the work of a dead worker is taken over.
        faults: of all stub providers (`stubs/faults.py`).
        seed: of the stubs' faults.
        path: of more modules; a test has a worker of its own there (`use_worker`).
        log: where the processes write; None is this one's stderr.
    """

    def __init__(
        self,
        database_url: str | None = None,
        *,
        workers: int = 1,
        lease: float = 30.0,
        faults: Mapping[str, Any] | None = None,
        seed: int = 1,
        path: Path | None = None,
        log: Path | None = None,
    ) -> None:
        self._database_url = database_url
        self._names = [f"worker {number + 1}" for number in range(workers)]
        self._faults = dict(faults or {})
        self._worker = "durable.worker:messages"
        self._log = log.open("ab") if log is not None else None
        self._exits = AsyncExitStack()
        self._worker_options = [
            "--lease",
            str(lease),
            "--concurrency",
            "20",
            "--grace",
            "5",
            "--log-level",
            "warning",
        ]
        self._listeners: dict[str, socket.socket] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(SHOP) if path is None else f"{SHOP}{os.pathsep}{path}",
            "SEED": str(seed),
            "FAULTS": json.dumps(self._faults),
        }
        self.urls: dict[str, str] = {}
        """Of the service and each provider."""
        self.conninfo = ""
        """Of the database, for libpq."""

    @property
    def pids(self) -> list[int]:
        """Of all processes that run now."""
        return [process.pid for process in self._processes.values()]

    @property
    def fragile(self) -> list[str]:
        """The processes that may be killed at any time: the providers keep the books and stay."""
        return ["service", *self._names]

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.terminate()
        await asyncio.to_thread(self._reap)
        for listener in self._listeners.values():
            listener.close()
        if self._log is not None:
            self._log.close()
        await self._exits.aclose()

    async def _start(self) -> None:
        server = Postgres.at(self._database_url) if self._database_url else Postgres.embedded()
        postgres = await self._exits.enter_async_context(await server)
        self.conninfo = postgres.url(await postgres.create())
        self._environment["DATABASE_URL"] = _sqlalchemy_url(self.conninfo)
        for name in ("service", *PROVIDERS):
            self._listeners[name] = socket.create_server(("127.0.0.1", 0))
            self.urls[name] = f"http://127.0.0.1:{self._listeners[name].getsockname()[1]}"
        self._environment |= {variable: self.urls[name] for name, variable in PROVIDERS.items()}
        for name in PROVIDERS:
            self.start(name)
        await asyncio.to_thread(self._migrate)
        for name in ("service", *self._names):
            self.start(name)
        async with httpx.AsyncClient() as client:
            for name in self.urls:
                path = "/health" if name == "service" else "/ledger"
                (await client.get(self.urls[name] + path, timeout=STARTING)).raise_for_status()

    def start(self, name: str) -> None:
        """Start a process, or start it again."""
        if name.startswith("worker"):
            command, files = ["mainstay", "worker", self._worker, *self._worker_options], ()
        else:
            module = "durable.app" if name == "service" else f"stubs.{name}"
            listener = self._listeners[name].fileno()
            command = ["uvicorn", f"{module}:app", "--fd", str(listener), "--log-level", "error"]
            files = (listener,)
        # In a session of its own, so that Ctrl-C comes here alone and the end is orderly.
        self._processes[name] = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=SHOP,
            env=self._environment,
            pass_fds=files,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        note(self._processes[name].pid)  # so that it is ended after all where this one is killed

    def alive(self, name: str) -> bool:
        """Whether the process runs."""
        return self._processes[name].poll() is None

    def kill(self, name: str) -> None:
        """SIGKILL."""
        self._processes[name].send_signal(signal.SIGKILL)
        self._processes[name].wait()

    def revive(self) -> list[str]:
        """Start again what has ended by itself, as whoever runs services does; the names of these.

        A process whose connection is cut in the moment it starts says so and ends.
        """
        ended = [name for name in self.fragile if not self.alive(name)]
        for name in ended:
            self.start(name)
        return ended

    def use_worker(self, app: str) -> None:
        """Have the workers run another app: those that are there are killed."""
        self._worker = app
        for name in self._names:
            self.kill(name)
            self.start(name)

    async def ledgers(self) -> dict[str, dict[str, Any]]:
        """What the providers have in their books."""
        async with httpx.AsyncClient() as client:
            return {
                name: (await client.get(f"{self.urls[name]}/ledger", timeout=STARTING)).json()
                for name in PROVIDERS
            }

    async def set_faults(self, **faults: Any) -> None:
        """Have the providers misbehave like this from now on; nothing means not at all."""
        async with httpx.AsyncClient() as client:
            for name in PROVIDERS:
                own = faults if name == "payments" else faults | {"refuse": 0.0}
                (await client.put(f"{self.urls[name]}/faults", json=own, timeout=STARTING)).raise_for_status()

    def _migrate(self) -> None:
        self._run("alembic", "-c", "durable/alembic.ini", "upgrade", "head")
        # Before anything is published: an event is for the subscribers that the database knows of.
        self._run("mainstay", "subscriptions", "declare", self._worker)
        with psycopg.connect(self.conninfo) as connection:
            connection.execute((SHOP / "durable" / "seed.sql").read_bytes())

    def _run(self, *command: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=SHOP,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")

    def _reap(self) -> None:
        for process in self._processes.values():
            try:
                process.wait(timeout=ENDING)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _sqlalchemy_url(conninfo: str) -> str:
    """The same address as SQLAlchemy writes it; libpq's parameters go into the query, a socket's folder too."""
    parameters = {
        name: str(value) for name, value in psycopg.conninfo.conninfo_to_dict(conninfo).items() if value
    }
    url = URL.create(
        "postgresql+psycopg",
        username=parameters.pop("user", None),
        password=parameters.pop("password", None),
        database=parameters.pop("dbname"),
        query=parameters,
    )
    return url.render_as_string(hide_password=False)
