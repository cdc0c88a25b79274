"""A PostgreSQL server of our own: it can be stopped as a power cut stops it, set to another time, and thrown away."""

from __future__ import annotations

import os
import pwd
import random
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import psycopg

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "64MB",
    # A crash of the server loses nothing that was committed; that the disk keeps what it says it has is not the test.
    "fsync": "off",
    "log_min_messages": "fatal",
}


MOVE_TIME = """
UPDATE mainstay.message SET
    published_at = published_at - :by, ready_at = ready_at - :by, rank = rank - :by, expires_at = expires_at - :by,
    ended_at = ended_at - :by, keep_until = keep_until - :by, unique_until = unique_until - :by;
UPDATE mainstay.worker SET alive_until = alive_until - :by, started_at = started_at - :by;
UPDATE mainstay.queue SET next_start = next_start - :by;
UPDATE mainstay.saga SET deadline = deadline - :by
"""
"""Steps the clock where it cannot be set: every time that is stored lies that much further back."""


def binaries() -> Path | None:
    """Where initdb and pg_ctl are; None where there are none."""
    found = [Path(path).resolve() for path in (shutil.which("initdb"),) if path]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)
    return found[0].parent if found else None


def faketime() -> str | None:
    """The library that lets a process live at another time; None where it is not installed (package libfaketime)."""
    found = [str(path) for path in Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")]
    return found[0] if found else None


PORTS = range(30_000, 32_768)
"""Below those that Linux gives to outgoing connections, any of which may be taken at the next moment."""
_kept: list[socket.socket] = []


def free_port() -> int:
    """A port on loopback that nobody listens on; nobody else who asks here is given it while this process lives.

    Servers are started on it later, and again after they were stopped, so being free at the moment is not enough: it
    is kept by the UDP socket of the same number, which the system lets go whatever becomes of this process.

    Raises:
        RuntimeError: none is free.
    """
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        keeper = socket.socket(type=socket.SOCK_DGRAM)
        try:
            keeper.bind(("127.0.0.1", port))
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
        except OSError:
            keeper.close()
        else:
            _kept.append(keeper)
            return port
    raise RuntimeError(f"no port between {PORTS[0]} and {PORTS[-1]} is free")


class Cluster:
    """Makes, starts and stops the server. As root it runs as ``nobody``: PostgreSQL refuses root.

    Args:
        parent: the folder to make the cluster's folder in; default: memory where there is some, else the usual place.
        settings: of postgresql.conf, besides those above.
        clock: whether the time can be set, by libfaketime; ignored where it is not installed.
    """

    def __init__(
        self, parent: str | None = None, *, settings: dict[str, str] | None = None, clock: bool = False
    ) -> None:
        bin = binaries()
        assert bin is not None, "initdb is not installed"
        self._bin = bin
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.folder = Path(tempfile.mkdtemp(prefix="mainstay_cluster_", dir=parent or memory))
        self.data = self.folder / "data"
        self.port = free_port()
        self._library = faketime() if clock else None
        self._offset = self.folder / "offset"
        self._settings = {**SETTINGS, **(settings or {}), "port": str(self.port)}
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
            self._user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}

    @property
    def clock(self) -> bool:
        """Whether the time can be set."""
        return self._library is not None

    @property
    def dsn(self) -> str:
        """For psycopg; with ``replace`` for SQLAlchemy."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def __enter__(self) -> Self:
        try:
            if not self.data.exists():
                self._run(
                    "initdb", "-D", str(self.data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"
                )
                with (self.data / "postgresql.conf").open("a") as file:
                    file.writelines(f"{name} = '{value}'\n" for name, value in self._settings.items())
            self.set_clock(0)
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if (self.data / "postmaster.pid").exists():
            self.stop("immediate", check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str, check: bool = True) -> None:
        environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}
        if self._library and program == "pg_ctl":
            environment |= {
                "LD_PRELOAD": self._library,
                "FAKETIME_TIMESTAMP_FILE": str(self._offset),
                "FAKETIME_CACHE_DURATION": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
        done = subprocess.run(
            [str(self._bin / program), *arguments],
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
            timeout=120,
            **self._user,
        )
        if check and done.returncode:
            log = self.folder / "log"
            told = log.read_text()[-2000:] if log.exists() else ""
            raise RuntimeError(f"{program} failed: {done.stderr.decode()[-1000:]}\n{told}")

    def start(self) -> None:
        """Start, and wait until it answers."""
        self._run("pg_ctl", "-D", str(self.data), "-l", str(self.folder / "log"), "-t", "100", "-w", "start")
        end = time.monotonic() + 60
        while True:
            try:
                with psycopg.connect(self.dsn, connect_timeout=5):
                    return
            except psycopg.OperationalError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)

    def stop(self, mode: str = "immediate", *, check: bool = True) -> None:
        """``immediate`` is as a crash: connections break, and the next start recovers from the log."""
        if mode == "immediate":
            # On a clock that is stepped the server does not always come to its end; a crash needs no consent.
            self._run("pg_ctl", "-D", str(self.data), "-m", mode, "-t", "20", "-w", "stop", check=False)
            self._kill()
        else:
            self._run("pg_ctl", "-D", str(self.data), "-m", mode, "-t", "100", "-w", "stop", check=check)

    def _kill(self) -> None:
        """Kill what is left of the server."""
        try:
            server = psutil.Process(int((self.data / "postmaster.pid").read_text().split()[0]))
            left = [server, *server.children(recursive=True)]
        except (OSError, IndexError, psutil.NoSuchProcess):
            return
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=20)

    def set_clock(self, offset: float) -> None:
        """Let the server's clock be so many seconds before (negative: behind) the machine's, within about a second."""
        fresh = self.folder / "offset.new"
        fresh.write_text(f"{offset:+.3f}s\n")
        fresh.chmod(0o644)
        fresh.replace(self._offset)
