"""What code declares of a schedule: how its ticks are told, what is done with them, and the message of each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Self

from mainstay.patterns.messages.message import NewMessage
from mainstay.patterns.schedules.ticks import Cron, Every, Ticks, due

Missed = Literal["skip", "once", "all"]
SCHEDULED_FOR = "scheduled_for"
"""The header with the tick (ISO 8601, UTC), and the parameter of a job that gets it."""

NEVER = datetime(9000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Definition:
    """One schedule. Two are the same where their texts are.

    Attributes:
        name: of the schedule.
        ticks: when it is due.
        missed: see `Messages.schedule`, as `grace`, `most` and `overlap`.
        message: what is published at each tick, but for the tick itself.
        tells_tick: whether the payload has the tick as an argument.
    """

    name: str
    ticks: Cron | Every
    missed: Missed
    grace: float
    most: int
    overlap: bool
    message: NewMessage
    tells_tick: bool

    def due(self, first: datetime, now: datetime) -> tuple[Sequence[datetime], datetime]:
        """The ticks to fire, of those from `first` to `now`; and the newest of all, up to which they are dealt with."""
        newest = due(self.ticks, first, now, self.most if self.missed == "all" else 1)
        if self.missed == "skip" and now - newest[-1] > timedelta(seconds=self.grace):
            return (), newest[-1]
        return newest, newest[-1]

    def message_at(self, tick: datetime) -> NewMessage:
        """The message of this tick."""
        text = tick.astimezone(UTC).isoformat().replace("+00:00", "Z")
        payload = self.message.payload
        if self.tells_tick:
            payload = json.dumps({**json.loads(payload), SCHEDULED_FOR: text})
        return self.message.but(payload=payload, headers={**self.message.headers, SCHEDULED_FOR: text})

    def to_json(self) -> str:
        """All of it, always in the same order."""
        message = self.message
        return json.dumps(
            {
                "name": self.name,
                "ticks": {"every": self.ticks.seconds}
                if isinstance(self.ticks, Every)
                else {"cron": self.ticks.expression, "zone": self.ticks.zone},
                "missed": self.missed,
                "grace": self.grace,
                "most": self.most,
                "overlap": self.overlap,
                "tells_tick": self.tells_tick,
                "message": {
                    "kind": message.kind,
                    "payload": message.payload,
                    "queue": message.queue,
                    "priority": message.priority,
                    "expires": message.expires,
                    "key": message.key,
                    "key_limit": message.key_limit,
                    "unique": message.unique,
                    "headers": dict(message.headers),
                },
            },
            sort_keys=True,
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` wrote; what another version of Mainstay added to it is passed over."""
        found: dict[str, Any] = json.loads(text)
        ticks = found["ticks"]
        return cls(
            name=found["name"],
            ticks=Every(ticks["every"]) if "every" in ticks else Cron(ticks["cron"], ticks["zone"]),
            missed=found["missed"],
            grace=found["grace"],
            most=found["most"],
            overlap=found["overlap"],
            message=NewMessage(**found["message"]),
            tells_tick=found["tells_tick"],
        )

    @property
    def digest(self) -> str:
        """Tells this definition from others of the same schedule."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:32]


def next_tick(ticks: Ticks, now: datetime, last: datetime | None) -> datetime:
    """The tick after now, and after the last one dealt with, should the clock have been set back."""
    return ticks.after(now if last is None else max(now, last)) or NEVER
