"""States of each entity, with the operation on each step; steps that nothing takes are said to be missing."""

from __future__ import annotations

from collections.abc import Iterator

from mainstay.architect.design.diagrams.mermaid import message, node
from mainstay.architect.design.generated import Generated
from mainstay.architect.design.study import Result
from mainstay.architect.design.system import Entity, System


def generate(result: Result) -> Iterator[Generated]:
    """One picture for each entity with states."""
    system = result.study.system
    for group in system.entities.values():
        for entity in group:
            states = entity.fields[entity.state].states if entity.state else None
            if states is None:
                continue
            moves = steps(system, entity)
            made = ["stateDiagram-v2", f"  [*] --> {node(states.first)}"]
            for step in states.steps:
                by = ", ".join(moves.get(step, [])) or "nothing moves it"
                made.append(f"  {node(step[0])} --> {node(step[1])}: {message(by)}")
            made += [f"  {node(last)} --> [*]" for last in states.last]
            yield Generated(
                f"diagrams/states/{entity.id}.mmd",
                "\n".join(made) + "\n",
                f"{entity.name}: states",
                "mermaid",
                f"Of {entity.id}.{entity.state}; on each step, the operation that takes it.",
                "States",
            )


def steps(system: System, entity: Entity) -> dict[tuple[str, str], list[str]]:
    """For each step of an entity's states, the operations that take it."""
    states = entity.fields[entity.state].states if entity.state else None
    found: dict[tuple[str, str], list[str]] = {}
    for op in system.ops.values():
        for move in op.spec.moves:
            if states is None or system.entity(move.entity, op.service, op.where) is not entity:
                continue
            for start in (move.start,) if move.start else states.before(move.to):
                found.setdefault((start, move.to), []).append(
                    op.name if op.service == entity.service else op.id
                )
    return found
