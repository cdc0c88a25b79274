"""A database and something else are written in one operation, and no transaction holds both."""

from __future__ import annotations

from collections.abc import Iterator

from mainstay.architect.design.questions import changes_there, listed
from mainstay.architect.design.risks import Kind, Risk, Study
from mainstay.architect.design.system import Dep
from mainstay.architect.findings import Severity

KIND = Kind(
    name="dual-write",
    title="A database and another system are written in one operation, with nothing that holds them together",
    severity=Severity.HIGH,
    formula="the operation writes its database and calls something that changes, where a repeated call is "
    "not recognized; or it emits and its store has no transaction for an outbox",
    why="The process dies between the two, or the transaction rolls back after the call: the card is charged "
    "and no payment is recorded, the mail is out and the order is not. Repeating does the first one twice.",
    wrong_when="Where one of the writes may be lost or doubled without harm, such as a metric or a cache.",
    remedy="Record the intent first, call later by a job with an idempotency key, then record the outcome.",
    patterns=("outbox", "job"),
    sources=("Kleppmann: Designing Data-Intensive Applications (2017), chapter 11",),
)


def assess(study: Study) -> Iterator[Risk]:
    """One risk for each operation and dependency, and one for each operation that emits without an outbox."""
    system = study.system
    for op in system.ops.values():
        service = system.services[op.service]
        if op.spec.emits and op.writes and service.store in ("redis", "files"):
            events = listed(op.spec.emits)
            yield Risk(
                KIND,
                op.id,
                f"{op.id} writes {op.writes[0].entity.name} to {service.store} and emits {events}: "
                "there is no transaction that holds both",
                f"writes in {service.store}, which has no outbox, + {len(op.spec.emits)} emitted",
                (),
                "keep the entity in PostgreSQL, with the events in its outbox",
                system.at(*op.where, "emits"),
            )
        if not op.writes or service.store == "none":
            continue
        for edge in op.edges:
            if not edge.waits or not isinstance(edge.target, Dep) or edge.target.spec.kind == "cache":
                continue
            dep = edge.target
            if not changes_there(dep) or dep.spec.idempotency not in (None, "none"):
                continue
            if system.attempts(edge).value > 1:
                continue  # missing-idempotency says it, and the same key answers both
            known = "does not recognize" if dep.spec.idempotency == "none" else "is not said to recognize"
            yield Risk(
                KIND,
                edge.id,
                f"{op.id} {op.writes[0].how} {op.writes[0].entity.name} and calls {dep.name} in one go; "
                f"{dep.name} {known} a call that is repeated",
                f"{op.writes[0].entity.name} (database) + {dep.name} (changes there, no idempotency)",
                (),
                f"call it by a job, with a key that {dep.name} recognizes: {dep.name} later, "
                f"and say {dep.name}.idempotency",
                system.at(*edge.where),
                severity=Severity.CRITICAL
                if dep.spec.kind == "payment"
                else Severity.MEDIUM
                if dep.spec.kind == "mail"
                else None,
            )
