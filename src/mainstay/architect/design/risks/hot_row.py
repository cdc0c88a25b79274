"""One row is written more often than its lock allows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from mainstay.architect.design.figures import COUNT, PER_SECOND, SECONDS, SHARE, Figure, show
from mainstay.architect.design.risks import Kind, Risk, Study
from mainstay.architect.design.stages import varied
from mainstay.architect.design.system import Entity, Op, Write
from mainstay.architect.design.times import Times
from mainstay.architect.design.trees import groups
from mainstay.architect.findings import Severity, Step

KIND = Kind(
    name="hot-row",
    title="Writes to one row wait in line for its lock",
    severity=Severity.HIGH,
    formula="sum over operations that change it of peak × share that meets the hottest row × lock time > "
    "assume.utilisation; lock time: assume.lock, or `hold` where that is long enough to hold the calls it "
    "makes; mean wait by Pollaczek and Khinchine, locks lognormal",
    why="A row that is updated stays locked until the transaction commits: its writers go one at a time, "
    "whatever the database could do otherwise. Those who wait each hold a connection, and the pool goes "
    "with the row.",
    wrong_when="Where writes to one row are already gathered (batched, or one worker per key), or the "
    "hottest share is smaller than assumed. Rows that an operation makes, moves from state to state or "
    "deletes are taken as spread. Simulated, the share locked is met; where writers are held back by a full "
    "pool, both row and wait are less busy than computed.",
    remedy="Split the row into several and add them up on reading; or append to a ledger; or queue by key "
    "and write many changes in one transaction.",
    patterns=("job", "database"),
    sources=(
        "PostgreSQL manual: Explicit Locking, Row-Level Locks",
        "Gray and Reuter: Transaction Processing (1992)",
    ),
)


@dataclass(frozen=True, slots=True)
class Writer:
    """One operation that changes rows of an entity."""

    op: Op
    write: Write
    rate: float
    """Writes to the hottest row, a second at peak."""
    lock: float
    """Seconds for which each keeps it, on average."""
    inputs: tuple[Figure, ...]

    @property
    def busy(self) -> float:
        """Share of the time that it keeps the row locked."""
        return self.rate * self.lock


def assess(study: Study) -> Iterator[Risk]:
    """One risk for each entity whose hottest row is locked for more of the time than leaves room."""
    system = study.system
    utilisation = system.assumption("utilisation", SHARE)
    for entity, writers in hottest(study).items():
        busy = sum(writer.busy for writer in writers)
        if busy <= utilisation.value * (1 + 1e-9):
            continue
        rate = sum(writer.rate for writer in writers)
        lock = busy / rate
        rows = math.ceil(busy / utilisation.value - 1e-9)
        inputs = {figure.key: figure for writer in writers for figure in writer.inputs}
        field = next((writer.write.field for writer in writers if writer.write.field), "")
        name = f"{entity.name}.{field}" if field else entity.name
        if busy >= 1:
            happens = f"it takes {show(1 / lock, PER_SECOND, 3)} at most, and the line grows"
        else:
            happens = f"a write waits {show(waiting(study, writers), SECONDS, 2)} on average"
        yield Risk(
            KIND,
            entity.id,
            f"the hottest row of {name} is written {show(rate, PER_SECOND)} at peak and is locked "
            f"{show(lock, SECONDS, 3)} each time, {busy:.0%} of the time: {happens}",
            " + ".join(
                f"{show(study.flows.runs(writer.op).peak, PER_SECOND)} × "
                f"{show(writer.rate / study.flows.runs(writer.op).peak, SHARE)} × {show(writer.lock, SECONDS)} "
                f"({writer.op.id})"
                for writer in writers
            )
            + f" = {busy:.1%} > {utilisation}",
            (*(inputs[key] for key in sorted(inputs)), utilisation),
            f"{rows} rows in its place, one chosen at random, summed on reading; or a ledger that is only appended to; "
            f"or a queue by key: one row bears {show(utilisation.value / lock, PER_SECOND, 3)} of "
            f"{show(lock, SECONDS, 3)} locks",
            system.at(*writers[0].write.where),
            tuple(
                Step(system.at(*writer.write.where), f"{writer.op.id} changes {name}", writer.op.id)
                for writer in writers
            ),
            value=busy,
            need=utilisation.value,
            severity=Severity.CRITICAL if busy >= 1 else None,
        )


def hottest(study: Study) -> dict[Entity, list[Writer]]:
    """Who writes the hottest row of each entity that PostgreSQL keeps."""
    system = study.system
    found: dict[Entity, list[Writer]] = {}
    for op in system.ops.values():
        once: set[Entity] = set()
        for write in sorted(op.writes, key=lambda each: -(each.hottest.value if each.hottest else 0.0)):
            service = system.services.get(write.entity.service)
            if write.entity in once:
                continue  # several fields of one row, under one lock
            if write.how != "changes" or service is None or service.store != "postgresql":
                continue
            flow = study.flows.runs(op)
            if flow.peak <= 0:
                continue
            once.add(write.entity)
            share = system.figure((*write.where, "hottest"), write.hottest, "hottest", SHARE)
            lock = locked(study, op)
            inputs = (*flow.inputs, share, lock)
            found.setdefault(write.entity, []).append(
                Writer(op, write, flow.peak * share.value, lock.value, inputs)
            )
    return found


def waiting(study: Study, writers: list[Writer]) -> float:
    """Seconds that a write waits for those before it, on average (Pollaczek and Khinchine); infinite for a full row.

    Locks are lognormal, as all times here; those of several writers count by how often they come.
    """
    busy = sum(writer.busy for writer in writers)
    if busy >= 1:
        return math.inf
    square = sum(writer.rate * writer.lock**2 for writer in writers)
    return square * (1 + varied(study.system.assumption("tail", COUNT).value)) / 2 / (1 - busy)


def locked(study: Study, op: Op) -> Figure:
    """How long one run keeps a row that it changes locked.

    Writes are taken to come after the calls, in a transaction of their own, unless the operation is said to hold its
    connection for as long as those calls take.
    """
    lock = study.system.assumption("lock", SECONDS)
    if op.spec.hold is None:
        return lock
    hold = study.system.hold(op)
    return hold if hold.value < lock.value or spans(study, op) else lock


def spans(study: Study, op: Op) -> bool:
    """Whether an operation holds its connection while it waits for calls: what is written is as long as they take."""
    if not groups(op) or op.spec.hold is None:
        return False
    times = Times(study)
    times.run(op)
    return op.spec.hold.seconds >= sum(max(times.call(edge).mean for edge in group) for group in groups(op))
