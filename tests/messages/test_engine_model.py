"""Any sequence of the engine's statements leaves in the tables what the model says: no message is lost or doubled."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from engine_model import Model, Queue
from engine_statements import KEEP, Hand, Lease
from engine_waiting import dsn
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import URL

from mainstay.patterns.messages import NewMessage

WORKERS = 3
ALIVE = 1000
# Times are multiples of a hundred seconds: what the test itself takes never makes a difference.
HUNDREDS = st.integers(0, 12).map(lambda n: n * 100)
SOME = st.sampled_from([None, 100, 500, 1500])
QUEUES = st.sampled_from(["plain", "limited"])
KINDS = st.sampled_from([("k",), ("k", "other"), ("other",)])
PICK = st.integers(0, 10**6)

DRAFT = st.builds(
    NewMessage,
    kind=st.sampled_from(["k", "k", "k", "other"]),
    payload=st.just("{}"),
    queue=QUEUES,
    delay=st.sampled_from([0, 0, 0, 300, 4000]),
    priority=st.sampled_from([0, 0, 1, 9]),
    expires=st.sampled_from([None, None, None, 200, 700]),
    key=st.sampled_from([None, "x", "x", "y"]),
    key_limit=st.sampled_from([1, 1, 2, 3]),
    unique=st.sampled_from([None, None, None, "u", "v"]),
    unique_for=st.sampled_from([None, 400]),
)

STATE = """
SELECT id, state::text, leased_by, lease, attempts, key_slot, cancel_requested, unique_key,
       jsonb_array_length(errors), keep_until IS NOT NULL
FROM mainstay.message ORDER BY id
"""


class Machine(RuleBasedStateMachine):
    """Several workers and people, one statement at a time, each worker on its own connection."""

    url: URL

    @initialize()
    def begin(self) -> None:
        """Empty tables."""
        self.hands = [Hand(dsn(self.url)) for _ in range(WORKERS)]
        self.people = Hand(dsn(self.url))
        self.people.rows(
            "TRUNCATE mainstay.message, mainstay.worker, mainstay.queue RESTART IDENTITY CASCADE"
        )
        self.model = Model(KEEP)
        self.ids: list[int] = [0] * WORKERS
        self.leases: list[Lease] = []
        for one in range(WORKERS):
            self._register(one)

    def teardown(self) -> None:
        """After any history, a quiet time brings everything to its end."""
        if not hasattr(self, "people"):
            return
        try:
            self._drain()
        finally:
            for hand in [*self.hands, self.people]:
                hand.connection.close()

    def _register(self, one: int) -> None:
        self.ids[one] = self.hands[one].register(ALIVE)
        self.model.workers[self.ids[one]] = self.model.now + ALIVE

    def _some_id(self, pick: int) -> int:
        known = sorted(self.model.published) or [1]
        return known[pick % len(known)]

    def _some_lease(self, pick: int) -> Lease | None:
        """Any lease that was ever given out, the newest ones more often: the holder of an old one comes back too."""
        if not self.leases:
            return None
        recent = self.leases[-6:] if pick % 4 else self.leases
        return recent[pick % len(recent)]

    # ------------------------------------------------------------------------------------ publishing, time

    @rule(new=st.lists(DRAFT, min_size=1, max_size=5))
    def publish(self, new: list[NewMessage]) -> None:
        """Several messages by one statement."""
        self.model.publish(new, self.people.publish(*new))

    @rule(seconds=HUNDREDS)
    def time_passes(self, seconds: int) -> None:
        """All times are moved into the past; workers that live give a sign of life, unless it is long."""
        self.people.move_time(seconds)
        self.model.now += seconds

    # ------------------------------------------------------------------------------------ workers

    @rule(one=st.integers(0, WORKERS - 1), kinds=KINDS, most=st.integers(1, 4), order=st.booleans())
    def lease(self, one: int, kinds: tuple[str, ...], most: int, order: bool) -> None:
        """A batch from both queues."""
        queues = ["plain", "limited"] if order else ["limited", "plain"]
        expected = self.model.lease(self.ids[one], queues, most, kinds, False)
        self._took(one, self.hands[one].lease(self.ids[one], queues, most, kinds), expected)

    @rule(one=st.integers(0, WORKERS - 1), kinds=KINDS, most=st.integers(1, 4))
    def lease_limited(self, one: int, kinds: tuple[str, ...], most: int) -> None:
        """A batch under the limits of a queue."""
        expected = self.model.lease_limited(self.ids[one], "limited", most, kinds)
        self._took(one, self.hands[one].lease_limited(self.ids[one], "limited", most, kinds), expected)
        queue = self.model.queues.get("limited")
        if expected and queue is not None and queue.concurrency is not None:
            live = [
                m
                for m in self.model.messages.values()
                if m.queue == "limited" and m.worker and self.model.workers[m.worker] > self.model.now
            ]
            mine_is_late = self.model.workers[self.ids[one]] <= self.model.now
            assert len(live) <= queue.concurrency or mine_is_late

    def _took(self, one: int, got: list[Lease], expected: list[int]) -> None:
        assert sorted(lease.id for lease in got) == sorted(expected)
        for lease in got:
            m = self.model.messages[lease.id]
            late = m.expires_at is not None and m.expires_at <= self.model.now
            assert (lease.number, lease.attempt, lease.expired) == (m.lease, m.attempts, late)
            if lease.expired:
                self.model.end_running(m.id, "expired")
                assert self.hands[one].end(lease, "expired")
            else:
                self.leases.append(lease)

    def _outcome(self, pick: int, run: Callable[[Hand, Lease], bool], tell: Callable[[int], None]) -> None:
        lease = self._some_lease(pick)
        if lease is None:
            return
        stands = self.model.stands(lease.worker, lease.id, lease.number)
        if stands:
            tell(lease.id)
        hand = self.hands[pick % WORKERS]
        assert run(hand, lease) == stands

    @rule(pick=PICK)
    def complete(self, pick: int) -> None:
        """Success counts if the lease stands, and changes nothing if not."""
        self._outcome(pick, Hand.complete, self.model.complete)

    @rule(pick=PICK, delay=SOME)
    def fail(self, pick: int, delay: int | None) -> None:
        """A failed attempt, with or without another to follow."""
        self._outcome(
            pick, lambda hand, lease: hand.fail(lease, delay), lambda id: self.model.fail(id, delay)
        )

    @rule(pick=PICK, delay=HUNDREDS.map(lambda s: s + 100))
    def postpone(self, pick: int, delay: int) -> None:
        """Not its time."""
        self._outcome(
            pick, lambda hand, lease: hand.postpone(lease, delay), lambda id: self.model.postpone(id, delay)
        )

    @rule(pick=PICK)
    def hand_back(self, pick: int) -> None:
        """Not begun."""
        self._outcome(pick, Hand.hand_back, self.model.hand_back)

    @rule(pick=PICK)
    def obey(self, pick: int) -> None:
        """The worker cancels what it is asked to."""
        self._outcome(
            pick,
            lambda hand, lease: hand.end(lease, "cancelled"),
            lambda id: self.model.end_running(id, "cancelled"),
        )

    @rule(one=st.integers(0, WORKERS - 1))
    def heartbeat(self, one: int) -> None:
        """A sign of life; whoever was declared gone becomes a new worker."""
        id = self.ids[one]
        alive = bool(self.hands[one].run("heartbeat", worker=id, lease=float(ALIVE), info="{}"))
        assert alive == (id in self.model.workers)
        if alive:
            self.model.workers[id] = self.model.now + ALIVE
        else:
            self._register(one)

    @rule(one=st.integers(0, WORKERS - 1))
    def takes_leave(self, one: int) -> None:
        """A worker removes itself, even where it should not: it still holds leases."""
        self.hands[one].run("remove_worker", worker=self.ids[one])
        self.model.workers.pop(self.ids[one], None)

    # ------------------------------------------------------------------------------------ upkeep

    @rule(which=st.sampled_from(["stage", "rescue", "expire", "strays", "stragglers", "prune"]))
    def upkeep(self, which: str) -> None:
        """One duty."""
        self._upkeep(which)

    def _upkeep(self, which: str) -> None:
        match which:
            case "stage":
                self.model.stage()
                self.people.run("stage_due", most=1000)
            case "rescue":
                self.model.rescue()
                self.people.run("rescue", worker=None)
            case "expire":
                self.model.expire()
                self.people.run("expire", most=1000, keep=KEEP)
            case "strays":
                self.model.rescue_strays()
                self.people.run("rescue_strays")
            case "stragglers":
                self.model.unblock_stragglers()
                self.people.run("unblock_stragglers", most=1000)
            case "prune":
                assert self.people.run("prune", most=1000)[0][0] == self.model.prune()

    # ------------------------------------------------------------------------------------ people

    @rule(pick=PICK, do=st.sampled_from(["cancel", "retry", "redrive", "delete"]))
    def control(self, pick: int, do: str) -> None:
        """Someone calls off, hurries, starts over or forgets."""
        id = self._some_id(pick)
        match do:
            case "cancel":
                state = self.model.cancel(id)
                rows = self.people.run("cancel_messages", ids=[id], keep=KEEP)
                assert [row[1] for row in rows] == ([] if state is None else [state])
            case "retry":
                assert bool(self.people.run("retry_messages", ids=[id])) == self.model.retry(id)
            case "redrive":
                assert bool(self.people.redrive(id)) == self.model.redrive(id)
            case "delete":
                assert bool(self.people.run("delete_messages", ids=[id])) == self.model.delete(id)

    @rule(name=QUEUES, paused=st.booleans())
    def pause(self, name: str, paused: bool) -> None:
        """Pause or resume."""
        self.people.run("set_paused", queue=name, paused=paused)
        self.model.queues.setdefault(name, Queue()).paused = paused

    @rule(
        concurrency=st.sampled_from([None, 1, 2]),
        period=st.sampled_from([None, None, 500]),
        burst=st.sampled_from([1, 3]),
    )
    def limit(self, concurrency: int | None, period: int | None, burst: int) -> None:
        """Limit the one queue, or set it free."""
        rate = None if period is None else 1 / period
        self.people.run("set_limits", queue="limited", concurrency=concurrency, rate=rate, burst=burst)
        queue = self.model.queues.setdefault("limited", Queue())
        queue.concurrency, queue.period, queue.burst = concurrency, period, burst

    # ------------------------------------------------------------------------------------ what holds

    @invariant()
    def tables_agree_with_the_model(self) -> None:
        """Every message is in the state that the model has it in."""
        if not hasattr(self, "people"):
            return
        self.model.check()
        modelled = [m.seen() for _, m in sorted(self.model.messages.items())]
        assert [tuple(row) for row in self.people.rows(STATE)] == modelled
        assert {row[0] for row in self.people.rows("SELECT id FROM mainstay.worker")} == set(
            self.model.workers
        )

    @invariant()
    def keys_hold_their_limit_and_order(self) -> None:
        """Never more of a key at work than its limit; with a limit of one, never one before an earlier one."""
        if not hasattr(self, "model"):
            return
        running = [m for m in self.model.messages.values() if m.key is not None and m.state == "running"]
        for m in running:
            same = [o for o in running if (o.queue, o.key) == (m.queue, m.key)]
            assert m.slot is not None and 1 <= m.slot <= m.key_limit
            assert len({o.slot for o in same}) == len(same)

    def _drain(self) -> None:
        model = self.model
        for name in ("plain", "limited"):
            self.pause(name, False)
        self.limit(None, None, 1)
        for _ in range(len(model.messages) * 3 + 20):
            self.time_passes(1200)
            for which in ("rescue", "strays", "stage", "expire", "stragglers"):
                self._upkeep(which)
            if all(m.over for m in model.messages.values()):
                break
            for one in range(WORKERS):
                self.heartbeat(one)
                self.lease(one, ("k", "other"), 4, True)
            for lease in self.leases:
                if model.stands(lease.worker, lease.id, lease.number):
                    model.complete(lease.id)
                    assert self.people.complete(lease)
        self.tables_agree_with_the_model()
        stuck = [m for m in model.messages.values() if not m.over]
        assert not stuck, f"still there after a quiet time: {stuck}"


def test_the_engine_agrees_with_the_model(address: URL) -> None:
    """Random histories, and after each a quiet time in which all ends."""
    examples = int(os.environ.get("MAINSTAY_MODEL_EXAMPLES", "25"))

    class Here(Machine):
        url = address

    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Here,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )


def test_a_model_that_is_wrong_is_found(address: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison can fail: a model in which a handed-back attempt counts does not agree."""

    def counts(self: Model, id: int) -> None:
        self._release(self.messages[id], "waiting")

    monkeypatch.setattr(Model, "hand_back", counts)

    class Here(Machine):
        url = address

        @initialize()
        def begin(self) -> None:
            super().begin()
            self.publish([NewMessage(kind="k", payload="{}", queue="plain")])
            self.lease(0, ("k",), 1, True)

        @rule()
        def again(self) -> None:
            """The step that differs."""
            self.hand_back(1)

    options: dict[str, Any] = {
        "max_examples": 5,
        "stateful_step_count": 5,
        "deadline": None,
        "database": None,
        "derandomize": True,  # of so few steps, the one that differs need not be among those of every run
        "suppress_health_check": list(HealthCheck),
    }
    with pytest.raises(AssertionError):
        run_state_machine_as_test(Here, settings=settings(**options))  # type: ignore[no-untyped-call]
