"""What the engine shall do, in plain Python: one message after the other, one second after the other, no concurrency.

`Model` has one method for each statement. Times are whole seconds of a clock that only moves when it is told to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from mainstay.patterns.messages import NewMessage

HOUR = 3600
ENDED = ("succeeded", "dead", "cancelled", "expired")
Rank = tuple[float, int]
"""Due time less the priority's head start; and which operation set it, for what came at the same second."""


@dataclass
class Modelled:
    """A message, as the model has it."""

    id: int
    queue: str
    kind: str
    priority: int
    key: str | None
    key_limit: int
    unique: str | None
    unique_until: float | None
    expires_at: float | None
    ready_at: float
    rank: Rank
    state: str
    worker: int | None = None
    lease: int = 0
    attempts: int = 0
    slot: int | None = None
    cancel_requested: bool = False
    errors: int = 0
    keep_until: float | None = None

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state in ENDED

    def seen(self) -> tuple[object, ...]:
        """What is compared with the table."""
        return (
            self.id,
            self.state,
            self.worker,
            self.lease,
            self.attempts,
            self.slot,
            self.cancel_requested,
            self.unique,
            self.errors,
            self.keep_until is not None,
        )


@dataclass
class Queue:
    """What is known of a queue."""

    paused: bool = False
    concurrency: int | None = None
    period: int | None = None
    burst: int = 1
    next_start: float = float("-inf")

    @property
    def limited(self) -> bool:
        """Whether it is leased from under its lock."""
        return self.concurrency is not None or self.period is not None


@dataclass
class Model:
    """All that is in the tables."""

    keep: float
    now: float = 0
    operations: int = 0
    messages: dict[int, Modelled] = field(default_factory=dict)
    workers: dict[int, float] = field(default_factory=dict)
    queues: dict[str, Queue] = field(default_factory=dict)
    published: set[int] = field(default_factory=set)
    accounted: set[int] = field(default_factory=set)
    """Gone for a reason: completed, pruned or deleted."""

    def _rank(self, ready: float, priority: int) -> Rank:
        return (ready - priority * HOUR, self.operations)

    def publish(self, new: Sequence[NewMessage], ids: Sequence[int | None]) -> None:
        """`ids` are those that the database gave; the model says which may be None."""
        self.operations += 1
        wanted = {draft.unique for draft in new if draft.unique is not None}
        for one in self.messages.values():
            if one.over and one.unique in wanted and (one.unique_until or 0) <= self.now:
                one.unique = one.unique_until = None
        for draft, id in zip(new, ids, strict=True):
            taken = draft.unique is not None and any(
                one.unique == draft.unique for one in self.messages.values()
            )
            assert (id is None) == taken
            if id is None:
                continue
            ready = self.now + draft.delay
            self.published.add(id)
            self.messages[id] = Modelled(
                id,
                draft.queue,
                draft.kind,
                draft.priority,
                draft.key,
                draft.key_limit,
                draft.unique,
                self.now + draft.unique_for if draft.unique and draft.unique_for is not None else None,
                None if draft.expires is None else self.now + draft.expires,
                ready,
                self._rank(ready, draft.priority),
                "scheduled" if draft.delay > 0 else "waiting",
            )

    def lease(
        self, worker: int, queues: Sequence[str], most: int, kinds: Sequence[str], locked: bool
    ) -> list[int]:
        """The ids that are leased now, in any order."""
        if worker not in self.workers:
            return []
        due: list[Modelled] = []
        for name in queues:
            queue = self.queues.get(name, Queue())
            if queue.paused or (queue.limited and not locked):
                continue
            waiting = [
                m
                for m in self.messages.values()
                if m.state == "waiting" and m.queue == name and m.kind in kinds
            ]
            due += sorted(waiting, key=lambda m: (m.rank, m.id))[:most]
        due = due[:most]
        admitted: list[tuple[Modelled, int | None]] = [(m, None) for m in due if m.key is None]
        parked: list[Modelled] = []
        for m in due:
            if m.key is None:
                continue
            others = [
                o for o in self.messages.values() if (o.queue, o.key) == (m.queue, m.key) and not o.over
            ]
            place = sum((o.queue, o.key) == (m.queue, m.key) and o.id <= m.id for o in due)
            held = {o.slot for o in others if o.slot is not None}
            free = [slot for slot in range(1, m.key_limit + 1) if slot not in held]
            earlier = m.key_limit == 1 and any(o.id < m.id for o in others)
            if len(free) >= place and not earlier:
                admitted.append((m, free[place - 1]))
            elif place > m.key_limit or len(held) + earlier >= m.key_limit:
                parked.append(m)
        for m, slot in admitted:
            m.state, m.worker, m.slot = "running", worker, slot
            m.lease += 1
            m.attempts += 1
        for m in parked:
            m.state = "blocked"
        return [m.id for m, _ in admitted]

    def lease_limited(self, worker: int, name: str, most: int, kinds: Sequence[str]) -> list[int]:
        """As `lease`, with the limits over all workers."""
        queue = self.queues.get(name)
        if queue is None:
            return []
        room = most
        if queue.concurrency is not None:
            live = sum(
                m.state == "running"
                and m.queue == name
                and m.worker is not None
                and self.workers.get(m.worker, self.now) > self.now
                for m in self.messages.values()
            )
            room = min(room, queue.concurrency - live)
        if queue.period is not None:
            ahead = max(queue.next_start, self.now) - self.now
            room = min(room, int((queue.burst * queue.period - ahead) // queue.period))
        if room <= 0:
            return []
        leased = self.lease(worker, [name], room, kinds, True)
        if queue.period is not None:
            queue.next_start = max(queue.next_start, self.now) + len(leased) * queue.period
        return leased

    def stands(self, worker: int, id: int, lease: int) -> bool:
        """Whether a lease is still the one that counts."""
        m = self.messages.get(id)
        return m is not None and (m.worker, m.lease) == (worker, lease)

    def _unblock(self, freed: Iterable[Modelled]) -> None:
        for m in freed:
            blocked = [
                o.id
                for o in self.messages.values()
                if (o.queue, o.key) == (m.queue, m.key) and o.state == "blocked"
            ]
            if m.key is not None and blocked:
                self.messages[min(blocked)].state = "waiting"

    def _end(self, m: Modelled, state: str, keep_until: float | None) -> None:
        m.state, m.worker, m.slot = state, None, None
        if m.unique_until is None or m.unique_until <= self.now:
            m.unique = None
        if keep_until is not None:
            m.keep_until = max(keep_until, m.unique_until or keep_until)
        self._unblock([m])

    def _release(self, m: Modelled, state: str) -> None:
        slot, m.slot = m.slot, None
        m.state, m.worker = state, None
        if slot is not None and m.key_limit > 1:
            self._unblock([m])

    def complete(self, id: int) -> None:
        """Success."""
        m = self.messages[id]
        if m.unique_until is not None:
            self._end(m, "succeeded", self.now)
        else:
            del self.messages[id]
            self.accounted.add(id)
            self._unblock([m])

    def fail(self, id: int, delay: float | None) -> None:
        """A failed attempt. What someone wants cancelled is not tried again."""
        self.operations += 1
        m = self.messages[id]
        m.errors += 1
        m.ready_at = self.now + (delay or 0)
        m.rank = self._rank(m.ready_at, m.priority)
        cancel, m.cancel_requested = m.cancel_requested, False
        if delay is None:
            self._end(m, "dead", None)
        elif cancel:
            self._end(m, "cancelled", self.now + self.keep)
        else:
            self._release(m, "scheduled")

    def postpone(self, id: int, delay: float) -> None:
        """Not its time."""
        self.operations += 1
        m = self.messages[id]
        m.attempts -= 1
        m.ready_at = self.now + delay
        m.rank = self._rank(m.ready_at, m.priority)
        cancel, m.cancel_requested = m.cancel_requested, False
        if cancel:
            self._end(m, "cancelled", self.now + self.keep)
        else:
            self._release(m, "scheduled")

    def hand_back(self, id: int) -> None:
        """Not begun."""
        m = self.messages[id]
        m.attempts -= 1
        self._release(m, "waiting")

    def end_running(self, id: int, state: str) -> None:
        """Cancelled or expired while leased."""
        self._end(self.messages[id], state, self.now + self.keep)

    def cancel(self, id: int) -> str | None:
        """Call one off; its state, or None where it was over."""
        m = self.messages.get(id)
        if m is None or m.over:
            return None
        m.cancel_requested = m.state == "running"
        if not m.cancel_requested:
            self._end(m, "cancelled", self.now + self.keep)
        return m.state

    def retry(self, id: int) -> bool:
        """Make it due now."""
        self.operations += 1
        m = self.messages.get(id)
        if m is None or m.state != "scheduled":
            return False
        m.state, m.ready_at, m.rank = "waiting", self.now, self._rank(self.now, m.priority)
        return True

    def redrive(self, id: int) -> bool:
        """Start over what has ended without success."""
        self.operations += 1
        m = self.messages.get(id)
        if m is None or m.state not in ("dead", "cancelled", "expired"):
            return False
        m.state, m.attempts, m.cancel_requested = "waiting", 0, False
        m.ready_at, m.rank = self.now, self._rank(self.now, m.priority)
        m.keep_until = m.expires_at = None
        return True

    def delete(self, id: int) -> bool:
        """Forget what has ended."""
        m = self.messages.get(id)
        if m is None or not m.over:
            return False
        del self.messages[id]
        self.accounted.add(id)
        return True

    def stage(self) -> None:
        """What has come due is waiting."""
        for m in self._of("scheduled"):
            if m.ready_at <= self.now:
                m.state = "waiting"

    def expire(self) -> None:
        """What nobody began in time has ended."""
        late = [
            m
            for m in self.messages.values()
            if not m.over and m.state != "running" and m.expires_at is not None and m.expires_at <= self.now
        ]
        # The rows change first, the triggers of all of them follow: none of these is brought back by another's end.
        for m in late:
            m.state = "expired"
        for m in late:
            self._end(m, "expired", self.now + self.keep)

    def rescue(self) -> None:
        """Workers whose time has passed are gone."""
        late = {id for id, until in self.workers.items() if until <= self.now}
        orphans = [m for m in self.messages.values() if m.worker in late]
        for id in late:
            del self.workers[id]
        self._free(orphans, errors=1)

    def rescue_strays(self) -> None:
        """Messages of workers that are not there."""
        self._free([m for m in self._of("running") if m.worker not in self.workers], errors=0)

    def _free(self, found: Sequence[Modelled], errors: int) -> None:
        for m in found:
            m.errors += errors
            m.state, m.worker = "waiting", None
        for m in found:
            slot, m.slot = m.slot, None
            if slot is not None and m.key_limit > 1:
                self._unblock([m])

    def unblock_stragglers(self) -> None:
        """The safety net of keys."""
        heads: dict[tuple[str, str | None], Modelled] = {}
        for m in sorted(self._of("blocked"), key=lambda m: m.id):
            heads.setdefault((m.queue, m.key), m)
        for (queue, key), m in heads.items():
            others = [
                o
                for o in self.messages.values()
                if (o.queue, o.key) == (queue, key) and not o.over and o is not m
            ]
            busy = [o for o in others if o.state in ("running", "waiting")]
            if m.key_limit == 1:
                if not busy and not any(o.id < m.id for o in others):
                    m.state = "waiting"
            elif len(busy) < m.key_limit:
                m.state = "waiting"

    def prune(self) -> int:
        """Forget what need not be kept."""
        old = [m.id for m in self.messages.values() if m.keep_until is not None and m.keep_until <= self.now]
        for id in old:
            del self.messages[id]
            self.accounted.add(id)
        return len(old)

    def _of(self, state: str) -> list[Modelled]:
        return [m for m in self.messages.values() if m.state == state]

    def check(self, allowed: Callable[[str], bool] = lambda _: True) -> None:
        """What must hold whatever has happened."""
        assert self.published == set(self.messages) | self.accounted
        assert not set(self.messages) & self.accounted
