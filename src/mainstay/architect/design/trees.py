"""The tree of calls that an operation waits for: what is called at once, how often it is tried, how long that takes.

The root is an operation; below it stand the calls that it waits for, in order, those of one group at the same time.
What is handed over (``later``) or told by an event is no part of it. A ring of calls is walked once.
"""

from __future__ import annotations

from collections.abc import Iterator

from mainstay.architect.design.figures import SECONDS, Figure
from mainstay.architect.design.phrases import Retry
from mainstay.architect.design.system import Act, Dep, Edge, Op, Part, System

GATEWAYS = ("gateway", "balancer", "proxy", "ingress", "api_gateway")
"""Kinds of parts through which every request of an actor goes."""


def groups(op: Op) -> list[list[Edge]]:
    """The calls that an operation waits for, in order; those of one list run at the same time."""
    found: dict[int, list[Edge]] = {}
    for edge in op.edges:
        if edge.waits:
            found.setdefault(edge.group, []).append(edge)
    return list(found.values())


def below(op: Op) -> list[Op]:
    """The operation and all that it waits for or falls back to, each after what it waits for itself.

    Walked without recursion, for a chain may be long; in a ring, what was met first comes last.
    """

    def waits_for(op: Op) -> Iterator[Op]:
        for edge in op.edges:
            for each in (edge.target, edge.fallback):
                if edge.waits and isinstance(each, Op):
                    yield each

    order: list[Op] = []
    seen = {op}
    stack = [(op, waits_for(op))]
    while stack:
        node, rest = stack[-1]
        new = next((each for each in rest if each not in seen), None)
        if new is None:
            stack.pop()
            order.append(node)
        else:
            seen.add(new)
            stack.append((new, waits_for(new)))
    return order


def crosses(edge: Edge) -> bool:
    """The call goes over the network, to another service or a dependency."""
    return not (isinstance(edge.target, Op) and edge.target.service == edge.caller.service)


def retry_of(edge: Edge) -> Retry | None:
    """How the call is repeated: as it says itself, else as its target says."""
    if edge.call.retry is not None or isinstance(edge.target, Act):
        return edge.call.retry
    return edge.target.spec.retry


def tries(edge: Edge) -> float:
    """Attempts for one call while its target is down; a retry budget caps them on average."""
    return repeats(retry_of(edge))


def repeats(retry: Retry | None) -> float:
    """Attempts where each fails; a retry budget caps them on average."""
    if retry is None:
        return 1.0
    return 1.0 + (min(retry.times, retry.budget.value) if retry.budget else retry.times)


def pauses(edge: Edge) -> list[float]:
    """The waits before each repetition, in seconds; each is twice as long as the one before."""
    retry = retry_of(edge)
    if retry is None:
        return []
    return [retry.first.seconds * 2**at if retry.first else 0.0 for at in range(retry.times)]


def longest(system: System, edge: Edge) -> tuple[float, list[Figure]]:
    """The longest time that the caller waits for a call, and the figures: every attempt runs into its timeout."""
    timeout, attempts = system.timeout(edge), system.attempts(edge)
    seconds = timeout.value * attempts.value + sum(pauses(edge))
    figures = [timeout, *([attempts] if attempts.value > 1 else [])]
    if edge.fallback is not None:
        other = system.figure(
            (*edge.fallback.where, "timeout"), edge.fallback.spec.timeout, "timeout", SECONDS
        )
        seconds += other.value
        figures.append(other)
    return seconds * edge.call.times, figures


def gateways(system: System) -> list[Part]:
    """The parts that every request of an actor goes through."""
    return [part for part in system.parts.values() if part.spec.kind in GATEWAYS]


def asked(op: Op, system: System) -> bool:
    """An actor asks for it and waits: not only a dependency that tells by webhook, which asks again by itself."""
    return op.spec.by is not None and any(grant.actor not in system.deps for grant in op.spec.by.grants)


def held_to(system: System, name: str, kinds: tuple[str, ...] = ()) -> Iterator[tuple[Op, Figure]]:
    """The operations that a need is asked of: those that an actor calls, and those with a need of their own.

    Args:
        system: the system.
        name: ``availability`` or ``p99``.
        kinds: the kinds of operation that the system's need is meant for; all where it is empty.
    """
    for op in system.ops.values():
        own = getattr(op.spec.needs, name) is not None
        if own or (asked(op, system) and (not kinds or op.kind in kinds)):
            need = system.need(name, op)
            if need is not None:
                yield op, need


def dependency_p99(system: System, dep: Dep) -> Figure:
    """The 99th percentile of a dependency's answer."""
    return system.figure((*dep.where, "p99"), dep.spec.p99, "dependency_p99", SECONDS)
