"""A sequence for each operation that matters: what happens in order, and what where it fails.

Drawn are operations that somebody outside calls and that write, or wait for another service. Failure branches show
what the blueprint says is done: another call instead, going on without, or undoing a saga's steps in reverse order.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from mainstay.architect.design.diagrams.mermaid import MOST_NODES, message, node, words
from mainstay.architect.design.generated import Generated
from mainstay.architect.design.study import Result
from mainstay.architect.design.system import ANYONE, Act, Dep, Edge, Op, System

DEEPEST = 4
"""Calls below calls that are drawn; deeper ones have a picture of their own."""


def generate(result: Result) -> Iterator[Generated]:
    """One picture for each such operation, at most some forty, those with most calls first."""
    system = result.study.system
    chosen = [op for op in system.ops.values() if op.spec.by is not None and (op.writes or op.edges)]
    chosen.sort(key=lambda op: (-len(op.edges), op.id))
    for op in sorted(chosen[:MOST_NODES], key=lambda op: op.id):
        yield Generated(
            f"diagrams/sequences/{op.id}.mmd",
            _sequence(system, op),
            f"{op.id}: sequence",
            "mermaid",
            "Dashed arrows are not waited for.",
            "Sequences",
        )


def _sequence(system: System, op: Op) -> str:
    grants = op.spec.by.grants if op.spec.by else ()
    actor = grants[0].actor if grants else ANYONE
    body: list[str] = []
    people = [actor]
    seen = [op.service]
    key = " (Idempotency-Key)" if op.spec.idempotent == "key" else ""
    body.append(f"  {node(actor)}->>+{node(op.service)}: {message(words(op.name))}{key}")
    _inside(system, op, body, seen, 0, frozenset({op}))
    _answers(system, op, body, seen, actor)
    made = ["sequenceDiagram", "  autonumber"]
    made += [f"  actor {node(name)} as {name}" for name in people]
    for name in dict.fromkeys(seen):
        kind = "actor" if name in system.actors and name not in people else "participant"
        if name not in people:
            made.append(f"  {kind} {node(name)} as {name}")
    return "\n".join([*made, *body]) + "\n"


def _inside(
    system: System, op: Op, body: list[str], seen: list[str], depth: int, above: frozenset[Op]
) -> None:
    """What an operation does between its request and its answer."""
    pad = "  " * (depth + 1)
    done: list[Edge] = []
    if op.spec.cache is not None:
        body.append(f"{pad}Note over {node(op.service)}: a cache answers for {op.spec.cache.fresh}")
    for _, group in groupby(op.edges, key=lambda edge: edge.group):
        edges = list(group)
        if len(edges) > 1:
            for at, edge in enumerate(edges):
                body.append(f"{pad}{'par' if at == 0 else 'and'} {message(edge.call.to)}")
                _call(system, edge, body, seen, depth + 1, above, done)
            body.append(f"{pad}end")
        else:
            _call(system, edges[0], body, seen, depth, above, done)
        done += [edge for edge in edges if edge.waits]
    if depth > 0:
        body += _wrote(op, pad)


def _wrote(op: Op, pad: str) -> list[str]:
    """What it writes and emits, which it does in one transaction."""
    if op.writes:
        wrote = ", ".join(dict.fromkeys(f"{write.how} {write.entity.name}" for write in op.writes))
        events = f", and {', '.join(op.spec.emits)} in the same transaction" if op.spec.emits else ""
        return [f"{pad}Note over {node(op.service)}: {message(wrote + events)}"]
    if op.spec.emits:
        return [f"{pad}Note over {node(op.service)}: emits {message(', '.join(op.spec.emits))}"]
    return []


def _call(
    system: System,
    edge: Edge,
    body: list[str],
    seen: list[str],
    depth: int,
    above: frozenset[Op],
    done: list[Edge],
) -> None:
    pad = "  " * (depth + 1)
    caller, target = edge.caller.service, edge.target
    to = target.service if isinstance(target, Op) else target.name
    seen.append(to)
    text = words(target.name) if isinstance(target, Op) else "call"
    times = f" (x{edge.call.times})" if edge.call.times > 1 else ""
    share = f" ({edge.call.share} of runs)" if edge.call.share else ""
    if isinstance(target, Act):
        body.append(f"{pad}{node(caller)}--){node(to)}: webhook{times}")
        return
    if not edge.waits:
        body.append(f"{pad}{node(caller)}--){node(to)}: {message(text)}, later{times}{share}")
        return
    timeout = system.timeout(edge)
    attempts = system.attempts(edge)
    limits = f", {attempts:} attempts of {timeout}" if attempts.value > 1 else f", within {timeout}"
    body.append(f"{pad}{node(caller)}->>+{node(to)}: {message(text)}{times}{share}{limits}")
    if isinstance(target, Op) and target not in above and depth < DEEPEST:
        _inside(system, target, body, seen, depth + 1, above | {target})
    body.append(f"{pad}{node(to)}-->>-{node(caller)}: {message(_given(target))}")
    _failure(system, edge, body, seen, depth, done)


def _given(target: Op | Dep) -> str:
    if isinstance(target, Op) and target.spec.gives is not None and target.spec.gives.type is not None:
        return str(target.spec.gives.type)
    return "done"


def _failure(
    system: System, edge: Edge, body: list[str], seen: list[str], depth: int, done: list[Edge]
) -> None:
    """The branch where a call fails; nothing where failing is all that happens and nothing has to be undone."""
    pad = "  " * (depth + 1)
    caller = node(edge.caller.service)
    to = edge.target.service if isinstance(edge.target, Op) else edge.target.name
    if edge.fallback is not None:
        other = edge.fallback.service if isinstance(edge.fallback, Op) else edge.fallback.name
        seen.append(other)
        body.append(f"{pad}opt {to} fails or takes too long")
        body.append(f"{pad}  {caller}->>{node(other)}: {message(words(edge.fallback.name))} instead")
        body.append(f"{pad}end")
    elif edge.optional:
        body.append(f"{pad}opt {to} fails or takes too long")
        body.append(f"{pad}  Note over {caller}: goes on with {edge.call.fallback}")
        body.append(f"{pad}end")
    else:
        undos = [
            (step.target.service, step.target.undo.name)
            for step in reversed(done)
            if isinstance(step.target, Op) and step.target.undo is not None and step.target.writes
        ]
        target = edge.target
        if isinstance(target, Op) and target.undo is not None and target.writes:
            # Who only waited too long does not know whether it was done: its undo must bear both.
            undos.insert(0, (target.service, f"{target.undo.name}, if it took effect"))
        if undos:
            body.append(f"{pad}opt {to} fails or takes too long")
            body += [f"{pad}  {caller}->>{node(service)}: {message(words(undo))}" for service, undo in undos]
            body.append(f"{pad}end")


def _answers(system: System, op: Op, body: list[str], seen: list[str], actor: str) -> None:
    """How it ends: nothing is written nor told of where it ends with a problem."""
    gives = op.spec.gives
    good = str(gives.type) if gives is not None and gives.type is not None else "done"
    problems = gives.problems if gives is not None else ()
    pad = "    " if problems else "  "
    if problems:
        body.append("  alt it succeeds")
    body += _wrote(op, pad)
    _heard(system, op, body, seen, pad)
    if not problems:
        body.append(f"  {node(op.service)}-->>-{node(actor)}: {message(good)}")
        return
    body.append(f"    {node(op.service)}-->>{node(actor)}: {message(good)}")
    for problem in problems:
        body.append(f"  else {problem}")
        body.append(f"    {node(op.service)}-->>{node(actor)}: {problem}")
    body.append("  end")
    body.append(f"  deactivate {node(op.service)}")


def _heard(system: System, op: Op, body: list[str], seen: list[str], pad: str) -> None:
    """Who handles what it emits, without being waited for."""
    for name in op.spec.emits:
        for consumer in system.events[name].consumers:
            seen.append(consumer.service)
            text = message(f"{name}: {words(consumer.name)}")
            body.append(f"{pad}{node(op.service)}--){node(consumer.service)}: {text}")
