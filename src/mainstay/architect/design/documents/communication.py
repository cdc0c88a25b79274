"""Who speaks to whom, and what holds when it fails: one row for each call and each event."""

from __future__ import annotations

from collections.abc import Iterator

from mainstay.architect.design.documents.markdown import table
from mainstay.architect.design.generated import Generated
from mainstay.architect.design.questions import BROKERS, brokers
from mainstay.architect.design.study import Result
from mainstay.architect.design.system import Act, Dep, Edge, Op, System

HEADS = ("from", "to", "by", "waits", "timeout", "attempts", "what holds", "order", "instead")
SPEAKS = {"http": "HTTP", "grpc": "gRPC", "graphql": "GraphQL", "websocket": "WebSocket", "sse": "SSE"}


def generate(result: Result) -> Iterator[Generated]:
    """The table of the whole system."""
    system = result.study.system
    calls = [call_row(system, edge) for op in system.ops.values() for edge in op.edges]
    events = list(event_rows(system))
    text = "# Communication\n\n"
    if calls:
        text += "## Calls\n\nAssumed values carry a question mark.\n\n" + table(HEADS, calls) + "\n"
    if events:
        text += "## Events\n\n" + table(("event", "from", "to", "by", "what holds", "order"), events) + "\n"
    if not calls and not events:
        text += "Nothing is called and nothing is emitted.\n"
    yield Generated(
        "documents/communication.md",
        text.rstrip() + "\n",
        "Communication",
        "markdown",
        "Every call and every event: protocol, timeout, attempts, what holds when it fails, order.",
    )


def call_row(system: System, edge: Edge) -> tuple[str, ...]:
    """One call as a row."""
    target = edge.target
    times = f" x{edge.call.times}" if edge.call.times > 1 else ""
    timeout, attempts = system.timeout(edge), system.attempts(edge)
    mark = " ?" if timeout.assumed else ""
    if isinstance(target, Act):
        by = "webhook, signed"
    elif not edge.waits:
        by = "job in PostgreSQL"
    elif isinstance(target, Op):
        speaks = system.services[target.service].speaks
        local = target.service == edge.caller.service
        by = "in the process" if local else SPEAKS[speaks[0]]
    else:
        by = "HTTPS"
    return (
        edge.caller.id,
        target.id + times,
        by,
        "yes" if edge.waits else "no",
        f"{timeout}{mark}",
        f"{attempts}" if edge.waits else "until it is done",
        guarantee(edge, attempts.value),
        "in turn" if edge.waits else "none",
        edge.call.fallback or "it fails",
    )


def guarantee(edge: Edge, attempts: float) -> str:
    """How often the call takes effect, when anything may fail."""
    target = edge.target
    if isinstance(target, Act):
        return "at least once, with an id"
    if isinstance(target, Op):
        known = target.spec.idempotent in ("key", "natural")
        changes = target.mutates
    else:
        known = target.spec.idempotency in ("header", "key", "natural")
        changes = target.spec.writes is not False
    if attempts == 1 and edge.waits:
        return "at most once"
    if not changes:
        return "at least once; it only reads"
    return "at least once, in effect once" if known else "at least once: may take effect twice"


def event_rows(system: System) -> Iterator[tuple[str, ...]]:
    """Each event from each emitter to each consumer as a row."""
    through = brokers(system)
    for event in system.events.values():
        for emitter in event.emitters:
            for op in event.consumers:
                if isinstance(emitter, Dep):
                    by, holds, order = "webhook", _twice(op, "at least once"), "none"
                elif through:
                    kind = system.parts[through[0]].spec.kind
                    by = f"outbox, then {kind if kind in BROKERS else through[0]}"
                    holds, order = _twice(op, "at least once"), f"by {_key(emitter)}"
                else:
                    by = "outbox in PostgreSQL"
                    holds = "exactly once in one database, else at least once with an inbox"
                    order = f"by {_key(emitter)}"
                yield event.name, emitter.id, op.id, by, holds, order


def _key(emitter: Op) -> str:
    """The key that keeps order: of the entity that the emitter writes."""
    if emitter.writes:
        entity = emitter.writes[0].entity
        return f"{entity.name}.{entity.key}"
    return "nothing: none is written"


def _twice(op: Op, text: str) -> str:
    return f"{text}, in effect once" if op.spec.idempotent in ("key", "natural") or not op.mutates else text
