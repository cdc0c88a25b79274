"""Two requests at the same time: whatever no serial order of them would leave behind proves the edge.

The scheduler holds one request between what it read and what it writes, and lets the other one through. The
oracle compares replies, rows and outside calls with both serial orders.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from mainstay.architect.diagnose.laboratory import Laboratory
from mainstay.architect.diagnose.proof import Proof, Replay
from mainstay.architect.diagnose.race import Exploration, Story, explore, rerun, to_schedule
from mainstay.architect.findings import Check, Location, Witness


async def experiment(lab: Laboratory) -> AsyncIterator[Proof | Check]:
    """Let each pair of requests meet. Pairs that fail by the same two statements are one finding."""
    proven: dict[tuple[str, str], Exploration] = {}
    also: dict[tuple[str, str], list[str]] = {}
    for first, second in lab.scenario.pairs():
        exploration = await explore(lab, first, second)
        subject = f"{first} against {second}"
        if exploration.story is not None:
            cause = exploration.story.cause
            if cause in proven:
                also.setdefault(cause, []).append(subject)
            else:
                proven[cause] = exploration
        elif exploration.undecided:
            yield Check("", subject, "undecided", exploration.undecided)
        else:
            yield Check("", subject, "cleared", exploration.cleared)
    for cause, exploration in proven.items():
        assert exploration.story is not None
        yield _proof(lab, exploration.story, also.get(cause, []))


def _proof(lab: Laboratory, story: Story, also: list[str]) -> Proof:
    cast = dict(zip(lab.actors, story.requests, strict=True))
    message = story.message + (f" (the same between: {', '.join(also)})" if also else "")
    location: Location = story.location or lab.location(story.requests[0])
    witness = Witness(
        edge="",
        kind="schedule",
        argument=story.argument,
        scenario={},
        command=[],
        starting_state={},
        schedule=to_schedule(cast, story.plan),
        events=story.events,
        observed=story.observed,
        serial=story.serial,
    )
    lines = sorted({lab.scenario.requests[name].send for name in story.requests})
    return Proof(" and ".join(lines), message, location, witness, story.path)


async def replay(lab: Laboratory, witness: Witness) -> Replay:
    """The same schedule again, judged anew against serial orders that are run anew."""
    return await rerun(lab, witness)
