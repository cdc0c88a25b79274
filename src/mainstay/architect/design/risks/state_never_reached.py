"""A state that nothing leads to."""

from __future__ import annotations

from collections.abc import Iterator

from mainstay.architect.design.questions import listed
from mainstay.architect.design.risks import Kind, Risk, Study
from mainstay.architect.findings import Severity

KIND = Kind(
    name="state-never-reached",
    title="An entity has states that no operation moves it to",
    severity=Severity.LOW,
    formula="states - first state - states that some operation moves to",
    why="Either an operation is missing - orders are paid and never shipped - or the state is left over, and "
    "code will be written for what cannot be.",
    wrong_when="Where another system writes the state into the same table, which is a risk of another kind.",
    remedy="Write the operation that moves it there, or leave the state out.",
)


def assess(study: Study) -> Iterator[Risk]:
    """One risk for each entity."""
    system = study.system
    moved: dict[str, set[str]] = {}
    for op in system.ops.values():
        for move in op.spec.moves:
            moved.setdefault(move.entity, set()).add(move.to)
    for group in system.entities.values():
        for entity in group:
            states = entity.fields[entity.state].states if entity.state else None
            if states is None:
                continue
            never = [name for name in states.names[1:] if name not in moved.get(entity.name, set())]
            if not never:
                continue
            stuck = [start for start, end in states.steps if end in never and start not in never]
            yield Risk(
                KIND,
                entity.id,
                f"no operation moves {entity.name} to {listed(never)}"
                + (f": it stays {listed(list(dict.fromkeys(stuck)), 'or')}" if stuck else ""),
                f"{len(states.names)} states, {len(never)} never reached",
                (),
                "write the operation that does: moves: "
                + (
                    f"{entity.name} {never[0]}"
                    if len(never) == 1
                    else f"[{', '.join(f'{entity.name} {name}' for name in never)}], one operation for each"
                ),
                system.at(*entity.where, entity.state),
                value=float(len(never)),
                need=0.0,
            )
