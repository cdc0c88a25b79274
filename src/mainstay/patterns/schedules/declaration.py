"""Schedules as code declares them, one by one, beside the jobs that they run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from mainstay.patterns.errors import Misuse
from mainstay.patterns.jobs import BadArguments, Job
from mainstay.patterns.schedules.definition import SCHEDULED_FOR, Definition, Missed
from mainstay.patterns.schedules.firing import Firing
from mainstay.patterns.schedules.ticks import Cron, Every

if TYPE_CHECKING:
    from mainstay.patterns.messages.engine import Engine

AnyJob = TypeVar("AnyJob", bound=Job[..., Any, Any, Any])
EPOCH = "1970-01-01T00:00:00Z"


def storable(text: str) -> bool:
    """Whether PostgreSQL takes this text: no NUL in it, and no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\x00" not in text


class Declarations:
    """The schedules of one engine; each worker of it makes them known and fires them."""

    def __init__(self, engine: Engine) -> None:
        self.definitions: dict[str, Definition] = {}
        firing = Firing(self.definitions)
        engine.starting.append(firing.begin)
        engine.duties.append(firing.step)

    def declare(
        self,
        *,
        cron: str | None,
        every: int | None,
        zone: str,
        missed: Missed,
        grace: float,
        most: int,
        overlap: bool,
        name: str | None,
        arguments: Mapping[str, Any],
    ) -> Callable[[AnyJob], AnyJob]:
        """See `Messages.schedule`."""
        if (cron is None) == (every is None):
            raise Misuse(
                'a schedule has either a cron expression or every=…: schedule("0 9 * * *"), schedule(every=60)'
            )
        ticks = Cron(cron, zone) if cron is not None else Every(every)  # type: ignore[arg-type]
        if missed not in get_args(Missed):
            raise Misuse(f"missed is one of {', '.join(get_args(Missed))}, not {missed!r}")
        if not 0 <= grace < 100 * 366 * 86400:
            raise Misuse(f"grace is a number of seconds, not {grace!r}")
        if not 1 <= most <= 1000:
            raise Misuse(f"most is 1 to 1000 ticks, not {most!r}")

        def over(job: AnyJob) -> AnyJob:
            if not isinstance(job, Job):
                raise Misuse(
                    f"{getattr(job, '__qualname__', job)} is no job yet: write @messages.schedule above @messages.job()"
                )
            called = job.name if name is None else name
            if called in self.definitions:
                raise Misuse(
                    f"there is a schedule {called!r} already; give each one a name of its own: name=…"
                )
            tells_tick = SCHEDULED_FOR in job.arguments.names and SCHEDULED_FOR not in arguments
            given = {**arguments, SCHEDULED_FOR: EPOCH} if tells_tick else arguments
            try:
                message = job.message(**given)
            except BadArguments as error:
                raise Misuse(f"schedule {called}: {error}; give it by arguments={{…}}") from None
            if message.unique is not None or message.delay or message.at is not None:
                raise Misuse(
                    f"schedule {called}: the job's options unique, delay and at are the schedule's own business"
                )
            if not overlap and missed == "all":
                if message.key is not None:
                    raise Misuse(
                        f"schedule {called}: key needs overlap=True here, for the ticks are kept apart by it"
                    )
                message = message.but(key=f"schedule {called}")
            elif not overlap:
                message = message.but(unique=f"schedule {called}")
            definition = Definition(called, ticks, missed, float(grace), most, overlap, message, tells_tick)
            texts = (called, message.queue, message.key or "", *message.headers, *message.headers.values())
            if not called or not all(storable(str(one)) for one in texts):
                raise Misuse(
                    f"schedule {called!r} cannot be stored: its name is empty, or in name, queue, key or headers is a"
                    " character that PostgreSQL does not take (NUL, or half a surrogate pair)"
                )
            self.definitions[called] = definition
            return job

        return over
