"""One operation writes in several services, and nothing takes the first write back when a later one fails."""

from __future__ import annotations

from collections.abc import Iterator

from mainstay.architect.design.questions import holds_money, listed, waited_for
from mainstay.architect.design.risks import Kind, Risk, Study
from mainstay.architect.design.system import Edge, Op
from mainstay.architect.findings import Severity, Step

KIND = Kind(
    name="saga-missing",
    title="An operation writes in several services without a saga, or a step of it cannot be undone",
    severity=Severity.HIGH,
    formula="services written along the waiting calls > 1, and a write that others follow has no undo, or no "
    "saga is said; or an undo that writes nothing, calls nothing and emits nothing",
    why="There is no transaction over several databases. Where the second service refuses, times out or "
    "dies, the first has already written: stock stays reserved, money stays held, and nobody knows which "
    "orders are affected.",
    wrong_when="Where the writes need not agree: a counter, a log, a cache that repairs itself; a last call "
    "with 'else nothing' is taken to say so. Where one of the services shares the database of another (then "
    "it is one transaction, and a risk of another kind).",
    remedy="Make it a saga: durable steps, each with an undo, and a pivot after which it goes only forward.",
    patterns=("saga",),
    sources=(
        "Garcia-Molina and Salem: Sagas (SIGMOD 1987)",
        "Richardson: Microservices Patterns (2018), chapter 4",
    ),
)


def assess(study: Study) -> Iterator[Risk]:
    """One risk for each operation that starts such a chain."""
    for op in study.system.ops.values():
        if any(edge.waits for edge in op.callers):
            continue  # told of where the chain starts
        needed = _needed(op)
        writers = [each for each in waited_for(op) if each.writes and each in needed]
        services = {writer.service for writer in writers}
        if len(services) < 2 or all(writer is op for writer in writers):
            continue
        steps = [
            writer for writer in _in_order(op) if writer.writes and writer is not op and writer in needed
        ]
        lacking = _lacking(op, steps)
        undone = [f"{step.name} -> {step.undo.name}" for step in steps if step.undo is not None]
        if not lacking and op.spec.saga:
            continue
        money = any(holds_money(write.entity) for step in lacking for write in step.writes)
        wrote = f"{op.id} writes in {listed(services)}"
        if lacking:
            names = listed([step.id for step in lacking])
            message = f"{wrote}; {names} cannot be undone when a later step fails"
            first = lacking[0].id
            remedy = (
                f"give {names} an undo"
                + (
                    f", or say {first} pivot: true, where it only goes forward from there"
                    if op.spec.saga
                    else ""
                )
                + (", or make it the last step" if len(lacking) == 1 else "")
                + ("" if op.spec.saga else f"; then say {op.id} saga: true")
            )
            severity = Severity.CRITICAL if money else Severity.HIGH if len(lacking) > 1 else Severity.MEDIUM
        else:
            told = (
                f"its steps can be undone ({', '.join(undone)})"
                if undone
                else "what commits first stays if the other fails"
            )
            message = f"{wrote} and is not said to be a saga; {told}"
            remedy = f"run it as a saga, and say so: {op.id} saga: true"
            severity = Severity.MEDIUM
        yield Risk(
            KIND,
            op.id,
            message,
            " + ".join(f"{w.id} {w.writes[0].how} {w.writes[0].entity.name}" for w in writers)
            + f" = {len(services)} services in one operation",
            (),
            remedy,
            study.system.at(*op.where),
            tuple(
                Step(study.system.at(*w.where), f"{w.id} {w.writes[0].how} {w.writes[0].entity.name}", w.id)
                for w in writers
            ),
            value=len(services),
            need=1,
            severity=severity,
        )
    yield from _empty_undos(study)


def _empty_undos(study: Study) -> Iterator[Risk]:
    """An undo that takes nothing back: the saga believes that it has been turned back, and the rows stay."""
    undone: dict[Op, list[str]] = {}
    for op in study.system.ops.values():
        if op.undo is not None and op.writes:
            undone.setdefault(op.undo, []).append(op.id)
    for undo, names in undone.items():
        if undo.writes or undo.edges or undo.spec.emits:
            continue
        yield Risk(
            KIND,
            undo.id,
            f"{undo.id} is the undo of {listed(names)} and takes nothing back: it writes, calls and emits nothing",
            f"undo of {len(names)}, 0 writes, 0 calls, 0 events",
            (),
            f"say what {undo.id} takes back, by deletes, moves or changes",
            study.system.at(*undo.where),
            severity=Severity.MEDIUM,
        )


def _needed(op: Op) -> set[Op]:
    """What a run must have written: all that it waits for, less last calls of which it is said that they may fail."""
    found = {op}
    stack = [op]
    while stack:
        edges = stack.pop().edges
        last = max((at for at, edge in enumerate(edges) if edge.waits and not edge.optional), default=-1)
        for at, edge in enumerate(edges):
            if not edge.waits or (edge.optional and at > last):
                continue
            if isinstance(edge.target, Op) and edge.target not in found:
                found.add(edge.target)
                stack.append(edge.target)
    return found


def _in_order(op: Op) -> list[Op]:
    """The operations waited for, in the order in which they finish."""
    found: list[Op] = []

    def walk(current: Op, above: frozenset[Op]) -> None:
        for edge in current.edges:
            if edge.waits and isinstance(edge.target, Op) and edge.target not in above:
                walk(edge.target, above | {edge.target})
                if edge.target not in found:
                    found.append(edge.target)

    walk(op, frozenset({op}))
    return found


def _lacking(op: Op, steps: list[Op]) -> list[Op]:
    """The steps that others follow, up to the pivot, and that nothing undoes."""
    pivot = next((at for at, step in enumerate(steps) if step.spec.pivot), len(steps) - 1)
    fails_after = bool(_failing_after(op, steps[-1])) if steps else False
    last = pivot if pivot < len(steps) - 1 or not fails_after else len(steps)
    return [step for step in steps[:last] if step.undo is None]


def _failing_after(op: Op, last: Op) -> list[Edge]:
    """Calls of the operation after its last writing step, on whose failure it fails too."""
    at = next((place for place, edge in enumerate(op.edges) if edge.target is last), len(op.edges))
    return [edge for edge in op.edges[at + 1 :] if edge.waits and not edge.optional]
