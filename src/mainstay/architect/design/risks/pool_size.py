"""A pool of connections is too small for the load at peak."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from mainstay.architect.design.figures import COUNT, PER_SECOND, SECONDS, SHARE, Figure, show
from mainstay.architect.design.risks import Kind, Risk, Study
from mainstay.architect.design.risks.hot_row import hottest, waiting
from mainstay.architect.design.stages import varied
from mainstay.architect.design.system import Op
from mainstay.architect.design.times import Times
from mainstay.architect.findings import Severity

KIND = Kind(
    name="pool-size",
    title="A pool of connections is too small for the peak",
    severity=Severity.HIGH,
    formula="busy = peak × hold (Little's law; the wait for rows it changes is part of a hold), over copies "
    "× pool connections: busy / connections <= assume.utilisation, and the p99 of the wait for one (M/M/c "
    "of one copy, Erlang C; longer by half of the squared variations of arrivals and holds, where calls "
    "come in bunches or holds are mixed) <= one hold",
    why="Near full use the wait grows without bound: at 70% of ten connections one in five requests waits, "
    "at 95% four in five do, and a pause of a second takes minutes to work off. Callers see timeouts, and "
    "the database idles.",
    wrong_when="Too cautious where holds vary less than an exponential does, or callers are bound to few: "
    "simulated waits are a third shorter in the middle. Too hopeful where the balancer is uneven, a slow "
    "query holds many at once, or another pool on the way is full: what waits there comes in waves. Where "
    "`hold` is not written it is assumed.",
    remedy="A larger pool, or shorter holds: no call to another service between BEGIN and COMMIT.",
    patterns=("database",),
    sources=(
        "Little: A Proof for the Queuing Formula L = λW (Operations Research, 1961)",
        "Gross, Shortle, Thompson, Harris: Fundamentals of Queueing Theory, the M/M/c queue",
    ),
)
LATER = ("event", "schedule")
"""What nobody waits for: it need not keep up with a peak."""
CONNECTIONS = 100
"""PostgreSQL's default max_connections."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What a service asks of its pool at peak."""

    service: str
    copies: Figure
    pool: Figure
    rate: float
    """Runs that want a connection, a second."""
    busy: float
    """Connections held, on average."""
    variation: float
    """What waits are longer by than those of M/M/c: half the squared variations of arrivals and holds; 1 or more."""
    used: list[tuple[float, float, Op]]
    """Runs a second, seconds that each holds a connection, with what it waits for rows, and the operation."""
    inputs: dict[str, Figure]
    full_rows: bool
    """A row that it changes is locked all the time; how long it is waited for has no end, and is not counted."""

    @property
    def hold(self) -> float:
        """Seconds that a run holds a connection, on average."""
        return self.busy / self.rate if self.rate else 0.0

    @property
    def load(self) -> float:
        """Share of the connections that is held."""
        return self.busy / (self.copies.value * self.pool.value)

    @property
    def wait_p99(self) -> float:
        """The 99th percentile of the wait for one, in seconds."""
        return self.waits(self.copies.value, int(self.pool.value))

    def waits(self, copies: float, pool: int) -> float:
        """The same with other copies and another pool."""
        return wait_p99(self.rate / copies, self.hold, pool, self.variation)

    def suffices(self, copies: float, pool: int, utilisation: float) -> bool:
        """Whether that is room enough: below the utilisation, and 99 of 100 wait no longer than one hold."""
        if self.busy > copies * pool * utilisation * (1 + 1e-9):
            return False
        return self.busy == 0 or self.waits(copies, pool) <= self.hold


Waits = dict[Op, list[tuple[float, float, float]]]


def demand(study: Study, service: str, calm: bool = False, rows: Waits | None = None) -> Demand:
    """What a service asks of its pool at peak.

    Args:
        study: the system.
        service: one with a database.
        calm: events and schedules, which may wait, as often as on an ordinary day.
        rows: what `row_waits` gave, where it is known already.
    """
    system = study.system
    copies, pool = system.copies(service), system.pool(service)
    spread = 1 + varied(system.assumption("tail", COUNT).value)
    rows = row_waits(study) if rows is None else rows
    rate = busy = square = 0.0
    inputs: dict[str, Figure] = {}
    used: list[tuple[float, float, Op]] = []
    full = False
    for op in (op for op in system.ops.values() if op.service == service):
        flow = study.flows.runs(op)
        asked = flow.usual if calm and op.kind in LATER else flow.peak
        if asked <= 0:
            continue
        hold = system.hold(op)
        waits = [(share, mean, locked) for share, mean, locked in rows.get(op, ()) if math.isfinite(mean)]
        full = full or len(waits) < len(rows.get(op, ()))
        held = hold.value + sum(share * mean for share, mean, _ in waits)
        rate, busy = rate + asked, busy + asked * held
        square += asked * (
            hold.value**2 * spread
            + sum(2 * share * mean * (hold.value + mean / locked) for share, mean, locked in waits)
        )
        used.append((asked, held, op))
        inputs.update({figure.key: figure for figure in (*flow.inputs, hold)})
    holds = square / rate / (busy / rate) ** 2 - 1 if busy > 0 else 1.0
    bunch = 1 + (_bunch(study, service) - 1) / copies.value
    variation = max(1.0, (bunch + holds) / 2)
    return Demand(service, copies, pool, rate, busy, variation, used, inputs, full)


def row_waits(study: Study) -> Waits:
    """By operation, for each row that it may change: the share of runs that meet it, the mean wait, how busy it is."""
    found: Waits = {}
    for writers in hottest(study).values():
        locked, wait = sum(writer.busy for writer in writers), waiting(study, writers)
        for writer in writers:
            if locked > 0:
                share = writer.rate / study.flows.runs(writer.op).peak
                found.setdefault(writer.op, []).append((share, wait, locked))
    return found


def _bunch(study: Study, service: str) -> float:
    """How many runs of a service begin at the same moment, for the average run: 1 where none does with another.

    Calls of one group, and what is handed over several times, begin together.
    """
    own = [op for op in study.system.ops.values() if op.service == service]
    alone = sum(study.flows.runs(op).peak for op in own)
    together = 0.0
    for op in dict.fromkeys(edge.caller for each in own for edge in each.callers):
        groups: dict[object, list[tuple[float, float]]] = {}
        for edge in op.edges:
            if isinstance(edge.target, Op) and edge.target.service == service:
                share = edge.call.share.value if edge.call.share else 1.0
                miss = study.flows.missed(edge.target)
                # Of calls in order (xN) one at a time is made; of those that are handed over, all.
                times = edge.call.times if edge.call.later else 1
                groups.setdefault(edge.group if edge.waits else "later", []).append((times, share * miss))
        runs = study.flows.runs(op).peak
        for calls in groups.values():
            mean = sum(times * share for times, share in calls)
            pairs = mean**2 - sum((times * share) ** 2 for times, share in calls)
            pairs += sum(times * (times - 1) * share for times, share in calls)
            together += runs * pairs
    return 1 + together / alone if alone > 0 else 1.0


def assess(study: Study) -> Iterator[Risk]:
    """One risk for each service with a database whose pool does not suffice."""
    system = study.system
    utilisation = system.assumption("utilisation", SHARE)
    times: Times | None = None
    rows = row_waits(study)
    for service, spec in system.services.items():
        if spec.store != "postgresql":
            continue
        needed = demand(study, service, rows=rows)
        copies, pool = needed.copies, needed.pool
        if needed.suffices(copies.value, int(pool.value), utilisation.value):
            continue
        if demand(study, service, True, rows).suffices(copies.value, int(pool.value), utilisation.value):
            continue  # events wait while the peak lasts, and are worked off after it
        times = times or Times(study)
        connections, load = copies.value * pool.value, needed.load
        wait = needed.wait_p99
        if load >= 1:
            happens = "the queue for them grows for as long as the peak lasts"
        elif math.isclose(wait, 0):
            happens = "which leaves no room"
        else:
            happens = f"1 in 100 waits {show(wait, SECONDS, 2)} or longer for one"
        flight = sum(peak * times.run(op).mean for peak, _, op in needed.used)
        terms = " + ".join(
            f"{show(peak, PER_SECOND)} × {show(seconds, SECONDS)} ({op.name})"
            for peak, seconds, op in needed.used[:6]
        )
        if len(needed.used) > 6:
            terms += f" + {len(needed.used) - 6} more"
        if any(held > system.hold(op).value for _, held, op in needed.used):
            terms = f"({terms}, with what they wait for rows)"
        mixed = f" × {needed.variation:.2g} for bunches and mixed holds" if needed.variation > 1.005 else ""
        inputs = needed.inputs | {figure.key: figure for figure in (copies, pool, utilisation)}
        yield Risk(
            KIND,
            service,
            f"{service} needs {show(needed.busy, '')} connections at once at peak and has {connections:g} "
            f"({copies.value:g} copies × {pool.value:g}), {load:.0%} busy: {happens}",
            f"{terms} = {show(needed.busy, '')} busy of {connections:g} = {load:.1%} (at most {utilisation}); Erlang C "
            f"of {pool.value:g} per copy{mixed}: p99 wait {_seconds(wait)} (at most {show(needed.hold, SECONDS, 3)}); "
            f"requests in flight: {show(flight, '')}",
            tuple(inputs.values()),
            _remedy(study, needed, utilisation.value),
            system.at("services", service, *(("pool",) if spec.pool is not None else ())),
            value=load,
            need=utilisation.value,
            severity=_severity(load, copies, pool),
        )


def _severity(load: float, copies: Figure, pool: Figure) -> Severity:
    """Where neither copies nor pool are written, it is said how many it takes rather than that they are too few."""
    if copies.assumed and pool.assumed:
        return Severity.HIGH if load >= 1 else Severity.MEDIUM
    return Severity.CRITICAL if load >= 1 else Severity.HIGH


def erlang_c(servers: int, offered: float) -> float:
    """The chance that an arrival waits (M/M/c); 1 where the servers cannot keep up.

    Args:
        servers: c.
        offered: arrivals a second times seconds of service.
    """
    if offered >= servers:
        return 1.0
    blocked = 1.0  # Erlang B, by its recursion in the number of servers
    for at in range(1, servers + 1):
        blocked = offered * blocked / (at + offered * blocked)
    return blocked / (1 - offered / servers * (1 - blocked))


def wait_p99(rate: float, hold: float, servers: int, variation: float = 1.0) -> float:
    """The 99th percentile of the wait (M/M/c, and Allen and Cunneen's factor), in seconds.

    Infinite where the servers cannot keep up.

    Args:
        rate: arrivals a second.
        hold: seconds of service, on average.
        servers: c.
        variation: half of the sum of the squared coefficients of variation of arrivals and of holds; 1 for M/M/c.
    """
    offered = rate * hold
    if offered >= servers:
        return math.inf
    waits = erlang_c(servers, offered)
    return variation * hold * math.log(waits / 0.01) / (servers - offered) if waits > 0.01 else 0.0


def _seconds(wait: float) -> str:
    return "without end" if math.isinf(wait) else show(wait, SECONDS, 3)


def _remedy(study: Study, needed: Demand, utilisation: float) -> str:
    copies, pool = int(needed.copies.value), int(needed.pool.value)
    least, more = max(1, math.ceil(needed.busy / copies / utilisation - 1e-9)), copies
    while not needed.suffices(copies, least, utilisation):
        least += 1
    while not needed.suffices(more, pool, utilisation) and more < 100_000:
        more += 1
    most = max(needed.used, key=lambda each: each[0] * each[1])[2]
    ways = [f"pool: {least}", f"copies: {more}"]
    text = " or ".join(ways)
    total = min(least * copies, more * pool)
    if total > CONNECTIONS:
        text += (
            f"; that is {total:g} connections, above PostgreSQL's {CONNECTIONS} by default: "
            "raise max_connections, or pool them once more in front of it"
        )
    calls = [edge for edge in most.edges if edge.waits]
    hold = study.system.hold(most)
    if (
        calls
        and most.spec.hold is not None
        and hold.value >= sum(Times(study).attempt(e).mean for e in calls)
    ):
        names = ", ".join(dict.fromkeys(edge.target.id for edge in calls))
        usual = study.system.assumption("hold", SECONDS)
        text += f"; or let {most.id} hold none while it waits for {names}: {usual} in place of {hold}"
    return text
