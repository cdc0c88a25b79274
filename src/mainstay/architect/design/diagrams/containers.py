"""Containers: who uses the system, what it is made of, and who calls whom (C4 model, level 2).

Solid lines are waited for, dashed ones are not: messages, and calls handed over. Protocols stand on the lines. Where
there are more services than a picture holds, each gets a picture of its neighbours, and the whole is drawn by team, or
without what lies outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mainstay.architect.design.diagrams.mermaid import MOST_NODES, label, node, title
from mainstay.architect.design.generated import Generated
from mainstay.architect.design.questions import brokers
from mainstay.architect.design.study import Result
from mainstay.architect.design.system import Dep, Op, System

Line = tuple[str, str, bool, str]
"""From, to, waited for, what stands on it."""


def generate(result: Result) -> Iterator[Generated]:
    """The whole system; one more for each service where it is too large for one picture."""
    system = result.study.system
    lines = _lines(system)
    size = len(system.services) + len(system.deps) + len(system.actors) + len(system.parts)
    if size <= MOST_NODES:
        yield _picture(system, lines, set(), "diagrams/containers.mmd", f"{title(system.name)}: containers")
        return
    services = {name for line in lines for name in line[:2] if name in system.services}
    inside = [line for line in lines if line[0] in services and line[1] in services]
    yield Generated(
        "diagrams/containers.mmd",
        _summary(system, inside),
        f"{title(system.name)}: services",
        "mermaid",
        "Too large for one picture: services alone, by whom they wait for. Each has a picture of its own.",
    )
    for service in system.services:
        near = [line for line in lines if service in line[:2]]
        if near:
            yield _picture(
                system, near, {service}, f"diagrams/containers/{service}.mmd", f"{title(service)}: neighbours"
            )


def _lines(system: System) -> list[Line]:
    """Every line between two containers, once for each way of joining them."""
    found: dict[tuple[str, str, bool], list[str]] = {}

    def join(start: str, end: str, waited: bool, text: str) -> None:
        texts = found.setdefault((start, end, waited), [])
        if text not in texts:
            texts.append(text)

    for op in system.ops.values():
        for grant in op.spec.by.grants if op.spec.by else ():
            join(grant.actor, op.service, True, _protocol(system, op))
        for edge in op.edges:
            target = edge.target
            if isinstance(target, Op):
                if target.service != op.service:
                    join(
                        op.service,
                        target.service,
                        edge.waits,
                        _protocol(system, target) if edge.waits else "job",
                    )
            elif isinstance(target, Dep):
                join(op.service, target.name, edge.waits, "HTTPS" if edge.waits else "job")
            else:
                join(op.service, target.name, False, "webhook")
            if isinstance(edge.fallback, Dep):
                join(op.service, edge.fallback.name, edge.waits, "instead")
            elif isinstance(edge.fallback, Op) and edge.fallback.service != op.service:
                join(op.service, edge.fallback.service, edge.waits, "instead")
    _events(system, join)
    return [(start, end, waited, ", ".join(texts)) for (start, end, waited), texts in found.items()]


def _events(system: System, join: Callable[[str, str, bool, str], None]) -> None:
    """Events go through the broker where there is one, else from outbox to handler."""
    through = brokers(system)
    for event in system.events.values():
        for emitter in event.emitters:
            if isinstance(emitter, Dep):
                for op in event.consumers:
                    join(emitter.name, op.service, False, "webhook")
            elif through:
                join(emitter.service, through[0], False, "events")
            for op in event.consumers:
                if isinstance(emitter, Op) and not through and op.service != emitter.service:
                    join(emitter.service, op.service, False, event.name)
        if through and any(isinstance(emitter, Op) for emitter in event.emitters):
            for op in event.consumers:
                join(through[0], op.service, False, event.name)


def _protocol(system: System, op: Op) -> str:
    speaks = system.services[op.service].speaks
    if op.kind in ("subscription", "stream"):
        live = next((name for name in speaks if name in ("websocket", "sse")), speaks[0])
        return {"websocket": "WebSocket", "sse": "SSE"}.get(live, _NAMES[live])
    return _NAMES[next((name for name in speaks if name not in ("websocket", "sse")), speaks[0])]


_NAMES = {"http": "HTTP", "grpc": "gRPC", "graphql": "GraphQL", "websocket": "WebSocket", "sse": "SSE"}


def _picture(system: System, lines: list[Line], centre: set[str], path: str, heading: str) -> Generated:
    shown = {name for line in lines for name in line[:2]}
    if not centre:
        shown |= {*system.services, *system.parts}
    made = ["flowchart LR"]
    actors = [name for name in ("anyone", *system.actors) if name in shown]
    if actors:
        made.append('  subgraph actors["Actors"]')
        for name in actors:
            auth = system.actors[name].spec.auth if name in system.actors else "none"
            made.append(f"    {node(name)}([{label(name + (f' ({auth})' if auth else ''))}])")
        made.append("  end")
    made.append(f"  subgraph system_[{label(title(system.name))}]")
    for name, service in system.services.items():
        if name in shown:
            made.append(f"    {node(name)}[{label(name)}]")
            if service.store != "none":
                made.append(f"    {node(name)}_store[({label(service.store)})]")
    for name, part in system.parts.items():
        if name in shown:
            made.append(f"    {node(name)}{{{{{label(f'{name}: {part.spec.kind}')}}}}}")
    made.append("  end")
    deps = [name for name in system.deps if name in shown]
    if deps:
        made.append('  subgraph others["Run by others"]')
        made += [f"    {node(name)}[/{label(f'{name}: {system.deps[name].spec.kind}')}/]" for name in deps]
        made.append("  end")
    for name, service in system.services.items():
        if name in shown and service.store != "none":
            made.append(f"  {node(name)} --- {node(name)}_store")
    made += [_line(line) for line in lines]
    for name in sorted(centre):
        made.append(f"  style {node(name)} stroke-width:3px")
    return Generated(path, "\n".join(made) + "\n", heading, "mermaid", "Solid: waited for. Dashed: not.")


def _line(line: Line) -> str:
    start, end, waited, text = line
    arrow = "-->" if waited else "-.->"
    return f"  {node(start)} {arrow}|{label(text)}| {node(end)}"


def _summary(system: System, lines: list[Line]) -> str:
    """Services alone; by team where that makes the picture smaller."""
    teams = {name: service.team or name for name, service in system.services.items()}
    grouped = len(set(teams.values())) < len(teams)
    seen: dict[tuple[str, str, bool], int] = {}
    for start, end, waited, _ in lines:
        pair = (teams[start], teams[end], waited) if grouped else (start, end, waited)
        if pair[0] != pair[1]:
            seen[pair] = seen.get(pair, 0) + 1
    busiest = sorted(seen, key=lambda pair: (-seen[pair], pair))[: MOST_NODES * 2]
    made = ["flowchart LR"]
    for name in dict.fromkeys(name for pair in busiest for name in pair[:2]):
        count = sum(team == name for team in teams.values())
        made.append(
            f"  {node(name)}[{label(f'{name} ({count} services)' if grouped and count > 1 else name)}]"
        )
    counts = {pair: "" if seen[pair] == 1 else str(seen[pair]) for pair in sorted(busiest)}
    made += [_line((*pair, count)).replace('|""|', "") for pair, count in counts.items()]
    if len(busiest) < len(seen):
        made.append(f"  more([{label(f'and {len(seen) - len(busiest)} more joins')}])")
    return "\n".join(made) + "\n"
