"""What operations and entities are called outside, in the spelling of each format, and who is offered what."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from functools import lru_cache

from mainstay.architect.design.questions import changes_there
from mainstay.architect.design.system import READING, Act, Dep, Op, System

STREAMING = ("stream", "subscription")
ACTING = (
    "accept", "activate", "add", "amend", "apply", "approve", "archive", "ask", "assign", "authorise",
    "authorize", "book", "buy", "cancel", "capture", "change", "charge", "close", "collect", "confirm",
    "correct", "create", "delete", "disable", "do", "drop", "edit", "enable", "erase", "forget", "generate",
    "grant", "hide", "import", "invite", "issue", "join", "leave", "lock", "log", "login", "logout", "make",
    "mark", "merge", "modify", "move", "notify", "open", "patch", "pay", "place", "post", "process",
    "publish", "put", "record", "redeliver", "refresh", "refund", "register", "reject", "release", "remove",
    "rename", "renew", "replace", "reserve", "reset", "restore", "retry", "revoke", "rotate", "run", "save",
    "send", "set", "ship", "sign", "start", "stop", "store", "submit", "subscribe", "sync", "take", "unlock",
    "unsubscribe", "update", "upload", "verify", "void", "vote", "write",
)  # fmt: skip
"""First words of a name that promise a deed."""
UNCOUNTED = ("data", "equipment", "feedback", "information", "media", "metadata", "news", "series", "staff")
IRREGULAR = {"person": "people", "child": "children", "man": "men", "woman": "women", "leaf": "leaves"}


# ---------------------------------------------------------------------------------------------- spelling


def words(name: str) -> list[str]:
    """The small words of a name: ``OrderLine`` and ``order_line`` are both ``order``, ``line``."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return [word.lower() for word in parted.split("_") if word]


@lru_cache(maxsize=20_000)
def snake(name: str) -> str:
    """``order_line``."""
    return "_".join(words(name))


@lru_cache(maxsize=20_000)
def dashed(name: str) -> str:
    """``order-line``."""
    return "-".join(words(name))


def pascal(name: str) -> str:
    """``OrderLine``."""
    return "".join(word[:1].upper() + word[1:] for word in words(name))


def camel(name: str) -> str:
    """``orderLine``."""
    made = pascal(name)
    return made[:1].lower() + made[1:]


def upper(name: str) -> str:
    """``ORDER_LINE``."""
    return snake(name).upper()


def distinct(
    names: Iterable[str],
    spell: Callable[[str], str],
    taken: Collection[str] = (),
    same: Callable[[str], str] = str,
) -> dict[str, str]:
    """Names as one format spells them, no two alike: of two that it cannot tell apart, the later one gets a number.

    Args:
        names: as written; ``a_b`` and ``a__b`` are two names, and ``aB`` both times.
        spell: the spelling.
        taken: what none may be called.
        same: what two spellings must differ in, where that is not the whole.
    """
    used = {same(name) for name in taken}
    made: dict[str, str] = {}
    for name in names:
        if name not in made:
            wanted = spell(name)
            shown, number = wanted, 2
            while same(shown) in used:
                shown, number = f"{wanted}{'_' if '_' in wanted else ''}{number}", number + 1
            used.add(same(shown))
            made[name] = shown
    return made


def sentence(name: str) -> str:
    """``Order line``."""
    return " ".join(words(name)).capitalize()


@lru_cache(maxsize=20_000)
def plural(word: str) -> str:
    """The plural of the last word of a name: ``order-line`` is ``order-lines``."""
    head, last = re.fullmatch(r"(.*?)([A-Za-z0-9]*)", word, re.DOTALL).groups()  # type: ignore[union-attr]
    low = last.lower()
    if not last or low in UNCOUNTED or (low.endswith("s") and not low.endswith(("ss", "us", "is", "as"))):
        return word
    if low in IRREGULAR:
        return head + IRREGULAR[low]
    if low.endswith("y") and low[-2:-1] not in "aeiou":
        return f"{head}{last[:-1]}ies"
    if low.endswith("is"):
        return f"{head}{last[:-2]}es"
    return f"{head}{last}{'es' if low.endswith(('s', 'x', 'z', 'ch', 'sh')) else 's'}"


def article(name: str) -> str:
    """``an Order``, ``a Line``."""
    return f"{'an' if name[:1] in 'AEIOU' and not name.startswith(('Us', 'Uni')) else 'a'} {name}"


# ---------------------------------------------------------------------------------------------- who offers what


@lru_cache(maxsize=4)
def _called_from_elsewhere(system: System) -> frozenset[Op]:
    """Operations that another service calls, first of all or instead; and those that undo one of these."""
    found: set[Op] = set()
    for op in system.ops.values():
        for edge in op.edges:
            for target in (edge.target, edge.fallback):
                if isinstance(target, Op) and target.service != op.service:
                    found.add(target)
    undoing = {op.undo for op in found if op.undo is not None and not (op.undo.spec.on or op.undo.spec.every)}
    return frozenset(found | undoing)


def called_by_services(system: System, op: Op) -> bool:
    """Another service of the system calls it."""
    return op in _called_from_elsewhere(system)


def called_by_actors(system: System, op: Op) -> bool:
    """Somebody outside calls it; a dependency that does sends a webhook, which is another matter."""
    by = op.spec.by
    return by is not None and any(grant.actor not in system.deps for grant in by.grants)


def exposed(system: System, service: str, protocol: str) -> list[Op]:
    """The operations that a service offers over one protocol, in the order written.

    Actors use whatever it speaks; other services use what it speaks first. An operation that nothing sets off (nobody
    may call it, no event, no schedule, no call) is offered too: that it stands in the blueprint means that it is meant.
    """
    spec = system.services[service]
    if protocol not in spec.speaks:
        return []
    found = []
    for name in spec.does:
        op = system.ops[f"{service}.{name}"]
        inside = any(edge.caller.service == service for edge in op.callers)
        idle = not (op.spec.by or op.spec.on or op.spec.every or inside or _undoes(system, op))
        if (
            called_by_actors(system, op)
            or (spec.speaks[0] == protocol and called_by_services(system, op))
            or (idle and not called_by_services(system, op))
        ):
            found.append(op)
    return found


def _undoes(system: System, op: Op) -> bool:
    return any(
        system.ops[f"{op.service}.{name}"].undo is op
        for name, spec in system.services[op.service].does.items()
        if spec.undo == op.name
    )


def webhooks_in(system: System, service: str) -> dict[str, list[Op]]:
    """The dependencies that send webhooks to a service, each with the operations that handle them."""
    found: dict[str, list[Op]] = {}
    for name in system.services[service].does:
        op = system.ops[f"{service}.{name}"]
        senders = {
            emitter.name
            for event in op.spec.on
            for emitter in system.events[event].emitters
            if isinstance(emitter, Dep)
        }
        if op.spec.by is not None:
            senders |= {grant.actor for grant in op.spec.by.grants if grant.actor in system.deps}
        for sender in sorted(senders):
            found.setdefault(sender, []).append(op)
    return dict(sorted(found.items()))


def webhooks_out(system: System, service: str) -> list[tuple[Op, Act]]:
    """The operations of a service that tell an actor something by webhook."""
    return [
        (op, edge.target)
        for name in system.services[service].does
        for op in [system.ops[f"{service}.{name}"]]
        for edge in op.edges
        if isinstance(edge.target, Act)
    ]


def over_http(system: System, service: str) -> list[Op]:
    """The operations that a service offers over HTTP, streams by server-sent events among them."""
    speaks = system.services[service].speaks
    plain = exposed(system, service, "http")
    streams = exposed(system, service, "sse") if "sse" in speaks else plain
    if "sse" not in speaks and ("websocket" in speaks or "graphql" in speaks):
        streams = []
    offered = {op for op in plain if op.kind not in STREAMING} | {
        op for op in streams if op.kind in STREAMING
    }
    return [
        op for name in system.services[service].does if (op := system.ops[f"{service}.{name}"]) in offered
    ]


def scope(op: Op) -> str:
    """The permission that an operation asks for: ``orders:read`` or ``orders:write``."""
    return f"{op.service}:{'read' if reads(op) else 'write'}"


def reads(op: Op) -> bool:
    """It only looks: it says of no change, is not called as what acts, and calls nothing that changes something."""
    if op.mutates or op.kind in ("upload", "bulk", "long"):
        return False
    if op.kind in (*STREAMING, "download") or op.spec.cache is not None:
        return True
    verb = words(op.name)[0]
    if verb in READING:
        return True
    given = op.spec.gives.type if op.spec.gives is not None else None
    if given is None or (verb in ACTING and not _is_noun(op.name, given.entity)):
        return False
    return in_query(op) and not _sets_off(op)


def _is_noun(name: str, entity: str) -> bool:
    """A name begins with what is given: ``place`` gives a ``Place``, ``books`` gives ``Book*``."""
    own = snake(entity)
    return bool(own) and f"{name}_".startswith((f"{own}_", f"{plural(own)}_"))


def _sets_off(op: Op) -> bool:
    """It calls, directly or not, what changes something."""
    seen, stack = {op}, [op]
    while stack:
        for edge in stack.pop().edges:
            target = edge.target
            if isinstance(target, Act) or (isinstance(target, Dep) and changes_there(target)):
                return True
            if isinstance(target, Op) and target not in seen:
                if target.mutates:
                    return True
                seen.add(target)
                stack.append(target)
    return False


def in_query(op: Op) -> bool:
    """What it takes can stand in a URL: plain values, and nothing that must not stand in logs."""
    return all(
        (type.field or not type.entity)
        and type.name not in ("json", "file", "money", "email", "phone")
        and "secret" not in type.marks
        and not type.personal
        for type in op.spec.takes.values()
    )
