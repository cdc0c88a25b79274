"""The same request over more and more rows: a statement that runs more often the more rows there are proves it.

Statements are compared by shape (their text without values), so an `IN` list that grows is one statement, and so
is a batch sent in one go.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

from mainstay.architect.diagnose.growth import FACTORS, Growth, from_description, judge, measure, survey
from mainstay.architect.diagnose.laboratory import Laboratory
from mainstay.architect.diagnose.proof import Proof, Replay
from mainstay.architect.findings import Check, Step, Witness


async def experiment(lab: Laboratory) -> AsyncIterator[Proof | Check]:
    """Grow the rows below each request. A statement that several requests repeat is one finding."""
    proven: dict[tuple[str, str], Growth] = {}
    also: dict[tuple[str, str], list[str]] = {}
    for name, request in lab.scenario.requests.items():
        found = await survey(lab, name)
        for growth in found.growths:
            cause = (growth.shape, str(growth.trace.location))
            if cause in proven:
                also.setdefault(cause, []).append(request.send)
            else:
                proven[cause] = growth
        if found.growths:
            continue
        notes = "".join(f"; {note}" for note in found.notes)
        if found.undecided:
            yield Check("", request.send, "undecided", found.undecided)
        elif found.grown or not found.notes:
            bound = (
                f"no statement runs more often over {FACTORS[-1]} times the rows ({', '.join(found.grown)}){notes}"
                if found.grown
                else "the request reads no table"
            )
            yield Check("", request.send, "cleared", bound)
        else:
            yield Check("", request.send, "undecided", "; ".join(found.notes))
    for cause, growth in proven.items():
        yield _proof(lab, growth, also.get(cause, []))


def _proof(lab: Laboratory, growth: Growth, also: list[str]) -> Proof:
    actor = lab.actors[0]
    send = lab.scenario.requests[growth.request].send
    table, first, last = growth.soil.table, growth.measurements[0], growth.measurements[-1]
    text = " ".join(growth.trace.sql.split())
    shown = text if len(text) <= 160 else text[:159] + "…"
    series = ", ".join(f"{point.count} over {point.rows}" for point in growth.measurements)
    repeated = [trace for trace in growth.run.traces[actor] if trace.shape == growth.shape]
    values = "; ".join(
        ", ".join(str(value) for value in trace.parameters) for trace in repeated[:4] if trace.parameters
    )
    argument = [
        f"{actor} sends {lab.line(growth.request)}.",
        f"It runs: {shown}",
        f"How often, over how many rows of {table}: {series}.",
    ]
    if values:
        argument.append(f"Each time with other values: {values}.")
    if growth.form == "capped":
        argument.append(f"The count stops at {last.count}, as a page does that has a limit.")
    else:
        argument.append(f"That is {growth.slope:.2g} more for each row of {table}: {growth.form}.")
    argument.append("If the rows were loaded together, the count would not hang on how many there are.")
    marked = {trace.event for trace in repeated}
    witness = Witness(
        edge="",
        kind="growth",
        argument=argument,
        scenario={},
        command=[],
        starting_state={},
        schedule={"request": growth.request, "shape": growth.shape, **growth.soil.describe()},
        events=[replace(event, marked=at in marked) for at, event in enumerate(growth.run.events)],
        measurements=growth.measurements,
    )
    target = growth.trace.meaning.target or "the database"
    verb = "asks for" if not growth.trace.meaning.writes else "writes"
    message = (
        f"{send} {verb} {target} once for each row of {table}: {first.count} statements over {first.rows} rows, "
        f"{last.count} over {last.rows}" + (f" (also {', '.join(also)})" if also else "")
    )
    location = growth.trace.location
    path = (
        (Step(location, f"{verb} {target}, again for each row of {table}", growth.trace.function),)
        if location
        else ()
    )
    return Proof(f"{send}: {target}", message, location or lab.location(growth.request), witness, path)


async def replay(lab: Laboratory, witness: Witness) -> Replay:
    """The same growth again: does a statement of this shape still run more often with more rows?"""
    name = witness.schedule["request"]
    await lab.alone(name)
    soil = from_description(lab, witness.schedule)
    growth = judge(lab, name, soil, witness.schedule["shape"], await measure(lab, name, soil))
    if growth is None:
        return Replay(
            False, False, [f"The statement no longer runs more often the more rows {soil.table} has."]
        )
    proof = _proof(lab, growth, [])
    return Replay(True, growth.measurements == witness.measurements, proof.witness.argument)
