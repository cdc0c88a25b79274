"""Anybody can send what a provider sends."""

from __future__ import annotations

from collections.abc import Iterator

from mainstay.architect.design.questions import listed
from mainstay.architect.design.risks import Kind, Risk, Study
from mainstay.architect.design.system import Dep
from mainstay.architect.findings import Severity

KIND = Kind(
    name="forged-webhook",
    title="A webhook comes in, and nothing says how its sender is known",
    severity=Severity.HIGH,
    formula="a dependency sends events or calls an operation, and its auth is not said",
    why="The address of a webhook is no secret for long. Who knows it tells the system that a payment was captured.",
    wrong_when="Where the network lets only the provider in: say auth: network.",
    remedy="Verify the signature over the raw body, with a time that bounds replays.",
    sources=("Standard Webhooks specification 1.0",),
)


def assess(study: Study) -> Iterator[Risk]:
    """One risk for each dependency that sends."""
    system = study.system
    for dep in system.deps.values():
        if dep.spec.auth:
            continue
        handlers = [
            op.id
            for op in system.ops.values()
            if (op.spec.by and any(grant.actor == dep.name for grant in op.spec.by.grants))
            or any(dep in _emitters(study, name) for name in op.spec.on)
        ]
        if handlers:
            yield Risk(
                KIND,
                dep.name,
                f"{listed(handlers)} acts on webhooks of {dep.name}, and nothing says how a forged one is known",
                f"{len(handlers)} handlers, auth not said",
                (),
                f"verify its signature, and say {dep.name}.auth: signature",
                system.at(*dep.where),
            )


def _emitters(study: Study, name: str) -> list[Dep]:
    return [node for node in study.system.events[name].emitters if isinstance(node, Dep)]
