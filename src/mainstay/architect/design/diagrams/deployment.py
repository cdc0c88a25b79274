"""Deployment: what runs in which region, how many copies, and how many database connections that makes."""

from __future__ import annotations

from collections.abc import Iterator

from mainstay.architect.design.diagrams.mermaid import MOST_NODES, label, node, title
from mainstay.architect.design.generated import Generated
from mainstay.architect.design.study import Result


def generate(result: Result) -> Iterator[Generated]:
    """One picture, where the system is small enough for one."""
    system = result.study.system
    if len(system.services) + len(system.parts) > MOST_NODES:
        return
    regions: dict[str, list[str]] = {}
    for name, service in system.services.items():
        for region in service.region or system.needs.region or ("one region",):
            regions.setdefault(region, []).append(name)
    made = ["flowchart TB"]
    for region, services in regions.items():
        made.append(f"  subgraph {node('region_' + region)}[{label(region)}]")
        for name in services:
            service = system.services[name]
            copies = system.copies(name)
            here = f"{node(name)}_{node(region)}"
            assumed = ", assumed" if copies.assumed else ""
            made.append(f"    {here}[{label(f'{name}: {copies:} copies{assumed}')}]")
            if service.store == "postgresql":
                pool = system.pool(name)
                total = copies.value * pool.value
                made.append(f"    {here}_db[({label(f'{name} database')})]")
                made.append(
                    f"    {here} ---|{label(f'{copies} x {pool} = {total:g} connections')}| {here}_db"
                )
            elif service.store != "none":
                made.append(f"    {here}_db[({label(service.store)})]")
                made.append(f"    {here} --- {here}_db")
        for name, part in system.parts.items():
            made.append(f"    {node(name)}_{node(region)}{{{{{label(f'{name}: {part.spec.kind}')}}}}}")
        made.append("  end")
    yield Generated(
        "diagrams/deployment.mmd",
        "\n".join(made) + "\n",
        f"{title(system.name)}: deployment",
        "mermaid",
        "Copies and connections as written, or as assumed.",
    )
