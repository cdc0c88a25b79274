"""The service under test: a process of its own, started with its own command, stopped with all it started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import signal
import socket
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from mainstay.architect.diagnose.leftovers import kill_tree, note
from mainstay.architect.errors import MainstayError
from mainstay.architect.nearest import nearest

GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL."""

KEPT_LINES = 200
KEPT_CHARACTERS = 500
"""What is kept of the output: the last lines, and of each its beginning. All of it is read."""

_VARIABLE = re.compile(r"\$PORT\b|\$\{(\w+)\}")


PORTS = range(15_000, 30_000)
"""Where services get their ports: below those that systems give to outgoing connections (RFC 6335 begins at 49152,
Linux at 32768), one of which might take the port before the service does."""


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on now. Raises `MainstayError` where none is found."""
    for port in random.sample(PORTS, 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise MainstayError(
        f"no port from {PORTS.start} to {PORTS.stop} is free for the service; end what holds them."
    )


class Service:
    """A subprocess that serves HTTP (or any TCP) on 127.0.0.1. An async context manager: leaving stops it.

    In `command` and in the values of `environment`, ``$PORT`` and ``${NAME}`` stand for the port and for
    variables of the environment; values that are inherited as they are stay as they are. The process is
    started in `directory`, in a process group of its own, so that Ctrl-C in the terminal reaches the
    laboratory alone, and the laboratory can end them all.
    """

    def __init__(
        self,
        command: Sequence[str],
        directory: Path | None = None,
        environment: Mapping[str, str] | None = None,
        *,
        port: int = 0,
        ready: str = "tcp",
        timeout: float = 30.0,
    ) -> None:
        """`ready` is a path that is asked for until its status is below 500, or ``tcp``: an open port is enough.

        `port` 0 is a free one, `timeout` is in seconds. `environment` is all that the process gets; None is ours.
        """
        self.port = port or free_port()
        self.directory = directory
        self.returncode: int | None = None
        """Exit code, once it has ended; negative for a signal."""
        self._ready = ready
        self._timeout = timeout
        self._process: asyncio.SubprocessTransport | None = None
        self._watch = _Watch()
        known = {**(os.environ if environment is None else environment), "PORT": str(self.port)}
        self.environment = {
            name: value if value == os.environ.get(name) else _substitute(value, known)
            for name, value in known.items()
        }
        self._command = [_substitute(part, self.environment) for part in command]

    def fill(self, word: str) -> str:
        """A word of a command, with ``$PORT`` and ``${NAME}`` of the service's environment filled in."""
        return _substitute(word, self.environment)

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``"""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Process id; 0 before the start."""
        return self._process.get_pid() if self._process else 0

    def tail(self, lines: int = 20) -> str:
        """The last lines of what it printed, standard output and error together."""
        return "\n".join(list(self._watch.lines)[-lines:])

    async def start(self) -> Self:
        """Start it and wait until it is ready.

        Raises `MainstayError` where the command is not found, the port is in use, the process ends before it is
        ready, or is not ready after `timeout` seconds; nothing is left running then.
        """
        self._check_port()
        self.returncode = None
        self._watch = _Watch()
        self._process = await self._spawn()
        note(self.pid)
        try:
            await self._wait_until_ready()
        except BaseException:
            await self.stop()
            raise
        return self

    def _check_port(self) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", self.port))
            except OSError as error:
                raise MainstayError(
                    f"port {self.port} for the service cannot be had ({error.strerror}); "
                    "stop what listens there, or leave the port out to get a free one."
                ) from None

    async def _spawn(self) -> asyncio.SubprocessTransport:
        if not self._command:
            raise MainstayError(
                "the command of the service is empty; give it as in: -- uvicorn shop:app --port $PORT"
            )
        if self.directory is not None and not self.directory.is_dir():
            raise MainstayError(
                f"the service cannot start in {self.directory}: there is no such folder; mend its directory."
            )
        try:
            transport, _ = await asyncio.get_running_loop().subprocess_exec(
                lambda: self._watch,
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=self.environment,
                cwd=self.directory,
                start_new_session=True,
            )
            return transport
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise MainstayError(
                f"the service's command {self._command[0]!r} cannot be started ({reason}); "
                "check that it is installed and on the PATH, or give its full path."
            ) from None

    async def _wait_until_ready(self) -> None:
        assert self._process is not None
        ended = asyncio.ensure_future(self._watch.ended.wait())
        asking = asyncio.ensure_future(self._ask())
        try:
            await asyncio.wait({ended, asking}, timeout=self._timeout, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                self.returncode = self._process.get_returncode()
                await self._watch.last_words()
                raise MainstayError(
                    f"the service {self._name} ended {_how(self.returncode or 0)} before it was ready; {self._said()}"
                )
            if not asking.done():
                what = f"answer {self._ready} with a status below 500" if self._ready != "tcp" else "listen"
                raise MainstayError(
                    f"the service {self._name} did not {what} on port {self.port} within {self._timeout:g} s; "
                    f"check that its command uses $PORT, or give it a longer timeout; {self._said()}"
                )
            asking.result()
        finally:
            for task in (ended, asking):
                task.cancel()
            await asyncio.gather(ended, asking, return_exceptions=True)

    async def _ask(self) -> None:
        """Ask until it is ready, at first often, then every quarter of a second."""
        pause = 0.01
        while not await self._answers():
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.25)

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(5):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                try:
                    if self._ready == "tcp":
                        return True
                    host = f"127.0.0.1:{self.port}"
                    writer.write(
                        f"GET {self._ready} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
                    )
                    words = (await reader.readline()).split()
                    return len(words) > 1 and words[1].isdigit() and int(words[1]) < 500
                finally:
                    writer.close()
        except (OSError, TimeoutError, ValueError):
            return False

    @property
    def _name(self) -> str:
        return repr(" ".join(self._command)[:80])

    def _said(self) -> str:
        said = [line if len(line) <= 200 else line[:199] + "…" for line in self._watch.lines if line.strip()][
            -3:
        ]
        return f"its last words: {' | '.join(said)}" if said else "it printed nothing"

    async def stop(self) -> None:
        """SIGTERM to the process group, SIGKILL after `GRACE` seconds and to whatever escaped the group.

        Runs to its end also when the task is cancelled meanwhile. Twice does no harm.
        """
        stopping = asyncio.ensure_future(self._stop())
        try:
            await asyncio.shield(stopping)
        except asyncio.CancelledError:
            await stopping
            raise

    async def _stop(self) -> None:
        process, self._process = self._process, None  # later its id may be another's
        if process is None:
            return
        group = process.get_pid()
        family: list[psutil.Process] = []
        with contextlib.suppress(psutil.Error):
            family = psutil.Process(group).children(recursive=True)
        if process.get_returncode() is None:
            _signal_group(group, signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._watch.ended.wait(), GRACE)
        _signal_group(group, signal.SIGKILL)
        for member in family:
            # psutil compares the time of birth, so a process id that was given anew is left alone.
            with contextlib.suppress(psutil.Error):
                if member.is_running():
                    kill_tree(member)
        await self._watch.ended.wait()
        self.returncode = process.get_returncode()
        await self._watch.last_words()
        process.close()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


class _Watch(asyncio.SubprocessProtocol):
    """Reads all that a process prints, so that it never waits for us, keeps the end of it, and sees it end."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)
        self.ended = asyncio.Event()
        self._silent = asyncio.Event()
        self._rest = b""

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[: KEPT_CHARACTERS + 1]  # a line without end must not grow
        for line in lines[-KEPT_LINES:]:
            self._keep(line)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if self._rest:
            self._keep(self._rest)
        self._silent.set()

    def process_exited(self) -> None:
        self.ended.set()

    def _keep(self, line: bytes) -> None:
        text = line[:KEPT_CHARACTERS].decode("utf-8", "replace").rstrip()
        self.lines.append(text + "…" if len(line) > KEPT_CHARACTERS else text)

    async def last_words(self) -> None:
        """Read to the end of what was printed; a process that escaped may keep the pipe open, so not for long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._silent.wait(), 1)


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _substitute(text: str, known: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        name = match[1] or "PORT"
        if name not in known:
            raise MainstayError(
                f"the service's command or environment uses ${{{name}}}, which is not set{nearest(name, known)}; "
                "set it in the scenario's env or in the shell."
            )
        return known[name]

    return _VARIABLE.sub(value, text)


def _how(returncode: int) -> str:
    if returncode >= 0:
        return f"with exit code {returncode}"
    with contextlib.suppress(ValueError):
        return f"by {signal.Signals(-returncode).name}"
    return f"by signal {-returncode}"
