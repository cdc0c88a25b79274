"""More parts than the team can keep running."""

from __future__ import annotations

from collections.abc import Iterator

from mainstay.architect.design.figures import COUNT, Figure, show
from mainstay.architect.design.risks import Kind, Risk, Study
from mainstay.architect.findings import Severity

KIND = Kind(
    name="team-load",
    title="There are more parts to run than people to run them",
    severity=Severity.MEDIUM,
    formula="(services + parts) / team > parts_per_person",
    why="Each has upgrades, backups, alerts, a dashboard, a certificate and a night in which it fails. Past "
    "a point nobody knows all of them, and outages last as long as it takes to find somebody who does.",
    wrong_when="Where a platform team or a provider runs most of it; count only what this team is woken for. "
    "It is a rule of thumb and no physical quantity: nothing can be simulated, and "
    "`assume.parts_per_person` is yours to set.",
    remedy="Fewer deployables: modules in one service, and parts that PostgreSQL can stand in for.",
    sources=("Skelton and Pais: Team Topologies (2019), chapter 3: cognitive load",),
)


def assess(study: Study) -> Iterator[Risk]:
    """At most one risk, for the system."""
    system = study.system
    team = system.need("team")
    if team is None:
        return
    each = system.assumption("parts_per_person", COUNT)
    services = Figure("services", len(system.services), COUNT)
    parts = Figure("parts", len(system.parts), COUNT)
    total = services.value + parts.value
    if total <= team.value * each.value:
        return
    most = int(team.value * each.value)
    yield Risk(
        KIND,
        system.name,
        f"{services} services and {parts} parts for {team} people: {show(total / team.value, COUNT, 2)} for each, "
        f"and {each} are as many as one can keep running",
        f"({services} + {parts}) / {team} = {show(total / team.value, COUNT, 3)} > {each}",
        (team, each, services, parts),
        f"{most} or fewer deployables: join those that are released together",
        system.at("needs", "team"),
        value=total / team.value,
        need=each.value,
    )
