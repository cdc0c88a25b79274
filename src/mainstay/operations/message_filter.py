"""Which messages a command is about: the filter options, and what they find."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from mainstay.errors import MainstayError
from mainstay.nearest import nearest
from mainstay.operations.display import states
from mainstay.patterns.messages.control import Control, State

Queue = Annotated[
    str | None, typer.Option("--queue", "-q", help="In this queue.", metavar="QUEUE", show_default=False)
]
Kind = Annotated[
    str | None, typer.Option("--kind", "-k", help="Of this kind.", metavar="KIND", show_default=False)
]
Key = Annotated[str | None, typer.Option("--key", help="With this key.", metavar="KEY", show_default=False)]
ErrorText = Annotated[
    str | None,
    typer.Option("--error", "-e", help="With this in their errors.", metavar="TEXT", show_default=False),
]

PAGE = 1000


@dataclass(frozen=True, slots=True)
class Filter:
    """What is asked for; what is empty or None lets everything pass."""

    states: list[State] = field(default_factory=list)
    queue: str | None = None
    kind: str | None = None
    key: str | None = None
    error: str | None = None

    def __bool__(self) -> bool:
        return any((self.states, self.queue, self.kind, self.key, self.error))

    async def find(self, control: Control, *, before: int | None, most: int) -> list[dict[str, Any]]:
        """A page of messages, newest first."""
        return await control.find(
            states=self.states or None,
            queue=self.queue,
            kind=self.kind,
            key=self.key,
            error=self.error,
            before=before,
            most=most,
        )

    async def ids(self, control: Control) -> list[int]:
        """The ids of all messages that match, oldest first."""
        found: list[int] = []
        while page := await self.find(control, before=found[-1] if found else None, most=PAGE):
            found += (one["id"] for one in page)
            if len(page) < PAGE:
                break
        return found[::-1]

    async def check_queue(self, control: Control) -> None:
        """Nothing was found: because nothing is known of the queue?

        Raises:
            MainstayError: so it is.
        """
        if self.queue is not None:
            await check_queue(control, self.queue)


def make_filter(
    state: list[str] | None, queue: str | None, kind: str | None, key: str | None, error: str | None
) -> Filter:
    """The filter that options say.

    Raises:
        MainstayError: there is no such state.
    """
    return Filter(states(state, State), queue, kind, key, error)


async def check_queue(control: Control, queue: str, *, remedy: str = "") -> None:
    """Refuse a name that neither messages nor limits nor workers have.

    Raises:
        MainstayError: with the nearest name.
    """
    known = {one["queue"] for one in await control.stats()}
    if queue not in known:
        known |= {name for one in await control.workers() for name in one["queues"]}
    if queue not in known:
        raise MainstayError(
            f"nothing is known of a queue {queue!r}{nearest(queue, known)}: it has no messages, limits or "
            f"workers{remedy}."
        )
