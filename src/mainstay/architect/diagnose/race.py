"""A race: two requests meet under every schedule that can matter, and the oracle judges each.

Schedules with one switch come first: one actor is held before one of its statements, the other one runs to its reply
(or until it waits for a lock of the first), the first goes on. They are few, one a statement, and find most
races. Switch points between which nothing happens that the other request could notice are the same, so only one of
them is tried. Then come schedules with two switches, as far as the budget reaches.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mainstay.architect.diagnose.laboratory import Laboratory, Run
from mainstay.architect.diagnose.oracle import Judged, Judgement, Mask, Oracle, differences, judge, told
from mainstay.architect.diagnose.proof import Replay
from mainstay.architect.diagnose.scheduler import Plan, Point, Trace, Undecided
from mainstay.architect.diagnose.statements import conflicts
from mainstay.architect.effects import Kind
from mainstay.architect.errors import MainstayError
from mainstay.architect.findings import Event, Location, Outcome, Step, Witness

MOST_PAIRS_OF_SWITCHES = 12
"""Schedules with two switches that are tried for a pair of requests, the likeliest first."""

APART = 1.1
"""Seconds between the first serial run and the last one that a proof rests on: a clock that shows seconds has moved."""


@dataclass(slots=True)
class Story:
    """A schedule whose outcome no serial order explains, and all that a witness needs to tell it."""

    requests: tuple[str, str]
    plan: Plan
    events: list[Event]
    observed: Outcome
    serial: list[Outcome]
    argument: list[str]
    message: str
    location: Location | None
    """The line of code that writes what was decided too early, where the probe saw it."""
    path: tuple[Step, ...]
    cause: tuple[str, str]
    """Shapes of the statement that read too early and of the one that wrote too late: races that share it are one."""


@dataclass(slots=True)
class Exploration:
    """What came of one pair of requests: exactly one of `story`, `cleared` and `undecided` is set."""

    requests: tuple[str, str]
    story: Story | None = None
    cleared: str = ""
    """The bound within which nothing was found."""
    undecided: str = ""
    schedules: int = 0
    seconds: float = 0.0
    remarks: list[str] = field(default_factory=list)


class Race:
    """Two requests, by the laboratory's two actors."""

    def __init__(self, lab: Laboratory, first: str, second: str) -> None:
        self.lab = lab
        self.actors = lab.actors
        self.cast = {self.actors[0]: first, self.actors[1]: second}
        self.requests = (first, second)
        self.oracle: Oracle = lab.oracle()
        self.mask = Mask()
        self.groups: dict[tuple[str, ...], list[Run]] = {}
        """The serial runs by order of actors; those of one order should be equal."""
        self.serial: dict[tuple[str, ...], Judged] = {}
        self.schedules = 0
        self._since = 0.0

    # --------------------------------------------------------------------------------- serial orders

    async def run_serial(self, *more: tuple[str, ...]) -> None:
        """Run both orders (and `more`) once more, each in a twin with other sequence values; learn the mask anew."""
        first, second = self.actors
        if not self.groups:
            self._since = time.monotonic()
        for order in ((first, second), (second, first), *more):
            group = self.groups.setdefault(order, [])
            for _ in range(2 if not group else 1):
                stride = self.lab.stride() if group else 0
                run = await self.lab.run(self.cast, Plan(order), stride=stride)
                if run.trouble:
                    raise Undecided(f"{_order(order)}: {run.trouble[0]}")
                group.append(run)
        self._learn()

    async def run_only(self, order: tuple[str, ...]) -> None:
        """Run an order in which not everyone takes part."""
        if order not in self.groups:
            group = self.groups.setdefault(order, [])
            for _ in range(2):
                group.append(
                    await self.lab.run(self.cast, Plan(order), stride=self.lab.stride() if group else 0)
                )
            self._learn()

    def _learn(self) -> None:
        self.oracle = self.lab.oracle()
        self.mask = self.oracle.learn([[run.left for run in group] for group in self.groups.values()])
        if self.mask.trouble:
            raise Undecided(self.mask.trouble[0])
        self.serial = {
            order: self.oracle.outcome(_order(order), group[0].left, self.mask)
            for order, group in self.groups.items()
        }
        for order, group in self.groups.items():
            for run in group[1:]:
                if not self.serial[order].fits(self.oracle.outcome("", run.left, self.mask)):
                    raise Undecided(
                        f"{_order(order)} does not end the same twice: "
                        + "; ".join(
                            differences(self.serial[order], self.oracle.outcome("", run.left, self.mask))[:2]
                        )
                    )

    async def run_plan(self, plan: Plan) -> tuple[Run, Judged, Judgement]:
        """Run one schedule and judge it. Raises `Undecided` where it cannot be judged."""
        self.schedules += 1
        self.lab.schedules += 1
        started = time.perf_counter()
        run = await self.lab.run(self.cast, plan)
        self.lab.racing += time.perf_counter() - started
        if run.trouble:
            raise Undecided(run.trouble[0])
        return run, *(await self.judge(run))

    async def judge(self, run: Run) -> tuple[Judged, Judgement]:
        """Compare a run with the serial orders; those without a refused actor are run where they are needed."""
        observed = self.oracle.outcome("observed", run.left, self.mask)
        judgement = judge(observed, self.serial)
        if judgement.fits is None:
            refused = observed.refusals()
            for actor in refused:
                await self.run_only(tuple(other for other in self.actors if other != actor))
            if len(refused) == len(self.actors):
                await self.run_only(())
            if refused:
                observed = self.oracle.outcome("observed", run.left, self.mask)
                judgement = judge(observed, self.serial)
        return observed, judgement

    # ------------------------------------------------------------------------------------- schedules

    def traces(self, actor: str) -> list[Trace]:
        """What the actor does when it goes first."""
        other = self.actors[1] if actor == self.actors[0] else self.actors[0]
        return self.groups[(actor, other)][0].traces[actor]

    def all_traces(self, actor: str) -> list[Trace]:
        """What the actor does in either order."""
        return [trace for group in self.groups.values() for trace in group[0].traces[actor]]

    def points(self, actor: str) -> list[Point]:
        """Where holding the actor can matter, the likeliest first."""
        other = self.actors[1] if actor == self.actors[0] else self.actors[0]
        return [
            point
            for _, point in sorted(switch_points(self.traces(actor), self.all_traces(other)), key=_by_score)
        ]

    @property
    def symmetric(self) -> bool:
        """Whether the two actors do the same and differ in nothing but their names."""
        first, second = (self.lab.scenario.actors[actor] for actor in self.actors)
        return self.requests[0] == self.requests[1] and first == second


def _by_score(scored: tuple[int, Point]) -> tuple[int, int]:
    return -scored[0], scored[1].number


def switch_points(mine: Sequence[Trace], others: Sequence[Trace]) -> list[tuple[int, Point]]:
    """Points before the statements of `mine` where running `others` may end differently, with a score each.

    A point before a statement that commutes with everything the other does is the same as the next one, and one
    before the first that does not commute is the serial order; unless its transaction already holds a
    snapshot, which it would in the stricter isolation levels.
    """
    meanings = [trace.meaning for trace in others]
    written = {table for meaning in meanings for table in meaning.writes}
    anything = any(meaning.opaque for meaning in meanings)
    points = []
    seen = False
    read_before: set[str] = set()
    dirty: dict[int, bool] = {}
    snapshot: dict[int, bool] = {}
    for trace in mine:
        meaning, connection = trace.meaning, trace.connection
        ends = meaning.kind in (Kind.COMMIT, Kind.ROLLBACK)
        matters = (
            dirty.get(connection, False) if ends else any(conflicts(meaning, other) for other in meanings)
        )
        if matters and (seen or snapshot.get(connection, False)):
            checked = meaning.writes & read_before or (ends and bool(read_before))
            score = 3 if meaning.kind is Kind.WRITE and checked else 2 if checked else 1
            points.append((score, trace.point))
        seen |= matters
        if ends:
            dirty[connection] = snapshot[connection] = False
        elif meaning.kind is not None and meaning.kind is not Kind.BEGIN:
            snapshot[connection] = trace.after != "I"
            dirty[connection] = dirty.get(connection, False) or (
                matters and bool(meaning.writes or meaning.opaque)
            )
        if meaning.kind is Kind.READ:
            read_before |= meaning.reads & written if not anything else meaning.reads
    return points


async def explore(lab: Laboratory, first: str, second: str) -> Exploration:
    """Let two requests meet. What came of it is remembered: several experiments may ask."""
    key = ("race", first, second)
    if key not in lab.cache:
        started = time.perf_counter()
        exploration = Exploration((first, second))
        race = Race(lab, first, second)
        try:
            await _explore(race, exploration)
        except Undecided as reason:
            exploration.undecided = str(reason)
        exploration.schedules = race.schedules
        exploration.seconds = time.perf_counter() - started
        lab.cache[key] = exploration
    found: Exploration = lab.cache[key]
    return found


async def _explore(race: Race, exploration: Exploration) -> None:
    lab = race.lab
    first, second = race.actors
    alone = [await lab.alone(race.cast[actor], actor) for actor in race.actors]
    mine, others = alone[0].traces[first], alone[1].traces[second]
    size = f"{len(mine)} and {len(others)} statements"
    if not any(conflicts(one.meaning, other.meaning) for one in mine for other in others):
        exploration.cleared = f"no schedule is needed: neither touches a table that the other writes ({size})"
        return
    await race.run_serial()
    ways = [(first, second)] if race.symmetric else [(first, second), (second, first)]
    plans = [Plan((other, actor), (point,)) for actor, other in ways for point in race.points(actor)]
    single = len(plans)
    blocked: dict[Point, Point] = {}
    for number, plan in enumerate(plans, 1):
        if race.schedules >= lab.budget.schedules or lab.out_of_time:
            raise Undecided(
                f"the budget ran out after {race.schedules} of {single} schedules with one switch"
            )
        lab.progress(
            f"{exploration.requests[0]} against {exploration.requests[1]}: schedule {number} of {single}"
        )
        run = await _try(race, plan, exploration)
        if run is None:
            return
        if (stop := _stopped_at(run, plan.then[0])) is not None:
            blocked[plan.legs[0]] = stop
    double = list(_double(race, ways, blocked))
    tried = 0
    for plan in double[:MOST_PAIRS_OF_SWITCHES]:
        if race.schedules >= lab.budget.schedules or lab.out_of_time:
            break
        lab.progress(
            f"{exploration.requests[0]} against {exploration.requests[1]}: two switches, {tried + 1}"
        )
        if await _try(race, plan, exploration) is None:
            return
        tried += 1
    two = f", {tried} of {len(double)} with two" if double else ""
    remarks = f"; {'; '.join(exploration.remarks)}" if exploration.remarks else ""
    exploration.cleared = f"all {single} schedules with one switch{two}, over {size}{remarks}"


async def _try(race: Race, plan: Plan, exploration: Exploration) -> Run | None:
    """Run one plan. None where it proved the race (then `exploration.story` is set)."""
    run, observed, judgement = await race.run_plan(plan)
    broken = await race.lab.broken_invariants() if race.lab.scenario.invariants else []
    if judgement.fits is not None and not broken:
        for actor in judgement.refused:
            status = observed.answers[actor]["status"]
            why = next((trace.sqlstate for trace in reversed(run.traces[actor]) if trace.sqlstate), "")
            remark = f"{actor} may be refused with {status}" + (f" (SQLSTATE {why})" if why else "")
            if remark not in exploration.remarks:
                exploration.remarks.append(remark)
        return run
    # A proof is a fact: look again before saying it, with another second on the clock and the same schedule once more.
    await asyncio.sleep(max(0.0, race._since + APART - time.monotonic()))
    await race.run_serial(*(order for order in race.groups if len(order) < 2))
    observed, judgement = await race.judge(run)
    again, observed_again, judgement_again = await race.run_plan(plan)
    race.schedules -= 1  # a repetition, not another schedule
    race.lab.schedules -= 1
    if broken:
        broken = await race.lab.broken_invariants()
    if (judgement.fits is not None and not broken) or (judgement_again.fits is not None and not broken):
        if judgement.fits is not None and judgement_again.fits is not None:
            return run  # the first look was misled by a clock
        raise Undecided("the same schedule did not end the same twice")
    exploration.story = tell(race, plan, again, observed_again, broken)
    return None


def _stopped_at(run: Run, actor: str) -> Point | None:
    """The statement at which the actor had to wait for a lock, if it did."""
    for event in run.events:
        if event.kind == "blocked" and event.actor == actor:
            waiting = [
                trace
                for trace in run.traces[actor]
                if trace.connection == event.connection and trace.event >= 0
            ]
            index = run.events.index(event)
            after = [trace for trace in waiting if trace.event > index]
            return after[0].point if after else None
    return None


def _double(race: Race, ways: Iterable[tuple[str, str]], blocked: dict[Point, Point]) -> Iterable[Plan]:
    """Plans with two switches. Where the second actor waits for the first before its own switch, there is none."""
    for actor, other in ways:
        for point in race.points(actor):
            for second in race.points(other):
                stop = blocked.get(point)
                if stop is None or second.number <= stop.number:
                    yield Plan((actor, other), (point, second))


# ------------------------------------------------------------------------------------------- telling


def tell(race: Race, plan: Plan, run: Run, observed: Judged, broken: Sequence[str]) -> Story:
    """Put a race into words: who read what, who wrote it meanwhile, and why no serial order explains it."""
    held = plan.legs[0].actor
    other = next(actor for actor in race.actors if actor != held)
    orders = [outcome for order, outcome in race.serial.items() if len(order) == 2]
    orders += [
        outcome
        for order, outcome in race.serial.items()
        if len(order) < 2 and set(race.actors) - set(order) <= set(observed.refusals())
    ]
    outcome, serial = told(observed, orders)
    early, late, table = _cause(run, plan, held, other, outcome.tables.keys())
    events = [
        replace(event, marked=any(trace is not None and trace.event == at for trace in (early, late)))
        for at, event in enumerate(run.events)
    ]
    lines = {actor: race.lab.line(race.cast[actor]) for actor in race.actors}
    argument = [f"{actor} sends {lines[actor]}." for actor in race.actors]
    if early is not None:
        argument.append(f"{held} reads {table}: {_seen(early, run)}.")
    argument.append(f"{held} is held before its statement {plan.legs[0].number}; {other} goes on.")
    theirs = next(
        (
            trace
            for trace in run.traces[other]
            if early is not None
            and trace.meaning.kind in (Kind.READ, Kind.LOCK)
            and trace.shape == early.shape
        ),
        None,
    )
    if theirs is not None:
        argument.append(f"{other} reads {table}: {_seen(theirs, run)}.")
    writes = [trace for trace in run.traces[other] if trace.meaning.kind is Kind.WRITE]
    if writes:
        argument.append(f"{other} writes {_listed(sorted({trace.meaning.target for trace in writes}))}.")
    if late is not None:
        verb = "writes" if late.meaning.kind is Kind.WRITE else "ends its transaction, having written"
        argument.append(f"{held} goes on and {verb} {late.meaning.target or 'what it decided before'}.")
    argument.append(
        "Answers: " + "; ".join(f"{actor}: {reply}" for actor, reply in outcome.replies.items()) + "."
    )
    argument += [f"Serially, {each.name}: {'; '.join(each.differs) or 'the same'}." for each in serial]
    argument += [f"The invariant does not hold: {line}." for line in broken]
    if any(each.differs for each in serial):
        argument.append("No serial order of the two requests leaves this behind.")
    clash = f"invariant broken: {broken[0]}" if broken else _closest(serial)
    what = (
        f"each decides on {table} as it was before the other wrote, and nothing keeps the other out"
        if early is not None
        else "what one of them does between two statements of the other shows"
    )
    first, second = (lines[actor] for actor in race.actors)
    both = f"{first} and {second} at the same time" if first != second else f"{first} twice at the same time"
    steps = tuple(
        Step(trace.location, _verb(trace), trace.function)
        for trace in (early, late)
        if trace is not None and trace.location is not None
    )
    place = next((trace.location for trace in (late, early) if trace is not None and trace.location), None)
    return Story(
        race.requests,
        plan,
        events,
        outcome,
        serial,
        argument,
        f"{both}: {what}; {clash}",
        place,
        steps,
        (early.shape if early else "", late.shape if late else ""),
    )


def _cause(
    run: Run, plan: Plan, held: str, other: str, differing: Collection[str]
) -> tuple[Trace | None, Trace | None, str]:
    """What the held actor read before the switch of what the other then wrote, its write after the switch, the table.

    A request reads and writes a lot that is harmless: tables that the outcomes differ in come first.
    """
    mine = run.traces[held]
    at = next(
        (
            index
            for index, trace in enumerate(mine)
            if (trace.shape, trace.occurrence) == (plan.legs[0].shape, plan.legs[0].occurrence)
        ),
        len(mine),
    )
    written = {table for trace in run.traces[other] for table in trace.meaning.writes}
    before = [
        trace
        for trace in reversed(mine[:at])
        if trace.meaning.kind in (Kind.READ, Kind.LOCK) and trace.meaning.touches & written
    ]
    after = [trace for trace in mine[at:] if trace.meaning.kind is Kind.WRITE]
    for read in before:
        clash = read.meaning.touches & written & set(differing)
        write = next((trace for trace in after if trace.meaning.writes & clash), None)
        if write is not None:
            return read, write, min(clash & write.meaning.writes)
    early = next(iter(before), None)
    if early is not None:
        same = [trace for trace in after if trace.meaning.writes & early.meaning.touches]
        after = same or after
    late = (
        after[0] if after else next((trace for trace in mine[at:] if trace.meaning.kind is Kind.COMMIT), None)
    )
    known = early or late
    return early, late, known.meaning.target if known is not None else ""


def _seen(trace: Trace, run: Run) -> str:
    if trace.rows == 0:
        return "no row"
    values = run.events[trace.event].result if trace.event >= 0 else ""
    return values or f"{trace.rows} rows"


def _verb(trace: Trace) -> str:
    verbs = {Kind.READ: "reads", Kind.LOCK: "locks", Kind.WRITE: "writes"}
    verb = verbs.get(trace.meaning.kind) if trace.meaning.kind else None
    return f"{verb} {trace.meaning.target}" if verb else " ".join(trace.sql.split())[:80]


def _closest(serial: Sequence[Outcome]) -> str:
    """What sets the observed outcome apart from the serial one that is nearest."""
    nearest = min(serial, key=lambda outcome: len(outcome.differs))
    return (
        f"serially ({nearest.name}) {nearest.differs[0]}"
        if nearest.differs
        else "the outcome is no serial one"
    )


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _order(order: Sequence[str]) -> str:
    return " then ".join(order) if len(order) > 1 else f"only {order[0]}" if order else "neither"


# -------------------------------------------------------------------------------------- as a witness


def to_schedule(race_cast: dict[str, str], plan: Plan) -> dict[str, Any]:
    """`Witness.schedule`."""
    return {
        "cast": race_cast,
        "legs": [
            {"actor": leg.actor, "shape": leg.shape, "occurrence": leg.occurrence, "number": leg.number}
            for leg in plan.legs
        ],
        "then": list(plan.then),
    }


def from_schedule(schedule: dict[str, Any]) -> tuple[dict[str, str], Plan]:
    """The inverse of `to_schedule`."""
    legs = tuple(
        Point(leg["actor"], leg["shape"], leg["occurrence"], leg["number"]) for leg in schedule["legs"]
    )
    return dict(schedule["cast"]), Plan(tuple(schedule["then"]), legs)


async def rerun(lab: Laboratory, witness: Witness) -> Replay:
    """Run a race's witness again: serial orders and schedule anew. Raises `MainstayError` where it cannot be judged."""
    cast, plan = from_schedule(witness.schedule)
    unknown = (set(cast) | set(plan.then)) - set(lab.actors) or set(
        cast.values()
    ) - lab.scenario.requests.keys()
    if unknown or len(cast) != len(lab.actors):
        raise MainstayError(
            "the witness's schedule does not fit its scenario; run diagnose again for a new witness"
        )
    race = Race(lab, *(cast[actor] for actor in lab.actors))
    try:
        for actor in lab.actors:
            await lab.alone(cast[actor], actor)
        await race.run_serial()
        run, observed, judgement = await race.run_plan(plan)
        broken = await lab.broken_invariants() if lab.scenario.invariants else []
        if judgement.fits is not None and not broken:
            return Replay(
                False, False, [f"The same schedule now ends as a serial order does: {judgement.fits}."]
            )
        # As when it was first proven: a clock must not be what makes the difference.
        await asyncio.sleep(max(0.0, race._since + APART - time.monotonic()))
        await race.run_serial(*(order for order in race.groups if len(order) < 2))
        observed, judgement = await race.judge(run)
        if judgement.fits is not None and not broken:
            return Replay(
                False, False, [f"The same schedule now ends as a serial order does: {judgement.fits}."]
            )
    except Undecided as reason:
        raise MainstayError(f"the witness cannot be judged again: {reason}") from None
    story = tell(race, plan, run, observed, broken)
    now, then, clocks = story.observed, witness.observed, lab.clock_columns()
    same = then is not None and (
        (now.replies, now.outside, _rows(now, clocks)) == (then.replies, then.outside, _rows(then, clocks))
    )
    return Replay(True, same, story.argument)


def _rows(outcome: Outcome, clocks: dict[str, set[str]]) -> dict[str, list[str]]:
    """The rows of an outcome less its clocks: the set-up, done anew, wrote other times than when it was witnessed."""
    return {
        table: sorted(
            json.dumps(
                {key: value for key, value in row.items() if key not in clocks.get(table, ())}, sort_keys=True
            )
            for row in rows
        )
        for table, rows in outcome.tables.items()
    }
