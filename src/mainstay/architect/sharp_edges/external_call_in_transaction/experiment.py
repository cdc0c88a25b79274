"""One request alone: if the outside world is called while a transaction is open, the edge is proven.

The stub of the outside world looks at the state of the caller's connections at the moment a call comes in,
and asks PostgreSQL which locks they hold. For as long as the other system takes, the connection is gone from
the pool and everybody who wants those rows waits.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

from mainstay.architect.diagnose.laboratory import Laboratory, Run
from mainstay.architect.diagnose.proof import Proof, Replay
from mainstay.architect.diagnose.scheduler import Call, Trace, Undecided
from mainstay.architect.effects import Kind
from mainstay.architect.findings import Check, Step, Witness


async def experiment(lab: Laboratory) -> AsyncIterator[Proof | Check]:
    """Send each request alone. Calls from the same place in the code are one finding."""
    seen: set[tuple[str, ...]] = set()
    for name in lab.scenario.requests:
        lab.progress(f"{name}: calls in a transaction")
        subject = lab.scenario.requests[name].send
        try:
            run = await lab.alone(name)
        except Undecided as reason:
            yield Check("", subject, "undecided", str(reason))
            continue
        inside = [call for call in run.calls if _holds(call)]
        if not inside:
            calls = len(run.calls)
            bound = (
                f"{calls} outside call{'' if calls == 1 else 's'} in a run of the request, none in an open transaction"
                if calls
                else "no outside call in a run of the request"
            )
            yield Check("", subject, "cleared", bound)
            continue
        for call in inside:
            cause = (call.call.name, call.call.method, *(trace.shape for trace in _work(call)))
            if cause not in seen:
                seen.add(cause)
                yield _proof(lab, name, run, call)


def _holds(call: Call) -> bool:
    """Whether a transaction that has touched something was open when the call came in."""
    return any(trace.meaning.kind not in (None, Kind.BEGIN) for traces in call.open for trace in traces)


def _work(call: Call) -> list[Trace]:
    """What the open transactions had done before the call."""
    return [
        trace
        for traces in call.open
        for trace in traces
        if trace.meaning.kind in (Kind.READ, Kind.WRITE, Kind.LOCK)
    ]


def _proof(lab: Laboratory, name: str, run: Run, call: Call) -> Proof:
    actor = lab.actors[0]
    work = _work(call)
    written = sorted({trace.meaning.target for trace in work if trace.meaning.kind is not Kind.READ} - {""})
    what = f"{call.call.method} {call.call.name}{call.call.path}"
    took = (call.call.ended - call.call.at) * 1000
    held = f"rows of {', '.join(written)} stay locked" if written else "a snapshot and a connection are held"
    first = work[0].event if work else call.event
    events = [
        replace(event, marked=at == call.event or (at == first and event.effect != Kind.CALL.value))
        for at, event in enumerate(run.events)
    ]
    after = [event for event in run.events[call.event + 1 :] if event.kind == "statement"]
    end = next(
        (event.text for event in after if event.effect in (Kind.COMMIT.value, Kind.ROLLBACK.value)), ""
    )
    argument = [
        f"{actor} sends {lab.line(name)}.",
        f"Its transaction begins and runs {len(work)} statement{'' if len(work) == 1 else 's'}: "
        + "; ".join(_short(trace) for trace in work[:4])
        + ".",
        f"While it is open, the service calls {what} and waits {took:.0f} ms for the answer.",
    ]
    if call.locks:
        argument.append(f"PostgreSQL says that it holds meanwhile: {', '.join(call.locks)}.")
    argument.append(f"Only then comes {end}." if end else "The transaction is still open after the reply.")
    argument.append(f"So {held} for as long as {call.call.name} takes, and one that hangs holds them all.")
    path = tuple(
        Step(trace.location, f"in the transaction: {_short(trace)}", trace.function)
        for trace in work
        if trace.location is not None
    )
    if call.location is not None:
        path = (*path, Step(call.location, f"calls {what}, still in the transaction", call.function))
    witness = Witness(
        edge="",
        kind="trace",
        argument=argument,
        scenario={},
        command=[],
        starting_state={},
        schedule={"request": name, "call": {"name": call.call.name, "method": call.call.method}},
        events=events,
    )
    message = f"{lab.scenario.requests[name].send} calls {what} inside an open transaction: {held} meanwhile"
    location = path[-1].location if path else lab.location(name)
    return Proof(lab.scenario.requests[name].send, message, location, witness, path)


def _short(trace: Trace) -> str:
    text = " ".join(trace.sql.split())
    return text if len(text) <= 80 else text[:79] + "…"


async def replay(lab: Laboratory, witness: Witness) -> Replay:
    """The request again: is that system still called while a transaction is open?"""
    name, wanted = witness.schedule["request"], witness.schedule["call"]
    run = await lab.alone(name)
    inside = [
        call
        for call in run.calls
        if _holds(call) and (call.call.name, call.call.method) == (wanted["name"], wanted["method"])
    ]
    if not inside:
        return Replay(
            False, False, [f"{wanted['method']} {wanted['name']} is no longer called in a transaction."]
        )

    def seen(events: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
        return [event for event in events if event[0] in ("statement", "outside")]

    now = seen([(event.kind, event.effect, event.target) for event in run.events])
    then = seen([(event.kind, event.effect, event.target) for event in witness.events])
    proof = _proof(lab, name, run, inside[0])
    return Replay(True, now == then, proof.witness.argument)
