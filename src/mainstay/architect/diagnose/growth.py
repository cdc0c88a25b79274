"""Growth: the same request over more and more rows. Does it run a statement once, or once for each row?

Each table that the request reads is grown in turn, together with the rows that point at its rows. Where rows point out
of what is copied (a line at its product), the copies are made to point at the same row, at rows of their own, and
each in between: a list that asks for every product hides it while all lines share one product. The largest
growth is tried first; only if a statement then runs more often are the sizes between measured.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

from mainstay.architect.diagnose.copying import CannotGrow, Copier, Link, copied_with, outgoing
from mainstay.architect.diagnose.laboratory import Laboratory, NotServed, Run
from mainstay.architect.diagnose.scheduler import Plan, Trace, Undecided
from mainstay.architect.effects import Kind
from mainstay.architect.errors import MainstayError
from mainstay.architect.findings import Measurement

FACTORS = (1, 2, 4, 8)
LEAST = 4
"""How much more often a statement must run over eight times the rows to be looked at."""


@dataclass(frozen=True, slots=True)
class Soil:
    """What is grown: a table, and which foreign keys of the copies point at rows of their own."""

    table: str
    remapped: tuple[Link, ...] = ()
    sql: str = ""
    """The scenario's own SQL that adds one row, where it names one."""

    def describe(self) -> dict[str, Any]:
        """For `Witness.schedule`."""
        return {
            "table": self.table,
            "remapped": [[name, list(key.columns)] for name, key in self.remapped],
            "sql": self.sql,
        }


@dataclass(slots=True)
class Growth:
    """One statement that runs more often the more rows there are."""

    request: str
    soil: Soil
    shape: str
    measurements: list[Measurement]
    form: str
    """``linear``, ``capped`` (grows, then stays) or ``faster than linear``."""
    trace: Trace
    """One of the statements."""
    run: Run
    """A run in which it was repeated."""

    @property
    def slope(self) -> float:
        """Statements for each row, over the part that grows."""
        first, last = self.measurements[0], self.measurements[-1]
        if self.form == "capped":
            last = next(point for point in self.measurements if point.count == last.count)
        return (last.count - first.count) / max(1, last.rows - first.rows)


@dataclass(slots=True)
class Survey:
    """What came of growing the rows below one request."""

    growths: list[Growth] = field(default_factory=list)
    grown: list[str] = field(default_factory=list)
    """Tables that were grown, with how far: ``orders to 24 rows``."""
    notes: list[str] = field(default_factory=list)
    """Tables that could not be grown, and why."""
    undecided: str = ""
    most: int = 0
    """How often the most frequent statement ran on the rows as they are."""


def counts(traces: Sequence[Trace]) -> Counter[str]:
    """How often each shape of statement waits for the database. Pipelined ones wait once, for all together."""
    return Counter(
        trace.shape
        for trace in traces
        if trace.meaning.kind in (Kind.READ, Kind.WRITE, Kind.LOCK) and not trace.pipelined
    )


def form(points: Sequence[Measurement]) -> str:
    """How the counts grow with the rows: ``constant``, ``capped``, ``linear`` or ``faster than linear``.

    Linear: every step adds as many statements for a row as the whole does, give or take half of it.
    Constant: less than `LEAST` more over all steps.
    """
    first, last = points[0], points[-1]
    if last.count - first.count < LEAST or last.rows <= first.rows:
        return "constant"
    slopes = [
        (after.count - before.count) / max(1, after.rows - before.rows)
        for before, after in itertools.pairwise(points)
    ]
    whole = (last.count - first.count) / (last.rows - first.rows)
    if all(abs(slope - whole) <= whole / 2 for slope in slopes):
        return "linear"
    if slopes[-1] == 0 or slopes[-1] < slopes[0] / 2:
        return "capped"
    return "faster than linear" if slopes[-1] > slopes[0] else "linear"


async def survey(lab: Laboratory, name: str) -> Survey:
    """Grow the rows below a request. Remembered: several experiments may ask."""
    key = ("growth", name)
    if key not in lab.cache:
        lab.cache[key] = await _survey(lab, name)
    found: Survey = lab.cache[key]
    return found


async def _survey(lab: Laboratory, name: str) -> Survey:
    result = Survey()
    try:
        alone = (await lab.alone(name)).traces[lab.actors[0]]
    except Undecided as reason:
        result.undecided = str(reason)
        return result
    seed = counts(alone)
    result.most = max(seed.values(), default=0)
    read = {table for trace in alone for table in trace.meaning.touches} & lab.schema.tables.keys()
    best: dict[str, tuple[tuple[bool, float, int], Soil]] = {}
    able: set[str] = set()
    refused: dict[str, str] = {}
    soils = [soil for soil in _soils(lab, read) if soil.sql or not _empty(lab, soil.table)]
    for soil in soils:
        if lab.out_of_time:
            result.undecided = "the budget ran out before every table was grown"
            return result
        lab.progress(f"{name}: growing {soil.table}")
        try:
            run, rows = await grown(lab, name, soil, FACTORS[-1])
        except CannotGrow as reason:
            if soil.table not in refused:
                # Rows that stand one to one with others can be copied if those are copied too.
                refused[soil.table] = str(reason)
                soils.append(Soil(soil.table, tuple(outgoing(lab.schema, soil.table))))
            continue
        except Undecided as reason:
            result.undecided = str(reason)
            return result
        if run is None:
            refused.setdefault(soil.table, f"with more rows in {soil.table} the request is no longer served")
            continue
        able |= copied_with(lab.schema, soil.table)
        said = f"{soil.table} to {rows} rows"
        if said not in result.grown:
            result.grown.append(said)
        for shape, count in counts(run.traces[lab.actors[0]]).items():
            more = count - seed[shape]
            if more >= LEAST:
                rank = _rank(lab, run, soil, shape, count, more, rows)
                if shape not in best or rank > best[shape][0]:
                    best[shape] = (rank, soil)
    result.notes = [reason for table, reason in refused.items() if table not in able]
    looked_at = {table for trace in alone if trace.meaning.kind is Kind.READ for table in trace.meaning.reads}
    if bare := sorted(table for table in looked_at & lab.schema.tables.keys() if _empty(lab, table)):
        result.notes.append(f"no rows to grow in {', '.join(bare)}")
    measured: dict[Soil, list[tuple[Run, int]]] = {}
    for shape, (_, soil) in best.items():
        growth = await _measure(lab, name, soil, shape, measured)
        if growth is not None:
            result.growths.append(growth)
    return result


def _empty(lab: Laboratory, table: str) -> bool:
    """Whether a run begins without a row in the table: eight times nothing shows nothing."""
    return lab.start.digests[table][0] == 0


def _rank(
    lab: Laboratory, run: Run, soil: Soil, shape: str, count: int, more: int, rows: int
) -> tuple[bool, float, int]:
    """How well `soil` explains that a statement repeats; the highest is the one to name.

    Best is the table of which an earlier statement returned as many rows as the repeated one ran; then the one
    with nearest to one repetition a row; then the one that makes it run most often.
    """
    traces = run.traces[lab.actors[0]]
    first = next(at for at, trace in enumerate(traces) if trace.shape == shape)
    walked = any(soil.table in trace.meaning.reads and trace.rows == count for trace in traces[:first])
    added = rows - rows // FACTORS[-1]
    return walked, -abs(more / added - 1) if added else -float(more), more


async def _measure(
    lab: Laboratory, name: str, soil: Soil, shape: str, measured: dict[Soil, list[tuple[Run, int]]]
) -> Growth | None:
    if soil not in measured:
        measured[soil] = await measure(lab, name, soil)
    return judge(lab, name, soil, shape, measured[soil])


async def measure(lab: Laboratory, name: str, soil: Soil) -> list[tuple[Run, int]]:
    """The request over one, two, four and eight times the rows: each run with the number of rows."""
    found = []
    for factor in FACTORS:
        run, rows = await grown(lab, name, soil, factor)
        if run is not None:
            found.append((run, rows))
    return found


def judge(
    lab: Laboratory, name: str, soil: Soil, shape: str, runs: Sequence[tuple[Run, int]]
) -> Growth | None:
    """A growth, if the statement runs more often with more rows."""
    actor = lab.actors[0]
    points = [Measurement(rows, counts(run.traces[actor])[shape]) for run, rows in runs]
    if len(points) < 2 or (kind := form(points)) == "constant":
        return None
    run = next(run for (run, _), point in zip(runs, points, strict=True) if point.count > 1)
    trace = next(trace for trace in run.traces[actor] if trace.shape == shape)
    return Growth(name, soil, shape, points, kind, trace, run)


async def grown(lab: Laboratory, name: str, soil: Soil, factor: int) -> tuple[Run | None, int]:
    """Run a request over `factor` times the rows; None where it is then not answered as expected."""
    rows = 0

    async def grow(connection: psycopg.AsyncConnection[Any]) -> None:
        nonlocal rows
        table = lab.schema.tables[soil.table]
        if soil.sql:
            count = f"SELECT count(*) FROM {table.quoted}".encode()
            before = await (await connection.execute(count)).fetchone()
            try:
                for _ in range((factor - 1) * max(1, before[0] if before else 1)):
                    await connection.execute(soil.sql.encode())
            except psycopg.Error as error:
                raise MainstayError(f"grow.{soil.table} does not run: {str(error).splitlines()[0]}") from None
            after = await (await connection.execute(count)).fetchone()
            rows = int(after[0]) if after else 0
        else:
            rows = await Copier(connection, lab.schema).grow(soil.table, factor, soil.remapped)

    actor = lab.actors[0]
    try:
        run = await lab.run({actor: name}, Plan((actor,)), grow=grow)
    except NotServed:
        return None, rows
    if not lab.scenario.requests[name].expected(run.replies[actor].status):
        return None, rows
    return run, rows


def _soils(lab: Laboratory, read: set[str]) -> Iterator[Soil]:
    """What to grow for a request that touches the tables `read`."""
    wanted = lab.scenario.grow
    for table in wanted or sorted(read):
        if table not in lab.schema.tables:
            raise MainstayError(f"grow names a table {table!r} that is not in the database")
        if isinstance(wanted, dict):
            yield Soil(table, sql=wanted[table])
            continue
        links = [(name, key) for name, key in outgoing(lab.schema, table) if key.table in read]
        choices = {(), tuple(links)}
        choices |= {(link,) for link in links}
        choices |= {tuple(other for other in links if other is not link) for link in links}
        for chosen in sorted(
            choices, key=lambda chosen: (len(chosen), [links.index(link) for link in chosen])
        ):
            yield Soil(table, chosen)


def from_description(lab: Laboratory, described: dict[str, Any]) -> Soil:
    """The inverse of `Soil.describe`. Raises `MainstayError` where the database has changed."""
    links = []
    for name, columns in described["remapped"]:
        table = lab.schema.tables.get(name)
        key = next((key for key in table.foreign if list(key.columns) == columns), None) if table else None
        if key is None:
            raise MainstayError(
                f"the witness grows {name} by {', '.join(columns)}, which is no longer a foreign key"
            )
        links.append((name, key))
    if described["table"] not in lab.schema.tables:
        raise MainstayError(f"the witness grows table {described['table']!r}, which is no longer there")
    return Soil(described["table"], tuple(links), described["sql"])
