"""One caller may take what is there for all."""

from __future__ import annotations

from collections.abc import Iterator

from mainstay.architect.design.figures import PER_SECOND
from mainstay.architect.design.questions import (
    changes_there,
    checks_secret,
    listed,
    open_to_all,
    waited,
    written,
)
from mainstay.architect.design.risks import Kind, Risk, Study, unguarded_operation
from mainstay.architect.design.system import Act, Dep, Op, System
from mainstay.architect.findings import Severity

KIND = Kind(
    name="missing-rate-limit",
    title="One caller is not limited where it can hurt all",
    severity=Severity.MEDIUM,
    formula="no limit on the operation, the actor or a gateway, and: anyone may call it and it writes or "
    "calls out; or it checks a secret; or it uses up a dependency's limit; or tenants share it",
    why="A script that guesses passwords, a client with a bug in its loop, or one large tenant takes the "
    "capacity or the provider's quota that everybody else needs.",
    wrong_when="Where something in front of the system limits already; name it as a part with kind gateway "
    "and a limit.",
    remedy="A limit for each caller, lowest where nobody has signed in; 429 with Retry-After.",
    patterns=("http-client",),
    sources=("OWASP API Security Top 10 (2023): API4 Unrestricted Resource Consumption",),
)


def assess(study: Study) -> Iterator[Risk]:
    """One risk for each open or sign-in operation, dependency that one actor can use up, and actor with tenants."""
    system = study.system
    front = any(part.spec.limit is not None for part in system.parts.values())
    for op in system.ops.values():
        if op.spec.by is None or op.spec.limit is not None:
            continue
        if checks_secret(system, op):
            yield _of(
                system,
                op,
                f"{op.id} checks a secret and may be tried without limit",
                "limit: 10/min",
                Severity.HIGH,
            )
            continue
        opened = [name for name in open_to_all(system, op) if not _limited(system, name)]
        calls = [
            edge.target.name
            for edge in waited(op)
            if isinstance(edge.target, Dep) and changes_there(edge.target)
        ]
        writes = written(op)
        if opened and unguarded_operation.changed(op):
            continue  # unguarded-operation says worse of it
        if opened and not front and (writes or calls):
            what = (
                f"calls {listed(sorted(set(calls)))}"
                if calls
                else f"{writes[0][1].how} {writes[0][1].entity.name}"
                + (f" by {writes[0][0].id}" if writes[0][0] is not op else "")
            )
            yield _of(
                system, op, f"{op.id} is open to {listed(opened)}, {what}, and has no limit", "limit: 1/s"
            )
    if not front:
        yield from _used_up(study)
        yield from _tenants(system)


def _of(system: System, op: Op, message: str, example: str, severity: Severity = Severity.MEDIUM) -> Risk:
    return Risk(
        KIND,
        op.id,
        message,
        "0 limits",
        (),
        f"say {op.id} {example}",
        system.at(*op.where),
        severity=severity,
    )


def _limited(system: System, name: str) -> bool:
    return name in system.actors and system.actors[name].spec.limit is not None


def _used_up(study: Study) -> Iterator[Risk]:
    """Dependencies with a limit that one caller from outside can use up alone."""
    system = study.system
    for dep in system.deps.values():
        limit = system.stated((*dep.where, "limit"), dep.spec.limit, PER_SECOND)
        if limit is None:
            continue
        ways: dict[str, list[str]] = {}
        for op in system.ops.values():
            if op.spec.by is None or op.spec.limit is not None:
                continue
            if not any(edge.target is dep for edge in waited(op)):
                continue
            for grant in op.spec.by.grants:
                actor = system.actors.get(grant.actor)
                trusted = actor is None or actor.spec.roles or actor.spec.auth in ("mtls", "signature")
                if actor is not None and not trusted and actor.spec.limit is None:
                    ways.setdefault(grant.actor, []).append(op.id)
        if ways:
            shares = listed([f"{name}.limit: 1/s" for name in sorted(ways)])
            actors, ops = (
                listed(sorted(ways), "or"),
                listed(sorted({op for each in ways.values() for op in each})),
            )
            yield Risk(
                KIND,
                dep.name,
                f"one {actors} can use up the {limit} of {dep.name} alone, by {ops}",
                f"no limit for one caller, {limit} for all",
                (limit,),
                f"limit one caller to a small share of it, such as {shares}",
                system.at(*dep.where, "limit"),
            )


def _tenants(system: System) -> Iterator[Risk]:
    if system.blueprint.tenancy is None or system.blueprint.tenancy.isolation == "database":
        return
    actors: list[Act] = [
        actor for actor in system.actors.values() if actor.spec.tenant and actor.spec.limit is None
    ]
    used = {
        grant.actor
        for op in system.ops.values()
        if op.spec.by and not op.spec.limit
        for grant in op.spec.by.grants
    }
    for actor in actors:
        if actor.name in used:
            yield Risk(
                KIND,
                actor.name,
                f"tenants share one database, and nothing limits one tenant's {actor.name}",
                "tenants share, 0 limits",
                (),
                f"say {actor.name}.limit, and count it for each tenant",
                system.at(*actor.where),
            )
