"""Questions that several risks and documents ask of a system."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from mainstay.architect.design.shapes import Type
from mainstay.architect.design.system import ANYONE, SIGN_IN, Act, Dep, Edge, Entity, Op, System, Write

OWNERS = ("customer", "user", "owner", "account", "author", "member", "buyer", "patient", "created_by")
"""Fields that commonly say whose a row is."""
CHANGING = ("payment", "mail", "storage", "broker", "database")
BROKERS = ("kafka", "nats", "rabbitmq", "redis", "sqs", "pubsub", "pulsar", "broker", "kinesis")


def waited(op: Op) -> Iterator[Edge]:
    """Every call that an operation waits for, its own and those below it, each once, in order."""
    seen: set[Op] = {op}
    stack = [op]
    while stack:
        for edge in stack.pop(0).edges:
            if not edge.waits:
                continue
            yield edge
            if isinstance(edge.target, Op) and edge.target not in seen:
                seen.add(edge.target)
                stack.append(edge.target)


def waited_for(op: Op) -> list[Op]:
    """The operation and those that it waits for, directly or not."""
    return [
        op,
        *dict.fromkeys(
            edge.target for edge in waited(op) if isinstance(edge.target, Op) and edge.target != op
        ),
    ]


def behind(op: Op, past: Collection[Op] = ()) -> list[Op]:
    """The operation and all that one run of it sets going: what it waits for, and what it hands over by a call.

    What only operations of `past` call is left out.
    """
    found = {op: None}
    stack = [op]
    while stack:
        current = stack.pop(0)
        if current in past:
            continue
        for edge in current.edges:
            if isinstance(edge.target, Op) and edge.target not in found:
                found[edge.target] = None
                stack.append(edge.target)
    return list(found)


def written(op: Op) -> list[tuple[Op, Write]]:
    """What an operation writes, and who does it: itself, or those behind it where it is a front that writes nothing."""
    return [(each, write) for each in ([op] if op.writes else behind(op)) for write in each.writes]


def entered(op: Op) -> bool:
    """Somebody outside calls it."""
    return op.spec.by is not None


def changes_there(dep: Dep) -> bool:
    """A call changes something at the dependency."""
    return dep.spec.writes if dep.spec.writes is not None else dep.spec.kind in CHANGING


def open_to_all(system: System, op: Op) -> list[str]:
    """The actors that may call it without signing in."""
    names = [grant.actor for grant in op.spec.by.grants] if op.spec.by else []
    return [
        name
        for name in names
        if name == ANYONE or (name in system.actors and system.actors[name].spec.auth == "none")
    ]


def checks_secret(system: System, op: Op) -> bool:
    """It is where somebody who is not yet known proves who they are: it can be tried again and again.

    Who takes a secret and makes a row that holds one, such as a sign-up, sets it and checks nothing.
    """
    named = any(op.name.startswith(name) or op.name.endswith(name) for name in SIGN_IN)
    given = any("secret" in type.marks for type in op.spec.takes.values())
    sets = any(
        write.how == "creates" and write.entity.holds("secret")
        for each in behind(op)
        for write in each.writes
    )
    return (named or (given and not sets)) and bool(open_to_all(system, op))


def end_user(actor: Act) -> bool:
    """One of many people, each with things of their own; staff has roles, machines have keys or certificates."""
    return actor.spec.auth not in ("api_key", "mtls", "signature", "none") and not actor.spec.roles


def personal_in(system: System, fields: Mapping[str, Type], service: str) -> list[str]:
    """The ways to personal data in some fields: ``ship_to.street``. Entities inside are followed, references not."""
    found: list[str] = []

    def follow(fields: Mapping[str, Type], way: tuple[str, ...], seen: frozenset[str]) -> None:
        for name, type in fields.items():
            if type.personal:
                found.append(".".join((*way, name)))
            elif (
                type.entity and not type.field and type.entity not in seen and type.entity in system.entities
            ):
                inner = system.entity(type.entity, service, ())
                follow(inner.fields, (*way, name), seen | {type.entity})

    follow(fields, (), frozenset())
    return found


def personal_of(system: System, type: Type | None, service: str) -> list[str]:
    """The ways to personal data in a type."""
    if type is None or not type.entity:
        return []
    entity = system.entity(type.entity, service, ())
    if type.field:
        return [str(type)] if entity.fields[type.field].personal else []
    return [f"{type.entity}.{way}" for way in personal_in(system, entity.fields, service)]


def belongs(system: System, entity: Entity) -> bool:
    """Its rows are somebody's: it names an owner, or holds personal data."""
    names = (*OWNERS, *system.actors)
    owned = any(name.removesuffix("_id") in names for name in entity.fields)
    return owned or bool(personal_in(system, entity.fields, entity.service))


def holds_money(entity: Entity) -> bool:
    """It has an amount of money."""
    return any(type.name == "money" for type in entity.fields.values())


def brokers(system: System) -> list[str]:
    """The parts that carry messages."""
    return [name for name, part in system.parts.items() if part.spec.kind in BROKERS]


def listed(names: Iterator[str] | list[str] | tuple[str, ...] | set[str], word: str = "and") -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    *first, last = sorted(names) if isinstance(names, set) else list(names)
    return f"{', '.join(first)} {word} {last}" if first else last
