"""When a schedule is due: by a cron expression in a time zone, or every so many seconds.

Time of day that daylight saving time skips or repeats is treated as Debian's cron treats it (cron(8), "Daylight Saving
Time and other time changes"). cronsim reads the expression and walks through times of day that know no zone; which
instants these are is decided here, because no library tried was right about it everywhere (docs/dependencies.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Protocol
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from mainstay.patterns.errors import Misuse

FIELDS = {
    "minute": "0 to 59",
    "hour": "0 to 23",
    "day-of-month": "1 to 31 or L",
    "month": "1 to 12 or JAN to DEC",
    "day-of-week": "0 to 7 or SUN to SAT",
}
SPANS = {"minute": 60, "hour": 24, "day-of-month": 31, "month": 12, "day-of-week": 7}
SECOND = timedelta(seconds=1)
LONGEST_SHIFT = timedelta(hours=25)
"""Clocks have been set forward or back by a whole day at most, where the date line moved."""


class Ticks(Protocol):
    """The instants at which something is due."""

    def after(self, instant: datetime) -> datetime | None:
        """The first one later than `instant`, in UTC; None where none follows within fifty years."""


@dataclass(frozen=True)
class Every:
    """Every so many seconds, counted from 1970-01-01 00:00 UTC: the same for all workers, after any restart."""

    seconds: int

    def __post_init__(self) -> None:
        if isinstance(self.seconds, bool) or not isinstance(self.seconds, int) or self.seconds < 1:
            raise Misuse(f"every is a whole number of seconds, at least 1, not {self.seconds!r}")

    def after(self, instant: datetime) -> datetime:
        """See `Ticks`."""
        passed = int(instant.timestamp() // self.seconds)
        return datetime.fromtimestamp((passed + 1) * self.seconds, UTC)


@dataclass(frozen=True)
class Cron:
    """Five fields as crontab(5) has them, in a time zone.

    - Where hour and minute are fixed numbers ("30 2 * * *"), the schedule means a time of day: one that is skipped
      is due when the clock has jumped, one that comes twice is due the first time only.
    - Where one of them begins with ``*`` ("*/30 * * * *"), it means a rhythm: due whenever the clock on the wall says
      so, thus never in what is skipped and both times in what is repeated.

    Where day and weekday both begin with no ``*``, either may match.

    Raises:
        Misuse: the expression or the zone is wrong, with the field and what it may hold.
    """

    expression: str
    zone: str = "UTC"

    def __post_init__(self) -> None:
        _parsed(self.expression)
        _check_steps(self.expression)
        _ = self._zone
        if self.after(datetime(2000, 1, 1, tzinfo=UTC)) is None:
            raise Misuse(f"{self.expression!r} is never due: no such month has such a day")

    @cached_property
    def _zone(self) -> ZoneInfo:
        try:
            return ZoneInfo(self.zone)
        except (KeyError, ValueError, OSError, TypeError):
            raise Misuse(
                f"there is no time zone {self.zone!r}; use an IANA name such as Europe/Berlin (where the system"
                " brings no time zones, install tzdata)"
            ) from None

    @cached_property
    def _rhythm(self) -> bool:
        minute, hour = self.expression.split()[:2]
        return minute.startswith("*") or hour.startswith("*")

    def after(self, instant: datetime) -> datetime | None:
        """See `Ticks`."""
        local = instant.astimezone(self._zone)
        # Where the clock is about to be set back, times of day that have passed come again.
        back = _offset(local) - _offset((instant + LONGEST_SHIFT).astimezone(self._zone))
        begin = local.replace(tzinfo=None) - max(back, timedelta(0))
        found: datetime | None = None
        for wall in CronSim(self.expression, begin):
            instants = self._instants(wall)
            if found is not None and instants and instants[0] >= found:
                break
            found = min(
                (one for one in instants if one > instant and (found is None or one < found)), default=found
            )
        return found

    def _instants(self, wall: datetime) -> Sequence[datetime]:
        """The instants, in UTC, at which a clock on the wall says this, as far as they are due; in order."""
        first = wall.replace(tzinfo=self._zone, fold=0).astimezone(UTC)
        again = wall.replace(tzinfo=self._zone, fold=1).astimezone(UTC)
        if first == again:
            return (first,)
        if first < again:  # it comes twice
            return (first, again) if self._rhythm else (first,)
        return () if self._rhythm else (self._jump(again, first),)  # it is skipped

    def _jump(self, before: datetime, after: datetime) -> datetime:
        """The instant between these two from which another offset holds."""
        offset = _offset(before.astimezone(self._zone))
        while after - before > SECOND:
            middle = before + (after - before) // 2
            middle -= timedelta(microseconds=middle.microsecond)
            if middle == before:
                break
            if _offset(middle.astimezone(self._zone)) == offset:
                before = middle
            else:
                after = middle
        return after


def due(ticks: Ticks, first: datetime, now: datetime, most: int) -> Sequence[datetime]:
    """Of `first` and the ticks after it, those up to `now`: at most `most`, the newest; in order.

    It takes about as long as `most` ticks do, however long nobody looked.
    """
    window = timedelta(minutes=1)
    while True:
        begin = now - window
        found: list[datetime] = []
        if begin <= first:
            begin = first
            found.append(first)
        one = ticks.after(begin)
        while one is not None and one <= now:
            found.append(one)
            one = ticks.after(one)
        if len(found) >= most or begin == first:
            return found[-most:]
        window *= 4


def _parsed(expression: str) -> None:
    fields = expression.split() if isinstance(expression, str) else []
    if len(fields) != len(FIELDS):
        raise Misuse(
            f"a cron expression has five fields (minute, hour, day of the month, month, day of the week), and"
            f" {expression!r} has {len(fields)}"
        )
    try:
        CronSim(expression, datetime(2000, 1, 1))
    except CronSimError as error:
        name = str(error).removeprefix("Bad ")
        if name == "day-of-month" and _is_right(" ".join([*fields[:3], "*", fields[4]])):
            raise Misuse(f"{expression!r} is never due: no such month has such a day") from None
        if name not in FIELDS:
            raise Misuse(f"{expression!r} is no cron expression: {error}") from None
        raise Misuse(
            f"in the cron expression {expression!r}, the {name} {fields[list(FIELDS).index(name)]!r} is wrong:"
            f" it is * or {FIELDS[name]}, with lists (1,2), ranges (1-5) and steps (*/2)"
        ) from None


def _check_steps(expression: str) -> None:
    """To cron the minute ``*/90`` is minute 0: who writes it means every ninety minutes, and would get sixty."""
    for (name, span), field in zip(SPANS.items(), expression.split(), strict=True):
        for part in field.split(","):
            step = part.partition("/")[2]
            if step.isdecimal() and int(step) > span:
                raise Misuse(
                    f"in the cron expression {expression!r}, the {name} {field!r} is wrong: there are {span} of them,"
                    f" so that a step of {step} comes to the first one alone; every=… takes any number of seconds"
                )


def _is_right(expression: str) -> bool:
    try:
        CronSim(expression, datetime(2000, 1, 1))
    except CronSimError:
        return False
    return True


def _offset(local: datetime) -> timedelta:
    offset = local.utcoffset()
    assert offset is not None
    return offset
