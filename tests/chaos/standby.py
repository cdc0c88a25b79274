"""A streaming standby of a `Cluster` of ours, and the failover to it."""

from __future__ import annotations

import time
from typing import Self

import psycopg
from cluster import Cluster


class Standby(Cluster):
    """Made by pg_basebackup from a primary that runs; replays what that writes, and takes no writes until promoted."""

    def __init__(self, primary: Cluster) -> None:
        super().__init__()
        self._primary = primary

    def __enter__(self) -> Self:
        try:
            self._run("pg_basebackup", "-D", str(self.data), "-R", "-c", "fast", "-d", self._primary.dsn)
            with (self.data / "postgresql.conf").open("a") as file:
                file.write(f"port = '{self.port}'\n")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return super().__enter__()

    def confirm_commits(self) -> None:
        """From now on a COMMIT on the primary returns once this standby has it too."""
        with psycopg.connect(self._primary.dsn, autocommit=True) as connection:
            end = time.monotonic() + 30
            while not connection.execute(
                "SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'"
            ).fetchall():
                assert time.monotonic() < end, "the standby does not stream"
                time.sleep(0.05)
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            connection.execute("SELECT pg_reload_conf()")
            while not connection.execute(
                "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
            ).fetchall():
                assert time.monotonic() < end, "the standby does not confirm"
                time.sleep(0.05)

    def stop_streaming(self) -> None:
        """Fall behind from now on, as on a network that is cut."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET primary_conninfo = ''")
            connection.execute("SELECT pg_reload_conf()")
            end = time.monotonic() + 30
            while connection.execute("SELECT 1 FROM pg_stat_wal_receiver").fetchall():
                assert time.monotonic() < end, "the standby goes on streaming"
                time.sleep(0.05)

    def promote(self) -> None:
        """Be the primary."""
        self._run("pg_ctl", "-D", str(self.data), "-t", "100", "-w", "promote")


def either(driver: str, *clusters: Cluster) -> str:
    """The URL of whichever of these takes writes."""
    hosts = "&".join(f"host=127.0.0.1:{cluster.port}" for cluster in clusters)
    return f"postgresql+{driver}://postgres@/postgres?{hosts}&target_session_attrs=read-write"
