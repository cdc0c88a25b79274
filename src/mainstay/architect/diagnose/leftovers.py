"""What a laboratory that was killed (SIGKILL, power, out of memory) leaves behind, and how the next one finds it.

Each process that runs a laboratory has one folder, in memory or in the temporary directory, and holds a lock
on a file in it. The kernel lets go of the lock when the process dies, however it dies; so a folder whose lock
can be had belongs to nobody, and the processes that are written down in it are stopped and the folder removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import tempfile
from pathlib import Path

import psutil

PREFIX = "mainstay-lab-"

ROOM = 2 << 30
"""Bytes that must be free in memory for a lair to be put there."""

_open: list[Lair] = []


class Lair:
    """The folder of one laboratory process. `token` names everything the laboratory makes outside it."""

    def __init__(self) -> None:
        self.token = secrets.token_hex(6)
        # Made under a name that `sweep` does not look for, and given its own once it is locked.
        made = Path(tempfile.mkdtemp(prefix=f"new-{PREFIX}{self.token}-", dir=_places()[0]))
        self._lock = os.open(made / "alive", os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.folder = made.rename(made.with_name(made.name.removeprefix("new-")))
        _open.append(self)

    def note(self, pid: int) -> None:
        """Write down a process that must not outlive this one. One that has already ended is left out."""
        with contextlib.suppress(psutil.NoSuchProcess):
            born = psutil.Process(pid).create_time()
            with (self.folder / "processes").open("a") as file:
                file.write(f"{pid} {born}\n")

    def close(self) -> None:
        """Remove the folder. What is written down in it must have been stopped by its owner."""
        if self in _open:
            _open.remove(self)
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.close(self._lock)


def note(pid: int) -> None:
    """Write a process down in every laboratory that is open in this one."""
    for lair in _open:
        lair.note(pid)


def sweep() -> int:
    """Stop and remove what dead laboratories of this user left; return how many there were.

    Safe beside living laboratories: theirs are locked.
    """
    swept = 0
    for folder in (found for place in _places() for found in place.glob(f"{PREFIX}*")):
        try:
            lock = os.open(folder / "alive", os.O_RDWR)
        except OSError:
            continue  # another user's, or being made this very moment
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # its laboratory lives
        else:
            _stop_all(folder)
            shutil.rmtree(folder, ignore_errors=True)
            swept += 1
        finally:
            os.close(lock)
    return swept


def _places() -> list[Path]:
    """Where lairs may be, the best first: memory, where there is plenty. A clone is hundreds of small files, and
    twenty times quicker there than on a busy disk."""
    temporary = Path(tempfile.gettempdir())
    # The server's socket lies 54 bytes deeper, and the name of a socket ends after 103 (107 on Linux).
    places = [temporary if len(os.fsencode(temporary)) < 50 else Path("/tmp")]
    memory = Path("/dev/shm")
    if memory.is_dir() and os.access(memory, os.W_OK | os.X_OK):
        roomy = shutil.disk_usage(memory).free >= ROOM
        places.insert(0 if roomy and "TMPDIR" not in os.environ else 1, memory)
    return places


def _stop_all(folder: Path) -> None:
    """Kill the process groups and PostgreSQL servers that `folder` names, and wait until they are gone."""
    gone: list[psutil.Process] = []
    postmaster = folder / "data" / "postmaster.pid"
    if postmaster.exists():
        lines = postmaster.read_text().split("\n")
        with contextlib.suppress(psutil.Error, ValueError, OSError):
            server = psutil.Process(int(lines[0]))
            if str(folder) in " ".join(server.cmdline()):
                gone += [server, *server.children(recursive=True)]
                server.send_signal(signal.SIGQUIT)  # immediate shutdown: the data is thrown away
    noted = folder / "processes"
    for line in noted.read_text().splitlines() if noted.exists() else ():
        with contextlib.suppress(psutil.Error, ValueError, OSError):
            pid, born = line.split()
            process = psutil.Process(int(pid))
            if abs(process.create_time() - float(born)) < 0.01:
                gone += kill_tree(process)
    psutil.wait_procs(gone, timeout=5)


def kill_tree(process: psutil.Process) -> list[psutil.Process]:
    """Kill `process`, its process group if it leads one, and all its descendants; return them, not yet waited for."""
    family = [process]
    with contextlib.suppress(psutil.Error):
        family += process.children(recursive=True)
    with contextlib.suppress(OSError):
        if os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, signal.SIGKILL)
    for member in family:
        with contextlib.suppress(psutil.Error):
            member.kill()
    return family
