"""The context map: whose words a service speaks (Evans: Domain-Driven Design, chapter 14).

An arrow leads downstream, from the one whose types or events are used to the one who uses them, and so has to follow
when they change.
"""

from __future__ import annotations

from collections.abc import Iterator

from mainstay.architect.design.diagrams.mermaid import MOST_NODES, label, node, title
from mainstay.architect.design.generated import Generated
from mainstay.architect.design.shapes import Type
from mainstay.architect.design.study import Result
from mainstay.architect.design.system import Dep, Op, System


def generate(result: Result) -> Iterator[Generated]:
    """One picture, where there is more than one service."""
    system = result.study.system
    joins = follows(system)
    if not joins or len({name for pair in joins for name in pair}) > MOST_NODES:
        return
    made = ["flowchart LR"]
    for name in dict.fromkeys(name for pair in joins for name in pair):
        shape = f"[/{label(name)}/]" if name in system.deps else f"([{label(name)}])"
        made.append(f"  {node(name)}{shape}")
    for (upstream, downstream), reasons in joins.items():
        shown = reasons if len(reasons) <= 3 else [*reasons[:3], f"and {len(reasons) - 3} more"]
        arrow = "==>" if (downstream, upstream) in joins else "-->"
        made.append(f"  {node(upstream)} {arrow}|{label(', '.join(shown))}| {node(downstream)}")
    yield Generated(
        "diagrams/context_map.mmd",
        "\n".join(made) + "\n",
        f"{title(system.name)}: context map",
        "mermaid",
        "From whose words are used, to who uses them. Thick: each follows the other.",
    )


def follows(system: System) -> dict[tuple[str, str], list[str]]:
    """For each pair of upstream and downstream, what the one uses of the other's."""
    found: dict[tuple[str, str], list[str]] = {}

    def uses(downstream: str, upstream: str, what: str) -> None:
        if upstream and upstream != downstream and what not in found.setdefault((upstream, downstream), []):
            found[(upstream, downstream)].append(what)

    for op in system.ops.values():
        for type in _types(op):
            if type.entity:
                uses(op.service, system.entity(type.entity, op.service, op.where).service, type.entity)
        for edge in op.edges:
            if isinstance(edge.target, Op):
                uses(op.service, edge.target.service, edge.target.name)
            elif isinstance(edge.target, Dep):
                uses(op.service, edge.target.name, f"{edge.target.spec.kind} calls")
        for name in op.spec.on:
            for emitter in system.events[name].emitters:
                uses(op.service, emitter.service if isinstance(emitter, Op) else emitter.name, name)
    for group in system.entities.values():
        for entity in group:
            for type in entity.fields.values():
                if type.entity and entity.service:
                    uses(
                        entity.service,
                        system.entity(type.entity, entity.service, entity.where).service,
                        type.entity,
                    )
    return found


def _types(op: Op) -> Iterator[Type]:
    yield from op.spec.takes.values()
    if op.spec.gives is not None and op.spec.gives.type is not None:
        yield op.spec.gives.type
