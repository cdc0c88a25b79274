"""What an operation waits for is down more often than the operation may be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mainstay.architect.design.chances import Block, Chance, Chances, Factor
from mainstay.architect.design.figures import SHARE, Figure, at_least, show
from mainstay.architect.design.questions import listed, waited
from mainstay.architect.design.risks import Kind, Risk, Study
from mainstay.architect.design.system import Edge, Op
from mainstay.architect.design.trees import below, held_to
from mainstay.architect.findings import Severity, Step

KIND = Kind(
    name="availability-chain",
    title="A synchronous chain is available less often than is needed",
    severity=Severity.HIGH,
    formula="product of the availabilities of all that one run waits for, each component once; a call in a "
    "share s of runs: 1 - s + s × a; a fallback: 1 - (1 - a)(1 - b), or 1 where nothing is asked instead; a "
    "cache: c + (1 - c) × a, c being the share of an outage that it bridges; components shared between "
    "these are conditioned on, and caches of one component see the same outage",
    why="A run succeeds only while everything that it waits for is up. Five parts of 99.95% in a row are "
    "down for an hour and three quarters a month, and none of their owners sees more than 22 minutes of it.",
    wrong_when="Too low where outages come together (one region, one deploy), for then they overlap. Too "
    "high where a cache lives in the process that is down, where slowness fails calls too, or where what is "
    "asked is not asked again within `stale`. Retries are not counted: they help against lost packets, not "
    "against an outage that outlasts them. Copies are not multiplied: what takes a service down (a deploy, "
    "its database) mostly takes all of them. Simulated with independent outages it is exact, caches behind "
    "caches included; where too much is shared to be told apart it says 'at least'.",
    remedy="Hand over what need not be answered at once; give the rest a fallback or an answer from a cache.",
    patterns=("outbox", "job"),
    sources=(
        "Treynor, Dahlin, Rau, Beyer: The Calculus of Service Availability (ACM Queue, 2017)",
        "Site Reliability Engineering (Google, 2016), chapter 3: Embracing Risk",
    ),
)
MOST, EFFORT = 40, 200
"""Calls that a remedy tries to hand over; fewer where the tree is large, so that all come to that many operations."""


@dataclass(frozen=True, slots=True)
class Chain:
    """Operations that wait for the same."""

    op: Op
    """The first of them."""
    alike: list[Op]
    need: Figure
    block: Block
    given: float
    exact: bool


def assess(study: Study) -> Iterator[Risk]:
    """One risk for each chain; operations of one service that wait for the same are said once.

    So are all operations that call nothing and come to the same.
    """
    chances = Chances(study)
    figures = {name: chances.figure(name) for name in _components(study)}
    values = {name: figure.value for name, figure in figures.items()}
    alike: dict[tuple[object, ...], Chain] = {}
    for op, need in held_to(study.system, "availability"):
        block = chances.entry(op)
        chance = Chance(values)
        given = chance.of(block)
        if given >= need.value:
            continue
        # Where nothing is called, one word of each service and its gateway is enough for all services.
        same = (op.service, block) if any(edge.waits for edge in op.edges) else (given, len(block.names))
        chain = alike.setdefault((same, need.value), Chain(op, [], need, block, given, chance.exact))
        if chain.op is not op:
            chain.alike.append(op)
    for chain in alike.values():
        yield _risk(study, chances, chain, figures, values)


def _components(study: Study) -> list[str]:
    return [*study.system.services, *study.system.deps, *study.system.parts]


def _risk(
    study: Study, chances: Chances, chain: Chain, figures: dict[str, Figure], values: dict[str, float]
) -> Risk:
    op, need, block = chain.op, chain.need, chain.block
    calls = list(dict.fromkeys(waited(op)))
    names = [name for name in figures if name in block.names]
    inputs = {figures[name].key: figures[name] for name in names}
    for each in {op, *(edge.target for edge in calls), *(edge.fallback for edge in calls)}:
        if isinstance(each, Op):
            inputs.update({figure.key: figure for figure in chances.bridging(each)})
    for edge in calls:
        if edge.call.share is not None:
            inputs[f"{edge.id}.share"] = Figure(
                f"{edge.id}.share", edge.call.share.value, SHARE, study.system.at(*edge.where)
            )
    least = "" if chain.exact else "at least "
    waits = (
        f"it waits for {listed(names)}"
        if len(names) > 1
        else f"{names[0]} alone is no better"
        if names
        else "a cache alone"
    )
    also = ""
    if chain.alike:
        others = [other.name if other.service == op.service else other.id for other in chain.alike]
        shown = [*others[:3], *([f"{len(others) - 3} more"] if len(others) > 3 else [])]
        also = f"; the same goes for {listed(shown)}"
    return Risk(
        KIND,
        op.id,
        f"the synchronous chain of {op.id} gives {least}{_percent(chain.given, need.value)}, need {need}: "
        f"{waits}{also}",
        f"{_shown(block, figures)} = {least}{_percent(chain.given, need.value)} < {need}",
        (*(inputs[key] for key in sorted(inputs)), need),
        _remedy(study, chain, figures, values, calls),
        study.system.at(*op.where),
        tuple(
            Step(study.system.at(*edge.where), f"{edge.caller.id} waits for {edge.target.id}", edge.id)
            for edge in calls
            if not edge.optional
        ),
        value=chain.given,
        need=need.value,
        severity=_severity(chain.given, need.value),
    )


def _severity(given: float, need: float) -> Severity:
    """How loud: by how much oftener it fails than it may."""
    oftener = (1 - given) / (1 - need) if need < 1 else 2.0
    return Severity.HIGH if oftener >= 2 else Severity.MEDIUM if oftener >= 1.25 else Severity.LOW


def _percent(value: float, need: float) -> str:
    """With as many digits as it takes to tell it from the need."""
    text, same = show(value, SHARE), float(show(need, SHARE).rstrip("%"))
    digits = 3
    while float(text.rstrip("%")) == same and value != need and digits < 10:
        text, digits = f"{value * 100:.{digits}f}%", digits + 1
    return text


def _shown(block: Block, figures: dict[str, Figure], depth: int = 0) -> str:
    """The product in text: ``orders 99.95% × (1 - 30% + 30% × recommend 99%)``."""
    parts = [f"{name} {figure}" for name, figure in figures.items() if name in block.needed]
    for factor, times in block.factors:
        text = _factor(factor, figures, depth)
        parts.append(text + (f"^{times}" if times > 1 else ""))
    return " × ".join(parts) or "1"


def _factor(factor: Factor, figures: dict[str, Figure], depth: int) -> str:
    if depth > 3:
        return "(…)"
    ways = [_shown(way, figures, depth + 1) for way in factor.ways]
    inner = ways[0] if len(ways) == 1 else "1 - " + " × ".join(f"(1 - {way})" for way in ways)
    given = factor.free if factor.keep is None else factor.keep.bridged
    if given <= 0:
        return f"({inner})"
    free, rest = show(given, SHARE), show(1 - given, SHARE)
    return f"({free} + {rest} × {inner if len(ways) == 1 else f'({inner})'})"


def _remedy(
    study: Study, chain: Chain, figures: dict[str, Figure], values: dict[str, float], calls: list[Edge]
) -> str:
    need, block = chain.need.value, chain.block
    own = [name for name in figures if name in block.names and name in study.system.services]
    others = [name for name in figures if name in block.names and name not in study.system.services]
    ways: list[str] = []
    perfect = {**values, **dict.fromkeys(own, 1.0)}
    if Chance(perfect).of(block) < need + (1 - need) * 1e-3:
        others.sort(key=lambda name: values[name])
        blamed = [others.pop(0)]
        while others and Chance({**perfect, **dict.fromkeys(blamed, 1.0)}).of(block) <= need:
            blamed.append(others.pop(0))
        blame = listed([f"{name} ({figures[name]})" for name in blamed])
        verb = "is" if len(blamed) == 1 else "are"
        ways.append(f"no number of ours can reach it while {blame} {verb} waited for")
    elif own:
        each = at_least(_solve(block, values, own, need), SHARE)
        ways.append(
            f"{own[0]} would need {each}"
            if len(own) == 1
            else f"each of {len(own)} services would need {each}"
        )
    ways += _handed_over(study, chain, values, calls)
    return "; ".join(ways)


def _solve(block: Block, values: dict[str, float], own: list[str], need: float) -> float:
    """The availability that every one of these would need, to the next thousandth of what may fail."""

    def short(down: float) -> float:
        return need - Chance({**values, **dict.fromkeys(own, 1 - down)}).of(block)

    # By false position (Illinois) in how much each may be down, in which the chance is all but a straight line.
    low, high = 0.0, 1.0
    at_low, at_high = short(low), short(high)
    for _ in range(12):
        middle = (low * at_high - high * at_low) / (at_high - at_low)
        at = short(middle)
        if at <= 0:
            low, at_low, at_high = middle, at, at_high / 2
        else:
            high, at_high, at_low = middle, at, at_low / 2
        if abs(at) < (1 - need) * 1e-4 and at <= 0:
            break
    return 1 - low


def _handed_over(study: Study, chain: Chain, values: dict[str, float], calls: list[Edge]) -> list[str]:
    """What is gained where a single call is handed over, or given a fallback; or several, where no one is enough."""

    def without(edges: frozenset[Edge]) -> float:
        return Chance(values).of(Chances(study, edges).entry(chain.op))

    need = chain.need.value
    most = min(MOST, EFFORT // len(below(chain.op)))
    tried = [(without(frozenset([edge])), edge) for edge in calls[:most] if not edge.optional]
    tried = [(given, edge) for given, edge in tried if given > chain.given]
    enough = [(given, edge) for given, edge in tried if given >= need]
    if enough:
        # The fewest words: a call deep in the tree before the branch that holds it, two at most.
        names = " or ".join(
            f"{_called(edge, chain.op)} ({_percent(given, need)})" for given, edge in enough[:2]
        )
        return [f"enough: hand over {names}, or give it a fallback"]
    if not tried:
        return []
    best = max(tried, key=lambda each: each[0])
    chosen = [best[1]]
    given = best[0]
    for reached, edge in sorted(tried, key=lambda each: -each[0])[1:4]:
        if given >= need or reached <= chain.given:
            break
        more = without(frozenset([*chosen, edge]))
        if more > given:
            chosen.append(edge)
            given = more
    text = _called(best[1], chain.op)
    one = f"handing over {text}, or giving it a fallback, brings {_percent(best[0], need)}"
    if given >= need and len(chosen) > 1:
        return [
            f"{one}; {listed([_called(edge, chain.op) for edge in chosen])} together {_percent(given, need)}"
        ]
    return [one]


def _called(edge: Edge, root: Op) -> str:
    return edge.target.id if edge.caller is root else f"{edge.target.id} (called by {edge.caller.id})"
