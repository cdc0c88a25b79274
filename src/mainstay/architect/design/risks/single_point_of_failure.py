"""One thing stands alone, and everything waits for it."""

from __future__ import annotations

from collections.abc import Iterator

from mainstay.architect.design.chances import Chance, Chances
from mainstay.architect.design.figures import COUNT, Figure, show
from mainstay.architect.design.questions import listed
from mainstay.architect.design.risks import Kind, Risk, Study
from mainstay.architect.design.system import Op
from mainstay.architect.design.trees import asked, gateways, held_to
from mainstay.architect.findings import Severity

KIND = Kind(
    name="single-point-of-failure",
    title="One copy, one way in, or one dependency that everything waits for",
    severity=Severity.MEDIUM,
    formula="copies = 1 of a service without which an operation answers less often than it must; or a "
    "gateway before all of them whose availability is below the need of 99.95% or more; or a dependency "
    "without which at most a tenth of the runs of each operation that actors call (3 or more) succeeds",
    why="Whatever stands alone is down for every deploy, restart and lost machine, and takes all that waits "
    "for it with it. It sets the ceiling for everything else that is done for availability.",
    wrong_when="Where the one copy restarts faster than its callers give up, or the dependency is itself "
    "redundant and its availability says so. Each component was taken away in simulations: what was said to "
    "fail fails, and nothing else. Not seen is what is not in the blueprint: one zone, one certificate, one "
    "name server.",
    remedy="A second copy; a way to go on without it: an answer that is kept, a token that can be checked "
    "offline, a queue.",
    sources=("Site Reliability Engineering (Google, 2016), chapter 22: Addressing Cascading Failures",),
)
HIGH = 0.9995
"""Availability from which a gateway must be better than its need."""
ALL = 3
"""Operations that must wait for the same dependency."""
LEFT = 0.1
"""Share of runs that goes on without it below which everything is down."""


def assess(study: Study) -> Iterator[Risk]:
    """One risk for each service of one copy, each gateway and each dependency that everything waits for."""
    system = study.system
    held = list(held_to(system, "availability"))
    if not held:
        return
    chances = Chances(study)
    for service, spec in system.services.items():
        if spec.copies != 1:
            continue
        ops = [(op, need) for op, need in held if _fails(chances, op, service, need.value)]
        if not ops:
            continue
        need = max((need for _, need in ops), key=lambda figure: figure.value)
        month = (1 - need.value) * 30 * 86400
        yield Risk(
            KIND,
            service,
            f"{service} runs as 1 copy, and {_ops([op for op, _ in ops])} for it: every deploy and crash is an "
            f"outage, of which {need} leaves {show(month, 's', 2)} a month",
            f"copies = 1; need {need} of {ops[0][0].id}",
            (system.stated(("services", service, "copies"), 1, COUNT) or need, need),
            "copies: 2, replaced one after the other",
            system.at("services", service, "copies"),
            value=1.0,
            need=2.0,
        )
    entered = [op for op in system.ops.values() if asked(op, system)]
    strict = max((need for _, need in held), key=lambda figure: figure.value)
    for part in gateways(system):
        given = system.availability(part)
        if strict.value >= HIGH and given.value <= strict.value and entered:
            yield Risk(
                KIND,
                part.name,
                f"every request goes through {part.name}, whose availability of {given} is no better than the need "
                f"of {strict}{': nothing says that there is a second one' if given.assumed else ''}",
                f"{given} <= {strict}",
                (given, strict),
                f"a second {part.spec.kind} beside it: {show(1 - (1 - given.value) ** 2, '%')} if they fail apart; "
                f"write its availability",
                system.at(*part.where),
                value=given.value,
                need=strict.value,
            )
    yield from _dependencies(chances, entered, strict)


def left(chances: Chances, op: Op, name: str) -> tuple[float, bool]:
    """The share of an operation's runs that succeed while one component is down and all others are up.

    Returns:
        The share, and whether it is exact or a lower bound.
    """
    block = chances.entry(op)
    if name not in block.names:
        return 1.0, True
    chance = Chance({each: 0.0 if each == name else 1.0 for each in block.names})
    return chance.of(block), chance.exact


def _fails(chances: Chances, op: Op, name: str, need: float) -> bool:
    given, exact = left(chances, op, name)
    return given < need and (exact or name in chances.entry(op).needed)


def _ops(ops: list[Op]) -> str:
    if len(ops) == 1:
        return f"{ops[0].id} waits"
    return f"{len(ops)} operations wait ({listed([op.id for op in ops[:2]])}{' …' if len(ops) > 2 else ''})"


def _dependencies(chances: Chances, entered: list[Op], need: Figure) -> Iterator[Risk]:
    if len(entered) < ALL:
        return
    system = chances.study.system
    for dep in system.deps.values():
        if not all(_fails(chances, op, dep.name, LEFT) for op in entered):
            continue
        given = system.availability(dep)
        yield Risk(
            KIND,
            dep.name,
            f"all {len(entered)} operations that actors call wait for {dep.name} ({given}), with nothing in its place: "
            f"while it is down, so is everything",
            f"{dep.name} is waited for, without a fallback, by {listed([op.id for op in entered[:4]])}"
            + (" …" if len(entered) > 4 else "")
            + f"; need {need}",
            (given, need),
            f"what goes on without it: answers of {dep.name} that are kept (cache with stale), what can be checked "
            "without asking, or 'else'",
            system.at(*dep.where),
            value=given.value,
            need=need.value,
        )
