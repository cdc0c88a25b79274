"""`Messages`: the engine and all that stands on it, in one object.

Each layer is a module of its own beside this package and is imported when it is first used.
"""

from __future__ import annotations

from mainstay.patterns.database import Database
from mainstay.patterns.messages.engine import Engine


class Messages(Engine):
    """The messages of one database: events, jobs, schedules and sagas.

    Args:
        database: where they live. Its tables come from ``mainstay db upgrade`` (`patterns.schema`).
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        database.messages = self
