"""Plans: what to provide for the peak, and in which order to build and roll out."""

from __future__ import annotations

from collections.abc import Iterator

from mainstay.architect.design.documents.markdown import table
from mainstay.architect.design.figures import PER_SECOND, show
from mainstay.architect.design.generated import Generated
from mainstay.architect.design.questions import listed
from mainstay.architect.design.risks.call_cycle import rings
from mainstay.architect.design.study import Result
from mainstay.architect.design.system import Op, System


def generate(result: Result) -> Iterator[Generated]:
    """Capacity for each service, calls to each dependency, and the order of building."""
    system, flows = result.study.system, result.study.flows
    rows = []
    for name, service in system.services.items():
        ops = [op for op in system.ops.values() if op.service == name]
        peak = sum(flows.of(op).peak for op in ops)
        busy = sum(flows.runs(op).peak * system.hold(op).value for op in ops if service.store == "postgresql")
        copies, pool = system.copies(name), system.pool(name)
        there = (
            f"{copies} x {pool} = {copies.value * pool.value:g}" if service.store == "postgresql" else "none"
        )
        rows.append(
            (name, show(peak, PER_SECOND), f"{busy:.3g}", there, _marks(copies.assumed, pool.assumed))
        )
    text = (
        "# Plan\n\n## Capacity at peak\n\nConnections in use by Little's law: runs a second × time held.\n\n"
    )
    text += table(("service", "asked at peak", "connections in use", "connections there", ""), rows)
    if system.deps:
        called = [
            (dep.name, show(flows.to(dep).peak, PER_SECOND), str(dep.spec.limit or "not said"))
            for dep in system.deps.values()
        ]
        text += "\n## Calls to others at peak, without repetition\n\n" + table(
            ("dependency", "calls", "limit"), called
        )
    text += "\n## Order of building\n\nEach step needs only what stands above it.\n\n"
    text += "".join(f"{at}. {listed(step)}\n" for at, step in enumerate(order(system), 1))
    yield Generated(
        "documents/plan.md", text, "Plan", "markdown", "Capacity at peak, and the order of building."
    )


def _marks(*assumed: bool) -> str:
    return "assumed" if all(assumed) else "assumed in part" if any(assumed) else ""


def order(system: System) -> list[list[str]]:
    """Services in steps: those that wait for nothing first. Services in a ring come together."""
    needs: dict[str, set[str]] = {name: set() for name in system.services}
    for op in system.ops.values():
        for edge in op.edges:
            if edge.waits and isinstance(edge.target, Op) and edge.target.service != op.service:
                needs[op.service].add(edge.target.service)
    together = {
        name: ring for ring in rings({name: sorted(found) for name, found in needs.items()}) for name in ring
    }
    steps: list[list[str]] = []
    placed: set[str] = set()
    while len(placed) < len(needs):
        ready = [
            name
            for name in needs
            if name not in placed
            and all(
                needs[mate] <= placed | set(together.get(name, ())) for mate in together.get(name, [name])
            )
        ]
        steps.append(ready)
        placed |= set(ready)
    return steps
