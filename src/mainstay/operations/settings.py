"""What a worker process is told."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of `mainstay worker`, as they are handed on to each process.

    Attributes:
        app: ``module:attribute``.
        queues: to serve; empty: those of all handlers.
        concurrency, lease, grace: as `patterns.messages.Worker` takes them; seconds.
        log_level: of the root logger, where the app does not set up logging itself.
        health: ``port`` or ``host:port``; None: none.
    """

    app: str
    queues: tuple[str, ...] = ()
    concurrency: int = 100
    lease: float = 30.0
    grace: float = 25.0
    log_level: str = "info"
    health: str | None = None

    def to_json(self) -> str:
        """For the command line of a child."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` wrote."""
        values = json.loads(text)
        return cls(**values | {"queues": tuple(values["queues"])})
