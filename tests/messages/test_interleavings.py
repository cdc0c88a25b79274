"""The engine's statements against each other at every point of their transactions.

After each interleaving and a quiet time: nothing lost, nothing doubled, nothing stuck, and no error came out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from engine_statements import KEEP, SQL, Hand, Lease
from engine_waiting import dsn
from interleaving import Stage, Step, schedules
from sqlalchemy import URL

from mainstay.patterns.messages import NewMessage
from mainstay.patterns.messages.engine import _insert

ONE = NewMessage(kind="k", payload="{}", queue="q")
KEYED = ONE.but(key="x")


@dataclass
class Scene:
    """The tables before an interleaving, and what the actors took and finished in it."""

    people: Hand
    workers: list[int]
    ids: list[int] = field(default_factory=list)
    leases: list[Lease] = field(default_factory=list)
    finished: list[int] = field(default_factory=list)

    def publish(self, *new: NewMessage) -> list[int]:
        """Before it begins."""
        ids = [id for id in self.people.publish(*new) if id is not None]
        self.ids += ids
        return ids

    def lease(self, worker: int, most: int = 10) -> list[Lease]:
        """Before it begins."""
        leases = self.people.lease(self.workers[worker], ["q"], most)
        self.leases += leases
        return leases

    # ------------------------------------------------------------------ what actors do, statement by statement

    def leasing(self, worker: int, *, most: int = 10, plain: bool = False) -> list[Step]:
        """Lease, in a transaction that stays open for a while as it waits for its commit."""
        return [
            ("begin", _do("BEGIN")),
            ("lease", self._lease(worker, most, False, plain)),
            ("commit", _do("COMMIT")),
        ]

    def leasing_limited(self, worker: int) -> list[Step]:
        """Lease from a limited queue as a worker does it, in one transaction."""
        room: dict[str, int] = {}

        async def lock(connection: Any) -> None:
            await connection.execute("BEGIN")
            cursor = await connection.execute(SQL["lock_limited_queue"].named, {"queue": "q"})
            room["most"] = 10 if await cursor.fetchall() else 0

        async def count(connection: Any) -> None:
            if room["most"]:
                cursor = await connection.execute(
                    SQL["room_in_limited_queue"].named, {"queue": "q", "most": 10}
                )
                room["most"] = (await cursor.fetchall())[0][0]

        async def lease(connection: Any) -> None:
            if room["most"]:
                await self._lease(worker, room["most"], True)(connection)

        return [("lock", lock), ("room", count), ("lease", lease), ("commit", _do("COMMIT"))]

    def _lease(self, worker: int, most: int, locked: bool, plain: bool = False) -> Callable[[Any], Any]:
        async def lease(connection: Any) -> None:
            cursor = await connection.execute(
                SQL["lease_plain" if plain else "lease"].named,
                {
                    "worker": self.workers[worker],
                    "queues": ["q"],
                    "kinds": ["k"],
                    "most": most,
                    "locked": locked,
                },
                prepare=True,
            )
            self.leases += [
                Lease(self.workers[worker], row[0], row[1], row[2], bool(row[9]), row[10])
                for row in await cursor.fetchall()
                if row[1]
            ]

        return lease

    def completing(self, lease: Lease) -> list[Step]:
        """Complete in the handler's transaction: it counts if it commits."""
        done: list[int] = []

        async def complete(connection: Any) -> None:
            values = {"worker": lease.worker, "ids": [lease.id], "leases": [lease.number]}
            await connection.execute("BEGIN")
            cursor = await connection.execute(SQL["complete"].named, values, prepare=True)
            done.extend(row[0] for row in await cursor.fetchall())

        async def commit(connection: Any) -> None:
            await connection.execute("COMMIT" if done else "ROLLBACK")
            self.finished.extend(done)

        return [("complete", complete), ("commit", commit)]

    def failing(self, lease: Lease) -> list[Step]:
        """Write down a failed attempt."""
        values = {
            "worker": lease.worker,
            "ids": [lease.id],
            "leases": [lease.number],
            "errors": [json.dumps({"error": "no"})],
            "delays": [0.0],
            "keep": KEEP,
        }
        return self.doing("fail", values)

    def doing(self, name: str, values: dict[str, Any] | None = None) -> list[Step]:
        """One statement in a transaction of its own."""

        async def do(connection: Any) -> None:
            await connection.execute("BEGIN")
            await connection.execute(SQL[name].named, values or {})

        return [(name, do), ("commit", _do("COMMIT"))]

    def cancelling(self, *ids: int) -> list[Step]:
        """Call off."""
        return self.doing("cancel_messages", {"ids": list(ids), "keep": KEEP})

    def redriving(self, *ids: int) -> list[Step]:
        """Start over."""
        nothing = dict.fromkeys(("states", "queue", "kind", "key", "error"))
        return self.doing("redrive_messages", {"ids": list(ids), "most": 1000, **nothing})

    def beating(self, worker: int) -> list[Step]:
        """A sign of life."""
        return self.doing("heartbeat", {"worker": self.workers[worker], "lease": 1000.0, "info": "{}"})

    def publishing(self, *new: NewMessage) -> list[Step]:
        """Publish in somebody's transaction."""
        statement, values = _insert(new)
        keys = {"keys": [one.unique for one in new if one.unique is not None]}

        async def publish(connection: Any) -> None:
            await connection.execute("BEGIN")
            await connection.execute(SQL["release_unique_keys"].named, keys)
            cursor = await connection.execute(statement.named, values)
            self.ids += [row[0] for row in await cursor.fetchall()]

        return [("publish", publish), ("commit", _do("COMMIT"))]

    def holding(self, worker: int) -> list[Step]:
        """Lock a worker's row: its next lease has its snapshot by then, and waits before it looks at any message."""
        hold = "BEGIN; SELECT FROM mainstay.worker WHERE id = " + str(self.workers[worker]) + " FOR UPDATE"
        return [("hold", _do(hold)), ("let go", _do("COMMIT"))]

    # ------------------------------------------------------------------ afterwards

    def audit(self) -> None:
        """Nothing doubled as it stands; then, after a quiet time, nothing stuck and nothing lost."""
        people = self.people
        pairs = [(one.id, one.number) for one in self.leases]
        assert len(pairs) == len(set(pairs)), "the same lease was given out twice"
        assert len(self.finished) == len(set(self.finished)), "completed twice"
        there = people.rows("SELECT id, state::text FROM mainstay.message")
        assert sorted([row[0] for row in there] + self.finished) == sorted(self.ids), "lost"
        people.run("set_limits", queue="q", concurrency=None, rate=None, burst=1)
        for _ in range(3 * len(self.ids) + 5):
            for name, values in (
                ("stage_due", {"most": 100}),
                ("expire", {"most": 100, "keep": KEEP}),
                ("unblock_stragglers", {"most": 100}),
                ("rescue_strays", {}),
            ):
                people.run(name, **values)
            worker = people.register()
            for lease in people.lease(worker, ["q"], 10):
                assert people.complete(lease)
                self.finished.append(lease.id)
            people.run("remove_worker", worker=worker)
            people.move_time(5000)
            people.run("rescue", worker=None)
            if not people.rows("SELECT 1 FROM mainstay.message WHERE ended_at IS NULL"):
                break
        stuck = people.rows("SELECT id, state::text FROM mainstay.message WHERE ended_at IS NULL")
        assert not stuck, f"stuck: {stuck}"
        ended = [row[0] for row in people.rows("SELECT id FROM mainstay.message")]
        assert sorted(self.finished + ended) == sorted(self.ids), "lost or doubled"


def _do(sql: str, values: Any = None) -> Callable[[Any], Any]:
    async def do(connection: Any) -> None:
        await connection.execute(sql, values)

    return do


Cast = dict[str, list[Step]]


def lease_lease(scene: Scene) -> Cast:
    """Two workers, plain and keyed messages, batches that overlap."""
    scene.publish(ONE, KEYED, KEYED, ONE, KEYED.but(key="y", key_limit=2), KEYED.but(key="y", key_limit=2))
    return {"a": scene.leasing(0, most=4), "b": scene.leasing(1)}


def plain_lease_beside_the_other(scene: Scene) -> Cast:
    """Who has not met a key yet takes what has none, and leaves the rest as it is."""
    scene.publish(ONE, KEYED, KEYED, ONE, KEYED.but(key="y", key_limit=2))
    return {"a": scene.leasing(0, most=4, plain=True), "b": scene.leasing(1)}


def plain_lease_twice(scene: Scene) -> Cast:
    """Two workers that have not met a key yet."""
    scene.publish(ONE, KEYED, ONE, ONE)
    return {"a": scene.leasing(0, most=2, plain=True), "b": scene.leasing(1, plain=True)}


def rescue_plain_lease(scene: Scene) -> Cast:
    """Declared gone as it leases."""
    scene.publish(ONE)
    scene.lease(0)
    scene.publish(ONE)
    scene.people.move_time(5000)
    return {"a": scene.doing("rescue", {"worker": None}), "b": scene.leasing(0, plain=True)}


def leave_plain_lease(scene: Scene) -> Cast:
    """Removed as a lease of it is under way."""
    scene.publish(ONE)
    return {
        "a": scene.doing("remove_worker", {"worker": scene.workers[0]}),
        "b": scene.leasing(0, plain=True),
    }


def lease_completion_of_the_blocker(scene: Scene) -> Cast:
    """The first of a key ends just as a lease finds the second and would park it."""
    scene.publish(KEYED, KEYED, KEYED)
    (first,) = scene.lease(0, most=1)
    return {"a": scene.leasing(1), "b": scene.completing(first)}


def lease_held_in_the_middle(scene: Scene) -> Cast:
    """As before, and the lease has taken its snapshot but looked at nothing when the blocker ends."""
    scene.publish(KEYED, KEYED, KEYED)
    (first,) = scene.lease(0, most=1)
    scene.lease(0)  # parks the others
    return {"a": scene.leasing(1), "b": scene.completing(first), "h": scene.holding(1)}


def lease_failure_of_the_blocker(scene: Scene) -> Cast:
    """One of two slots of a key is given back by a failure as a lease finds a third."""
    keyed = KEYED.but(key_limit=2)
    scene.publish(keyed, keyed, keyed, keyed)
    first, _ = scene.lease(0, most=2)
    return {"a": scene.leasing(1), "b": scene.failing(first)}


def complete_complete_of_a_key(scene: Scene) -> Cast:
    """Both slots of a key are freed at once, with two blocked behind them."""
    keyed = KEYED.but(key_limit=2)
    scene.publish(*[keyed] * 4)
    first, second = scene.lease(0)
    assert scene.lease(0) == []
    return {"a": scene.completing(first), "b": scene.completing(second)}


def complete_rescue(scene: Scene) -> Cast:
    """A late worker completes just as it is declared gone."""
    scene.publish(ONE, KEYED, KEYED)
    leases = scene.lease(0)
    scene.people.move_time(5000)
    return {"a": scene.completing(leases[0]), "b": scene.doing("rescue", {"worker": None})}


def complete_cancel(scene: Scene) -> Cast:
    """Someone calls off what is being completed, and what is blocked behind it."""
    scene.publish(KEYED, KEYED)
    (first,) = scene.lease(0)
    return {"a": scene.completing(first), "b": scene.cancelling(*scene.ids)}


def cancel_in_another_order(scene: Scene) -> Cast:
    """Two people call off the same messages of a key, named in opposite orders."""
    scene.publish(KEYED, KEYED, KEYED)
    scene.lease(0)
    return {"a": scene.cancelling(*scene.ids), "b": scene.cancelling(*reversed(scene.ids))}


def rescue_heartbeat(scene: Scene) -> Cast:
    """A late worker gives a sign of life just as it is declared gone."""
    scene.publish(ONE, KEYED)
    scene.lease(0)
    scene.people.move_time(5000)
    return {"a": scene.doing("rescue", {"worker": None}), "b": scene.beating(0)}


def rescue_rescue(scene: Scene) -> Cast:
    """Two workers find the same one late."""
    scene.publish(ONE, KEYED, KEYED)
    scene.lease(0)
    scene.people.move_time(5000)
    return {"a": scene.doing("rescue", {"worker": None}), "b": scene.doing("rescue", {"worker": None})}


def rescue_lease(scene: Scene) -> Cast:
    """A late worker leases just as it is declared gone: it gets nothing, or what it got is freed in time."""
    scene.publish(ONE)
    scene.lease(0)
    scene.publish(ONE)
    scene.people.move_time(5000)
    return {"a": scene.doing("rescue", {"worker": None}), "b": scene.leasing(0)}


def leave_lease(scene: Scene) -> Cast:
    """A worker's row goes just as its last lease is on the way."""
    scene.publish(ONE)
    return {"a": scene.doing("remove_worker", {"worker": scene.workers[0]}), "b": scene.leasing(0)}


def redrive_lease(scene: Scene) -> Cast:
    """An earlier message of a key comes back from the dead as a later one is leased."""
    first, _ = scene.publish(KEYED, KEYED)
    scene.people.run("cancel_messages", ids=[first], keep=KEEP)
    return {"a": scene.redriving(first), "b": scene.leasing(0)}


def redrive_redrive(scene: Scene) -> Cast:
    """Two people start the same over."""
    scene.publish(ONE, KEYED)
    scene.people.run("cancel_messages", ids=scene.ids, keep=KEEP)
    return {"a": scene.redriving(*scene.ids), "b": scene.redriving(*reversed(scene.ids))}


def cancel_lease(scene: Scene) -> Cast:
    """Someone calls off what is being leased."""
    scene.publish(ONE, KEYED, KEYED)
    return {"a": scene.cancelling(*scene.ids), "b": scene.leasing(0)}


def unique_unique(scene: Scene) -> Cast:
    """Two publish under one unique key: the second waits for the first's end, and one message is there."""
    new = ONE.but(unique="u")
    return {"a": scene.publishing(new), "b": scene.publishing(new)}


def unique_crosswise(scene: Scene) -> Cast:
    """Each publishes two unique keys by one statement, in the same order."""
    new = (ONE.but(unique="u"), ONE.but(unique="v"))
    return {"a": scene.publishing(*new), "b": scene.publishing(*new)}


def unique_complete(scene: Scene) -> Cast:
    """One publishes under the key of a message that is just being completed."""
    scene.publish(ONE.but(unique="u"))
    (first,) = scene.lease(0)
    return {"a": scene.publishing(ONE.but(unique="u")), "b": scene.completing(first)}


def limited_twice(scene: Scene) -> Cast:
    """Two workers lease from a queue that allows two at once."""
    scene.publish(ONE, ONE, ONE, KEYED)
    scene.people.run("set_limits", queue="q", concurrency=2, rate=None, burst=1)
    return {"a": scene.leasing_limited(0), "b": scene.leasing_limited(1)}


def expire_lease(scene: Scene) -> Cast:
    """The upkeep ends what is just being leased."""
    scene.publish(ONE.but(expires=1), KEYED.but(expires=1), KEYED)
    scene.people.move_time(10)
    return {"a": scene.doing("expire", {"most": 100, "keep": KEEP}), "b": scene.leasing(0)}


def stragglers_complete(scene: Scene) -> Cast:
    """The safety net brings back what a completion brings back at the same time."""
    scene.publish(KEYED, KEYED, KEYED)
    (first,) = scene.lease(0)
    return {
        "a": scene.doing("unblock_stragglers", {"most": 100}),
        "b": scene.completing(first),
    }


def stragglers_lease(scene: Scene) -> Cast:
    """The safety net and a lease meet on one key."""
    scene.publish(*[KEYED.but(key_limit=2)] * 4)
    scene.lease(0)
    return {"a": scene.doing("unblock_stragglers", {"most": 100}), "b": scene.leasing(1)}


PAIRS = [
    lease_lease,
    lease_completion_of_the_blocker,
    lease_held_in_the_middle,
    lease_failure_of_the_blocker,
    complete_complete_of_a_key,
    complete_rescue,
    complete_cancel,
    cancel_in_another_order,
    rescue_heartbeat,
    rescue_rescue,
    rescue_lease,
    leave_lease,
    redrive_lease,
    redrive_redrive,
    cancel_lease,
    unique_unique,
    unique_crosswise,
    unique_complete,
    limited_twice,
    expire_lease,
    stragglers_complete,
    stragglers_lease,
]


@pytest.fixture
def scenes(empty: URL) -> Iterator[Callable[[], Scene]]:
    """Fresh tables with two workers, again and again."""
    with Hand(dsn(empty)) as people:

        def fresh() -> Scene:
            people.rows("TRUNCATE mainstay.message, mainstay.worker, mainstay.queue RESTART IDENTITY CASCADE")
            return Scene(people, [people.register(1000.0), people.register(1000.0)])

        yield fresh


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.__name__)
async def test_every_interleaving(
    empty: URL, scenes: Callable[[], Scene], pair: Callable[[Scene], Cast]
) -> None:
    """Every order of the statements of both, with their waits."""
    words: Sequence[str] = list(schedules({name: len(steps) for name, steps in pair(scenes()).items()}))
    async with Stage(dsn(empty)) as stage:
        for word in words:
            scene = scenes()
            errors = await stage.play(pair(scene), word)
            assert not errors, f"{word}: {errors}"
            try:
                if pair is limited_twice:
                    assert len(scene.leases) <= 2, "more at work than the queue allows"
                scene.audit()
            except AssertionError as error:
                raise AssertionError(f"{word}: {error}") from error


async def test_a_fault_is_found(empty: URL, scenes: Callable[[], Scene]) -> None:
    """The exploration can fail: a completion that asks for no lease number completes what others hold."""
    sql = "DELETE FROM mainstay.message WHERE id = ANY (%(ids)s) RETURNING id"
    found = False

    def careless(scene: Scene, lease: Lease) -> list[Step]:
        async def complete(connection: Any) -> None:
            await connection.execute("BEGIN")
            cursor = await connection.execute(sql, {"ids": [lease.id]})
            scene.finished += [row[0] for row in await cursor.fetchall()]

        return [("complete", complete), ("undo", _do("ROLLBACK"))]

    async with Stage(dsn(empty)) as stage:
        for word in schedules({"a": 2, "b": 2}):
            scene = scenes()
            scene.publish(ONE)
            (lease,) = scene.lease(0)
            await stage.play({"a": careless(scene, lease), "b": scene.completing(lease)}, word)
            try:
                scene.audit()
            except AssertionError:
                found = True
    assert found
