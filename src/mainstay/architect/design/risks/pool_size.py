"""A pool of connections is too small for the load at peak."""

from __future__ import annotations

import math
from collections.abc import Iterator

from mainstay.architect.design.figures import PER_SECOND, SECONDS, SHARE, Figure, show
from mainstay.architect.design.risks import Kind, Risk, Study
from mainstay.architect.design.system import Op
from mainstay.architect.design.times import Times
from mainstay.architect.findings import Severity

KIND = Kind(
    name="pool-size",
    title="A pool of connections is too small for the peak",
    severity=Severity.HIGH,
    formula="busy = peak × hold (Little's law), over copies × pool connections: busy / connections <= "
    "assume.utilisation, and the p99 of the wait for one (M/M/c of one copy, Erlang C) <= one hold",
    why="Near full use the wait grows without bound: at 70% of ten connections one in five requests waits, at 95% "
    "four in five do, and a pause of a second takes minutes to work off. Callers see timeouts, and the database idles.",
    wrong_when="Too cautious where holds vary less than an exponential does, or callers are bound to few. Too hopeful "
    "where the balancer is uneven, or a slow query holds many at once. Where `hold` is not written it is assumed.",
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


def assess(study: Study) -> Iterator[Risk]:
    """One risk for each service with a database whose pool does not suffice."""
    system = study.system
    utilisation = system.assumption("utilisation", SHARE)
    times: Times | None = None
    for service, spec in system.services.items():
        if spec.store != "postgresql":
            continue
        rate = busy = 0.0
        calm_rate = calm = (
            0.0  # what is waited for at its peak, what may wait in the outbox on an ordinary day
        )
        inputs: dict[str, Figure] = {}
        used: list[tuple[float, float, Op]] = []
        for op in (op for op in system.ops.values() if op.service == service):
            flow = study.flows.runs(op)
            if flow.peak <= 0:
                continue
            hold = system.hold(op)
            rate += flow.peak
            busy += flow.peak * hold.value
            asked = flow.usual if op.kind in LATER else flow.peak
            calm_rate += asked
            calm += asked * hold.value
            used.append((flow.peak, hold.value, op))
            inputs.update({figure.key: figure for figure in (*flow.inputs, hold)})
        copies, pool = system.copies(service), system.pool(service)
        if busy <= 0 or suffices(rate, busy, copies.value, int(pool.value), utilisation.value):
            continue
        if calm <= 0 or suffices(calm_rate, calm, copies.value, int(pool.value), utilisation.value):
            continue  # events wait while the peak lasts, and are worked off after it
        inputs.update({figure.key: figure for figure in (copies, pool, utilisation)})
        times = times or Times(study)
        connections = copies.value * pool.value
        hold_time, load = busy / rate, busy / connections
        wait = wait_p99(rate / copies.value, hold_time, int(pool.value))
        if load >= 1:
            happens = "the queue for them grows for as long as the peak lasts"
        elif math.isclose(wait, 0):
            happens = "which leaves no room"
        else:
            happens = f"1 in 100 waits {show(wait, SECONDS, 2)} or longer for one"
        most, least = (
            max(used, key=lambda each: each[0] * each[1])[2],
            _least(rate, busy, copies.value, utilisation),
        )
        flight = sum(peak * times.run(op).mean for peak, _, op in used)
        terms = " + ".join(
            f"{show(peak, PER_SECOND)} × {show(seconds, SECONDS)} ({op.name})"
            for peak, seconds, op in used[:6]
        )
        if len(used) > 6:
            terms += f" + {len(used) - 6} more"
        yield Risk(
            KIND,
            service,
            f"{service} needs {show(busy, '')} connections at once at peak and has {connections:g} "
            f"({copies.value:g} copies × {pool.value:g}), {load:.0%} busy: {happens}",
            f"{terms} = {show(busy, '')} busy of {connections:g} = {load:.1%} (at most {utilisation}); Erlang C of "
            f"{pool.value:g} per copy: p99 wait {_seconds(wait)} (at most {show(hold_time, SECONDS, 3)}); requests in "
            f"flight: {show(flight, '')}",
            tuple(inputs.values()),
            _remedy(study, most, rate, busy, copies.value, int(pool.value), least, utilisation.value),
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


def wait_p99(rate: float, hold: float, servers: int) -> float:
    """The 99th percentile of the wait (M/M/c), in seconds; infinite where the servers cannot keep up.

    Args:
        rate: arrivals a second.
        hold: seconds of service, on average.
        servers: c.
    """
    offered = rate * hold
    if offered >= servers:
        return math.inf
    waits = erlang_c(servers, offered)
    return hold * math.log(waits / 0.01) / (servers - offered) if waits > 0.01 else 0.0


def suffices(rate: float, busy: float, copies: float, pool: int, utilisation: float) -> bool:
    """Whether a pool has room enough: below the utilisation, and 99 of 100 wait no longer than one hold."""
    if busy > copies * pool * utilisation * (1 + 1e-9):
        return False
    return wait_p99(rate / copies, busy / rate, pool) <= busy / rate


def _least(rate: float, busy: float, copies: float, utilisation: Figure) -> int:
    """The smallest pool of one copy that suffices."""
    pool = max(1, math.ceil(busy / copies / utilisation.value - 1e-9))
    while not suffices(rate, busy, copies, pool, utilisation.value):
        pool += 1
    return pool


def _seconds(wait: float) -> str:
    return "without end" if math.isinf(wait) else show(wait, SECONDS, 3)


def _remedy(
    study: Study, most: Op, rate: float, busy: float, copies: float, pool: int, least: int, utilisation: float
) -> str:
    more = int(copies)
    while not suffices(rate, busy, more, pool, utilisation) and more < 100_000:
        more += 1
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
