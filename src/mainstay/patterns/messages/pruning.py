"""What workers forget for other patterns: expired replies under idempotency keys, and events that came long ago."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from mainstay.patterns import inbox
from mainstay.patterns.idempotency import keys
from mainstay.patterns.messages.statements import Statement, parse

if TYPE_CHECKING:
    from mainstay.patterns.messages.worker import Worker

EVERY = 5.0
"""Seconds between two rounds."""
LONGEST = 0.5
"""Seconds that a round may take, since other duties wait for it: some ten thousand rows."""
BATCH = 100
"""Rows deleted by one statement; each may have a reply of many megabytes beside it."""

_KEYS = parse("prune_idempotency_keys", keys.PRUNE)
_INBOX = parse("prune_inbox", inbox.PRUNE)


class Pruning:
    """A duty of workers; one for all that are in this process."""

    def __init__(self) -> None:
        self._next = 0.0

    async def __call__(self, worker: Worker) -> None:
        """Forget a little, if it is time to."""
        begun = time.monotonic()
        if begun < self._next:
            return
        self._next = begun + EVERY
        rounds: list[tuple[Statement, dict[str, Any]]] = [(_KEYS, {})]
        if (keep := worker.messages.keep_inbox) is not None:
            rounds.append((_INBOX, {"age": timedelta(seconds=keep)}))
        for statement, values in rounds:
            gone = BATCH
            while gone == BATCH and time.monotonic() - begun < LONGEST:
                rows: Sequence[Sequence[int]] = await worker.upkeep.link.fetch(
                    statement, batch=BATCH, **values
                )
                gone = rows[0][0]
