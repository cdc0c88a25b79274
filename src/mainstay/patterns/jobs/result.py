"""What became of a job: its state at the moment, or its result once there is one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mainstay.patterns.database import Database
from mainstay.patterns.errors import PatternError
from mainstay.patterns.guards import refuse_in_transaction
from mainstay.patterns.messages import connections
from mainstay.patterns.messages.statements import load

SQL = load(__package__)
FIRST_LOOK = 0.02
"""Seconds between the first two looks for a result; each further one follows after twice the time."""
LAST_LOOK = 1.0
"""Seconds between two looks at most."""


class NoResult(PatternError, LookupError):
    """There is no such job, or no longer: without `keep`, a job that succeeded leaves nothing behind."""


class JobFailed(PatternError):
    """The job has ended without a result; `status` has the whole story."""

    def __init__(self, status: JobStatus) -> None:
        why = f": {status.errors[-1]['error']}" if status.errors else ""
        super().__init__(f"job {status.id} ({status.name}) is {status.state}{why}")
        self.status = status


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job at one moment.

    Attributes:
        id: its number.
        name: its kind.
        state: ``scheduled``, ``waiting``, ``blocked``, ``running``, ``succeeded``, ``dead``, ``cancelled`` or
            ``expired``.
        attempts: begun so far.
        progress: what it last reported.
        result: what it returned, as JSON; None until then.
        errors: an entry for each attempt that failed.
    """

    id: int
    name: str
    state: str
    attempts: int
    progress: Any
    result: Any
    errors: Sequence[Mapping[str, Any]]

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it by itself."""
        return self.state in ("succeeded", "dead", "cancelled", "expired")


async def status(database: Database, id: int) -> JobStatus | None:
    """The job as it is now; None where it is not, or no longer, there."""
    async with database.transaction() as tx:
        rows = await connections.fetch(tx, SQL["job_status"], {"id": id})
    if not rows:
        return None
    kind, state, attempts, progress, result, errors = rows[0]
    return JobStatus(id, kind, state, attempts, _json(progress), _json(result), json.loads(errors))


async def result(database: Database, id: int, timeout: float) -> Any:  # noqa: ASYNC109 (waiting for long is its purpose)
    """The stored result, as soon as there is one.

    Raises:
        NoResult: there is no such job, or no longer.
        JobFailed: it has ended without a result.
        TimeoutError: it has not ended within `timeout` seconds.
        OutsideCallInTransaction: a transaction is open here, which would be held all the while.
    """
    refuse_in_transaction("waiting for the result of a job")
    pause = FIRST_LOOK
    try:
        async with asyncio.timeout(timeout):
            while True:
                found = await status(database, id)
                if found is None:
                    raise NoResult(
                        f"job {id} is not there: it never was or did not commit, it succeeded and keeps no result"
                        " (keep=…), or the time to keep it has passed"
                    )
                if found.state == "succeeded":
                    return found.result
                if found.ended:
                    raise JobFailed(found)
                await asyncio.sleep(pause)
                pause = min(pause * 2, LAST_LOOK)
    except TimeoutError:
        raise TimeoutError(f"job {id} has not ended within {timeout:g} s") from None


def _json(text: str | None) -> Any:
    return None if text is None else json.loads(text)
