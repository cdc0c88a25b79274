"""What a kill costs: 40 jobs of 0.2 s, four at a time, SIGKILL to the worker in the middle, a second worker at once."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

from processes import Failed, Peer, Row
from servers import PostgreSQL, Redis

JOBS = 40
LIMIT = 60.0  # seconds after the kill
KILL_AFTER = (10, 18, 26)
"""Jobs that have begun when the worker is killed, 0.1 s later: one number for each kill."""


@dataclass
class Crashed:
    done: int
    """Jobs whose handler came to its end at least once within `LIMIT`."""
    repeated: int
    """Jobs whose handler came to its end more than once."""
    seconds: float | None
    """From the kill until the last job was done; None where not all were."""
    left: int
    """Jobs the peer itself still holds as not done."""


def events(peer: Peer, what: str) -> list[tuple[int, int]]:
    """(job, nanoseconds) of all that began, or ended."""
    file = peer.record / "events"
    lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
    return [(int(line[1]), int(line[2])) for line in lines if line[0] == what]


def crash(row: Row, server: PostgreSQL | Redis, after: int, second: dict[str, str]) -> Crashed:
    """One kill. `second` are settings of the second worker that differ."""
    name = f"crash_{row.name}_{after}".replace(" ", "_").replace(",", "")
    url = server.create(name) if isinstance(server, PostgreSQL) else server.create()
    with Peer(row, url, "sleep") as peer:
        peer.ask("prepare")
        peer.ask("batch", JOBS)
        worker = peer.worker()
        deadline = time.monotonic() + 60
        while len(events(peer, "began")) < after:
            if time.monotonic() > deadline:
                raise Failed(f"{row.name}: the worker began nothing\n{peer.errors()}")
            time.sleep(0.005)
        time.sleep(0.1)
        worker.kill()
        killed = time.monotonic_ns()
        peer.set(second)
        peer.worker()
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            done = {number for number, _ in events(peer, "ended")}
            if len(done) == JOBS and peer.ask("remaining") == 0:
                break
            time.sleep(0.05)
        ended = events(peer, "ended")
        times = Counter(number for number, _ in ended)
        first: dict[int, int] = {}
        for number, at in ended:
            first.setdefault(number, at)
        complete = len(first) == JOBS
        seconds = (max(first.values()) - killed) / 1e9 if complete else None
        repeated = sum(count > 1 for count in times.values())
        left = peer.ask("remaining")
    if isinstance(server, PostgreSQL):
        server.drop(name)
    return Crashed(len(first), repeated, seconds, left)
