"""A table grows and nothing ever deletes from it."""

from __future__ import annotations

from collections.abc import Iterator

from mainstay.architect.design.figures import COUNT, PER_SECOND, SECONDS, Figure, show
from mainstay.architect.design.flows import Flow
from mainstay.architect.design.questions import listed
from mainstay.architect.design.risks import Kind, Risk, Study
from mainstay.architect.design.risks.personal_data import inside
from mainstay.architect.design.system import Entity, System
from mainstay.architect.findings import Severity

KIND = Kind(
    name="table-growth",
    title="A table gets more rows in a year than one table should hold, and nothing deletes any",
    severity=Severity.LOW,
    formula="sum over the operations that create it of usual load × one year > assume.rows, and no operation "
    "deletes the entity or what holds it",
    why="It is quick in the first month. Then an index does not fit into memory, a vacuum takes a night, a "
    "new index a weekend, and a restore longer than an outage may last. Taking old rows out is a project, "
    "dropping a partition a moment.",
    wrong_when="Where the load that is written is that of a test. Where rows are deleted by something that "
    "the blueprint does not hold. What one row weighs is not counted: wide rows get there sooner.",
    remedy="Say how long it is kept, and delete on a schedule; by partitions of time, so that deleting costs nothing.",
    patterns=("schedule",),
    sources=("PostgreSQL manual: Table Partitioning",),
)
YEAR = 365 * 86400


def assess(study: Study) -> Iterator[Risk]:
    """One risk for each service, with all its tables that grow so; loads that are only assumed are none."""
    system = study.system
    most = system.assumption("rows", COUNT)
    erased = {
        write.entity.name for op in system.ops.values() for write in op.writes if write.how == "deletes"
    }
    rates: dict[Entity, float] = {}
    inputs: dict[Entity, dict[str, Figure]] = {}
    for op in system.ops.values():
        flow = study.flows.runs(op)
        if all(figure.assumed for figure in flow.inputs if figure.unit == PER_SECOND):
            continue
        for entity in {write.entity for write in op.writes if write.how == "creates"}:
            service = system.services.get(entity.service)
            if service is None or service.store != "postgresql" or inside(system, entity.name, erased):
                continue
            rates[entity] = rates.get(entity, 0.0) + flow.usual
            inputs.setdefault(entity, {}).update(_usual(system, flow))
    growing: dict[str, list[Entity]] = {}
    for entity, rate in sorted(rates.items(), key=lambda item: -item[1]):
        if rate * YEAR > most.value:
            growing.setdefault(entity.service, []).append(entity)
    for name, entities in growing.items():
        first, rate = entities[0], rates[entities[0]]
        figures = {key: figure for entity in entities for key, figure in inputs[entity].items()}
        told = [
            f"{each.name} by {_rows(rates[each] * 86400)} rows a day, {_rows(rates[each] * YEAR)} a year"
            for each in entities
        ]
        names = ", ".join(each.name for each in entities)
        yield Risk(
            KIND,
            name,
            f"{name} grows {listed(told)}, and nothing deletes any",
            f"{show(rate, PER_SECOND)} × 365 d = {_rows(rate * YEAR)} rows ({first.name}) > {_rows(most.value)}",
            (*figures.values(), most),
            f"part it by time, {show(most.value / rate, SECONDS, 3)} in a partition at most, and delete or archive "
            f"what need not be kept: every: 1d, deletes: {names if len(entities) == 1 else f'[{names}]'}",
            system.at(*first.where),
            value=rate * YEAR,
            need=most.value,
        )


def _usual(system: System, flow: Flow) -> dict[str, Figure]:
    """The figures of a flow, less its peaks: those of the usual loads that they belong to."""
    figures = [system.used.get(each.key.removesuffix(" peak"), each) for each in flow.inputs]
    return {each.key: each for each in figures if each.key != "assume.peak"}


def _rows(number: float) -> str:
    """In the words in which people say it: ``35 million``, ``12.6 billion``."""
    for size, word in ((1e9, "billion"), (1e6, "million")):
        if number >= size:
            return f"{number / size:.3g} {word}"
    return f"{number:,.0f}"
