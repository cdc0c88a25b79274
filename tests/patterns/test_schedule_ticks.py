"""When schedules are due: expressions, zones, daylight saving time, and what is wrong with an expression."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some

from mainstay.patterns import Misuse
from mainstay.patterns.schedules.ticks import Cron, Every, due

MINUTE = timedelta(minutes=1)
ZONES = (
    *("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "America/St_Johns"),
    *("Africa/Casablanca", "Africa/Cairo", "Pacific/Apia", "UTC"),
)


@pytest.mark.parametrize(
    ("zone", "expression", "day", "expected"),
    [
        # Spring: 02:00 to 03:00 is skipped. A time of day is due at the jump, a rhythm not at all.
        ("Europe/Berlin", "30 2 * * *", "2026-03-29", ["03:00+02"]),
        ("Europe/Berlin", "0,30 2,3 * * *", "2026-03-29", ["03:00+02", "03:30+02"]),
        ("Europe/Berlin", "*/30 1-3 * * *", "2026-03-29", ["01:00+01", "01:30+01", "03:00+02", "03:30+02"]),
        ("Europe/Berlin", "30 */2 * * 0", "2026-03-29", ["00:30+01", *[f"{h:02}:30+02" for h in range(4, 24, 2)]]),
        # Autumn: 02:00 to 03:00 comes twice. A time of day is due once, a rhythm both times.
        ("Europe/Berlin", "30 2 * * *", "2026-10-25", ["02:30+02"]),
        ("Europe/Berlin", "*/30 2 * * *", "2026-10-25", ["02:00+02", "02:30+02", "02:00+01", "02:30+01"]),
        ("America/New_York", "30 2 * * *", "2026-03-08", ["03:00-04"]),
        ("America/New_York", "30 1 * * *", "2026-11-01", ["01:30-04"]),
        ("America/New_York", "*/30 1 * * *", "2026-11-01", ["01:00-04", "01:30-04", "01:00-05", "01:30-05"]),
        # Half an hour: 02:00 to 02:30 is skipped, 01:30 to 02:00 comes twice.
        ("Australia/Lord_Howe", "15 2 * * *", "2026-10-04", ["02:30+11"]),
        ("Australia/Lord_Howe", "*/30 1,3 * * *", "2026-10-04", ["01:00+10:30", "01:30+10:30", "03:00+11", "03:30+11"]),
        ("Australia/Lord_Howe", "*/30 2 * * *", "2026-10-04", ["02:30+11"]),
        ("Australia/Lord_Howe", "45 1 * * *", "2026-04-05", ["01:45+11"]),
        ("Australia/Lord_Howe", "*/30 1 * * *", "2026-04-05", ["01:00+11", "01:30+11", "01:30+10:30"]),
        ("Australia/Lord_Howe", "*/30 3 * * *", "2026-04-05", ["03:00+10:30", "03:30+10:30"]),
        # None at all; and a day that was left out where the date line moved.
        ("Asia/Kolkata", "30 2 * * *", "2026-03-29", ["02:30+05:30"]),
        ("Pacific/Apia", "0 12 * * *", "2011-12-31", ["00:00+14", "12:00+14"]),
    ],
)  # fmt: skip
def test_daylight_saving_time(zone: str, expression: str, day: str, expected: list[str]) -> None:
    """What is due on the day of a change, by the clock on the wall there."""
    begin = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    assert [
        tick.astimezone(ZoneInfo(zone)).isoformat()[11:].replace(":00+", "+").replace(":00-", "-").removesuffix(":00")
        for tick in upto(Cron(expression, zone), begin - timedelta(seconds=1), begin + timedelta(days=1))
    ] == expected  # fmt: skip


def upto(ticks: Cron | Every, begin: datetime, end: datetime) -> Iterator[datetime]:
    """The ticks after `begin` and before `end`, each asked for from the one before."""
    tick = ticks.after(begin)
    while tick is not None and tick < end.astimezone(UTC):
        yield tick
        tick = ticks.after(tick)


def clockwork(
    minutes: Collection[int], hours: Collection[int], rhythm: bool, zone: str, begin: datetime, end: datetime
) -> Iterator[datetime]:
    """Slow and plain: look at the clock on the wall every minute, as cron does."""

    def wall(at: datetime) -> datetime:
        return at.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0)

    def matches(time: datetime) -> bool:
        return time.minute in minutes and time.hour in hours

    at = begin
    latest = max(wall(begin - n * MINUTE) for n in range(1, 25 * 60))
    while at < end:
        now = wall(at)
        if rhythm:
            if matches(now):
                yield at
        elif now > latest and any(
            matches(latest + n * MINUTE) for n in range(1, (now - latest) // MINUTE + 1)
        ):
            yield at
        latest = max(latest, now)
        at += MINUTE


@settings(deadline=None)
@given(
    some.sampled_from(ZONES),
    some.sets(some.integers(0, 59), min_size=1, max_size=4) | some.sampled_from([1, 7, 15, 20, 30]),
    some.sets(some.integers(0, 5) | some.integers(0, 23), min_size=1, max_size=6)
    | some.sampled_from([1, 2, 6]),
    some.sampled_from(["2026-03-08", "2026-03-29", "2026-04-05", "2026-10-04", "2026-10-25", "2026-11-01"])
    | some.sampled_from(["2026-02-15", "2026-03-22", "2026-04-24", "2026-10-30", "2026-06-15", "2011-12-30"]),
    some.integers(0, 24 * 60),
)
@example("Australia/Lord_Howe", 30, {3}, "2026-04-05", 0)
def test_the_next_tick_is_what_a_clock_on_the_wall_says(
    zone: str, minute: set[int] | int, hour: set[int] | int, day: str, offset: int
) -> None:
    """The law: strictly increasing, none lost, none doubled, whatever the expression, the zone and the day."""
    rhythm = isinstance(minute, int) or isinstance(hour, int)
    minutes = set(range(0, 60, minute)) if isinstance(minute, int) else minute
    hours = set(range(0, 24, hour)) if isinstance(hour, int) else hour
    fields = [
        f"*/{given}" if isinstance(given, int) else ",".join(map(str, sorted(given)))
        for given in (minute, hour)
    ]
    begin = datetime.fromisoformat(day).replace(tzinfo=UTC) - timedelta(days=1) + offset * MINUTE
    end = begin + timedelta(days=2)
    found = list(upto(Cron(f"{fields[0]} {fields[1]} * * *", zone), begin - timedelta(microseconds=1), end))
    assert found == list(clockwork(minutes, hours, rhythm, zone, begin, end))
    assert all(before < after for before, after in pairwise(found))


def test_days_and_names() -> None:
    """Either of day and weekday where both are given; names, the last day, the second Monday."""

    def days(expression: str) -> list[int]:
        begin = datetime(2026, 2, 28, 23, 59, tzinfo=UTC)
        return [tick.day for tick in upto(Cron(expression), begin, begin + timedelta(days=31))]

    assert days("0 9 * * mon-FRI")[:6] == [2, 3, 4, 5, 6, 9]
    assert days("0 9 1,15 * 3") == [1, 4, 11, 15, 18, 25]
    assert days("0 9 L * *") == [31]
    assert days("0 9 * MAR MON#2") == [9]
    assert Cron("0 0 29 2 *").after(datetime(2026, 1, 1, tzinfo=UTC)) == datetime(2028, 2, 29, tzinfo=UTC)


@given(some.integers(1, 10**6), some.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)))
def test_every_so_many_seconds(seconds: int, moment: datetime) -> None:
    """The next multiple, later than the moment and no more than one step."""
    moment = moment.replace(tzinfo=UTC)
    tick = Every(seconds).after(moment)
    assert moment < tick <= moment + timedelta(seconds=seconds) and tick.timestamp() % seconds == 0


@settings(deadline=None)
@given(
    some.sampled_from(["* * * * *", "*/7 1-3 * * *", "0 4 * * 1", "0 0 29 2 *"]),
    some.integers(0, 10**7),
    some.integers(1, 9),
)
def test_of_what_was_missed_the_newest_are_found(expression: str, minutes: int, most: int) -> None:
    """Up to nineteen years without a look; the same as counting through, and quick."""
    now = datetime(2026, 6, 1, 12, 30, tzinfo=UTC)
    ticks = Cron(expression)
    first = now - minutes * MINUTE
    found = due(ticks, first, now, most)
    if len(found) < most:
        assert found == [first, *upto(ticks, first, now + MINUTE / 2)]
    else:
        assert len(found) == most and found[0] >= first
        assert list(upto(ticks, found[0], now + MINUTE / 2)) == list(found[1:])


@pytest.mark.parametrize(
    ("expression", "zone", "says"),
    [
        ("0 25 * * *", "UTC", r"in the cron expression '0 25 \* \* \*', the hour '25' is wrong: it is \* or 0 to 23"),
        ("60 * * * *", "UTC", "the minute '60' is wrong: it is .* 0 to 59"),
        ("0 0 32 * *", "UTC", "the day-of-month '32' is wrong"),
        ("0 0 * 13 *", "UTC", "the month '13' is wrong: it is .* 1 to 12 or JAN to DEC"),
        ("0 0 * * FRIDAY", "UTC", "the day-of-week 'FRIDAY' is wrong"),
        ("0 0 * * 5-1", "UTC", "the day-of-week '5-1' is wrong"),
        ("*/0 * * * *", "UTC", r"the minute '\*/0' is wrong"),
        ("*/90 * * * *", "UTC", r"the minute '\*/90' is wrong: .* a step of 90 comes to the first one alone"),
        ("0 1,*/36 * * *", "UTC", r"the hour '1,\*/36' is wrong: there are 24"),
        ("0 0 31 2 *", "UTC", "'0 0 31 2 .' is never due"),
        ("@daily", "UTC", r"five fields \(minute, hour, .*\), and '@daily' has 1"),
        ("0 0 0 * * *", "UTC", "has 6"),
        ("", "UTC", "has 0"),
        ("0 9 * * *", "Europe/Berln", "there is no time zone 'Europe/Berln'; use an IANA name"),
        ("0 9 * * *", "../etc/passwd", "there is no time zone"),
    ],
)  # fmt: skip
def test_wrong_expressions_are_told(expression: str, zone: str, says: str) -> None:
    """One sentence with the field, what it says and what it may hold."""
    with pytest.raises(Misuse, match=says) as caught:
        Cron(expression, zone)
    assert "\n" not in str(caught.value)


@settings(deadline=None)
@given(
    some.lists(some.text("0123456789*/,-#LW?MONJANFEB", min_size=1, max_size=6), min_size=5, max_size=5).map(
        " ".join
    )
    | some.text()
)
def test_anything_else_is_refused(text: str) -> None:
    """Whatever is written: it has a next tick, or a sentence says why not."""
    try:
        cron = Cron(text)
    except Misuse:
        return
    assert cron.after(datetime(2026, 1, 1, tzinfo=UTC)) is not None


@pytest.mark.parametrize("seconds", [0, -1, 0.5, True, "60", None])
def test_wrong_intervals_are_told(seconds: object) -> None:
    """Whole seconds, at least one."""
    with pytest.raises(Misuse, match="every is a whole number of seconds"):
        Every(seconds)  # type: ignore[arg-type]
