"""The whole report: options, servers, versions, the chosen tables, and how it was measured."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path

import environments
import rows
from processes import Peer
from servers import SETTINGS, PostgreSQL, Redis, postgresql
from tables import TABLES, Run

BUSY = 1.5
"""Load average from which a machine is not quiet; the benchmark itself adds about as much."""


def versions(run: Run, cluster: PostgreSQL) -> str:
    found = [f"PostgreSQL {cluster.version}"]
    if run.redis is not None:
        found.append(f"Redis {run.redis.version}")
    known = set()
    for row in rows.THROUGHPUT:
        if run.wants(row) and row.module not in known:
            known.add(row.module)
            with Peer(row, cluster.url() if row.server == "postgresql" else "redis://127.0.0.1") as peer:
                name, version = peer.ask("version")
                found.append(f"{name} {version}")
    return ", ".join(found)


WHY = """\
Why it is not first where it is not. *Idle start*: taskiq's worker blocks on the stream and is handed the message;
here the worker hears of it (NOTIFY), then asks for it by one statement that looks after priorities, keys, limits
and fencing, and that statement is what makes a thousand at once cheap. *Publishing inside a transaction*: the floor
is one INSERT into a table without any feature, and costs 1.5 times the bare transaction itself, which is a BEGIN,
one INSERT and a COMMIT, each a round trip: what is to stay below 1.15 would have to travel with the COMMIT, and its
error would come there. *Batch enqueue*: a message has 25 columns, constraints, indexes and a trigger; ahead of every
peer, by less than was asked."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="messages", description="The message engine beside its peers.")
    parser.add_argument("--quick", action="store_true", help="small counts and one round")
    parser.add_argument("--only", metavar="PEER,PEER", help="peers whose name has one of these in it")
    parser.add_argument("--table", metavar="NAME,NAME", help=f"of: {', '.join(TABLES)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every measurement there")
    parser.add_argument("--lock", action="store_true", help="lock the peers' requirements anew, and end")
    options = parser.parse_args()
    if options.lock:
        environments.lock()
        return
    chosen = options.table.split(",") if options.table else list(TABLES)
    if unknown := [name for name in chosen if name not in TABLES]:
        parser.error(f"there is no table {unknown[0]!r}; choose from: {', '.join(TABLES)}")
    for name in environments.PEERS:
        environments.python(name)
    # A server left running would outlive a run that is told to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    before = os.getloadavg()
    try:
        redis: Redis | None = Redis()
    except FileNotFoundError as missing:
        print(missing, file=sys.stderr)
        redis = None
    run = Run(options, redis)
    try:
        print("## Messages\n")
        for place in ("tmpfs", "disk"):
            here = [name for name in chosen if (name == "disk") == (place == "disk")]
            if not here:
                continue
            with postgresql(place) as cluster:
                if place == "tmpfs" or chosen == ["disk"]:
                    print(f"{versions(run, cluster)}.\n")
                for name in here:
                    TABLES[name](run, cluster)
                    sys.stdout.flush()
    finally:
        if redis is not None:
            redis.stop()
        if options.json:
            options.json.write_text(json.dumps(run.kept, indent=1))
    for failure in run.failures:
        print(f"Not measured: {failure}.\n")
    after = os.getloadavg()
    if max(before[0], after[0] - BUSY) > BUSY:
        print(
            "**The machine was busy with other work:** figures of time are not to be quoted, and ratios of time are "
            "rough; CPU per job bears it better. Run it again on a quiet machine.\n"
        )
    settings = ", ".join(f"{name} {value}" for name, value in SETTINGS.items())
    print(
        f"How: medians of {run.rounds} rounds in which the peers take turns; load {before[0]:.1f} before and "
        f"{after[0]:.1f} after. PostgreSQL is a cluster of its own ({settings}, the rest at its defaults, "
        "fsync and synchronous_commit on), VACUUM (ANALYZE) and CHECKPOINT before each measurement; Redis is a server "
        "of its own that writes nothing to disk. Peers that drain less than 2 000/s get at most 4 000 jobs. "
        "Batches are of 1 000. Drain: a warm worker is stopped (SIGSTOP), "
        "the jobs gather, it goes on; time runs until the last completion is stored. CPU is the kernel's clock of "
        "the worker's processes, and of all processes of the server. Start: 200 single jobs (or what fits into 20 s), "
        "from just before the enqueue call to the start of the handler. RSS is the kernel's high-water mark, the "
        "worker's processes added up.\n"
    )
    print(WHY + "\n")
