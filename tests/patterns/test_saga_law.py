"""The law of sagas: for any sequence of failures one ends completed, or compensated, or is stuck with a reason."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from saga_shop import SOON, Shop, declare, prepare, start, until, until_ended, until_stuck
from sqlalchemy import URL

from mainstay.patterns import Database
from mainstay.patterns.messages import Messages
from mainstay.patterns.saga import cancel, compensate, show, skip

STEPS = ("reserve", "authorize", "capture", "ship")
OUTSIDE = {"authorize", "un-authorize", "capture"}
PIVOT = STEPS.index("capture")


@dataclass
class Model:
    """What a saga with this script should do, thought through without tables, messages or workers.

    `hopeless` never succeeds; a person then skips it, or compensates where it is the pivot. A user cancels while
    `cancelled` is called for the first time.
    """

    script: dict[str, list[str]]
    hopeless: str | None
    cancelled: str | None
    log: list[str] = field(default_factory=list)
    there: set[str] = field(default_factory=set)
    stuck: str | None = None
    wanted: bool = False

    def run(self) -> str:
        """The state in which it ends."""
        to_undo: list[str] = []
        for number, what in enumerate(STEPS):
            outcome = self.attempts(what, may_go_back=number <= PIVOT)
            if outcome != "failed" and what in ("reserve", "authorize"):
                to_undo.append(what)
            if outcome == "done":
                self.there.add(what)
            if outcome in ("failed", "unknown") or (self.wanted and number < PIVOT):
                return self.back(to_undo)
        return "completed"

    def back(self, to_undo: list[str]) -> str:
        for what in reversed(to_undo):
            if self.attempts(f"un-{what}", may_go_back=False) == "done":
                self.there.discard(what)
        return "compensated"

    def attempts(self, what: str, may_go_back: bool) -> str:
        """What becomes of a step, or an undo: done, failed, unknown, or skipped."""
        todo = list(self.script[what])
        failures = 0
        while True:
            if not todo and what == self.hopeless:
                if what not in ("capture", "ship", "un-reserve", "un-authorize"):
                    todo = ["error"] * 3
                else:
                    self.stuck = what
                    return "failed" if what == "capture" else "skipped"
            doing = todo.pop(0) if todo else "ok"
            self.log.append(what)
            self.wanted = self.wanted or what == self.cancelled
            if doing == "lost" and what in OUTSIDE and not what.startswith("un-"):
                self.there.add(what)
            if doing == "lost" and what == "un-authorize":
                self.there.discard("authorize")
            if doing == "ok":
                return "done"
            failures += 1
            if may_go_back:
                if doing == "refused":
                    return "failed"
                if what == "capture":
                    continue  # nobody knows whether it has happened
                if failures == SOON.attempts or doing == "give up" or self.wanted:
                    return "unknown" if what in OUTSIDE else "failed"


def honest(doings: list[str]) -> list[str]:
    """Who has done it does not say afterwards that it has been refused."""
    done = doings.index("lost") if "lost" in doings else len(doings)
    return doings[:done] + ["error" if one == "refused" else one for one in doings[done:]]


# Mostly well before the pivot, or hardly any saga would get there.
doings = st.lists(
    st.sampled_from(["error", "lost", "error", "lost", "ok", "refused", "give up"]), max_size=5
).map(honest)
early = st.one_of(st.just([]), st.just([]), st.just(["error"]), doings)
scripts = st.fixed_dictionaries(
    {"reserve": early, "authorize": early}
    | {what: doings for what in ("capture", "ship", "un-reserve", "un-authorize")}  # noqa: C420
)
hopeless = st.sampled_from([None, None, "ship", "capture", "un-reserve", "un-authorize"])
cancelled = st.sampled_from([None, None, "authorize", "capture"])


class CancellingShop(Shop):
    """A user cancels in the middle of a call."""

    cancelled: str | None = None
    db: Database

    async def outside(self, what: str, call: Any) -> str:
        if what == self.cancelled:
            self.cancelled = None
            await cancel(self.db, call.saga, because="by a user")
        return await super().outside(what, call)


def test_any_sequence_of_failures(empty: URL) -> None:
    """Steps, order, effects and end are those of a model, and a saga that cannot end is stuck with a reason."""
    seen: set[tuple[str, bool]] = set()
    patient = 0
    with asyncio.Runner() as runner:
        db = Database(empty, pool_size=6)
        runner.run(prepare(db))
        shop = CancellingShop(empty)
        shop.db = db
        messages = Messages(db)
        place_order = declare(messages, shop, timeout=30)
        worker = messages.worker()
        runner.run(worker.__aenter__())

        async def one(model: Model) -> None:
            nonlocal patient
            end = model.run()
            shop.log.clear()
            shop.script = {
                what: list(doing) + ["error"] * (5000 if what == model.hopeless else 0)
                for what, doing in model.script.items()
            }
            shop.cancelled = model.cancelled
            id = await start(db, place_order()) or 0
            if model.stuck is not None:
                hopeless = shop.script[model.stuck]

                async def scripted_are_over() -> bool:
                    return len(hopeless) < 5000

                await until(scripted_are_over)
                assert f"step {model.stuck.removeprefix('un-')} has failed" in await until_stuck(db, id)
                if model.stuck == "capture":
                    await compensate(db, id, because="it never came")
                else:
                    await skip(db, id, because="done by hand", data={"payment": f"authorize of {id}"})
            assert await until_ended(db, id) == [end]
            if model.stuck is None:
                assert shop.log == model.log
            assert shop.there(id) == model.there - ({"capture"} if model.stuck == "capture" else set())
            found = await show(db, id)
            assert end == "completed" or found["error"]
            assert shop.sql("SELECT count(*) FROM mainstay.message") == [(0,)]
            seen.add((end, model.stuck is not None))
            patient += end == "completed" and model.log.count("capture") > SOON.attempts

        @settings(
            max_examples=60,
            deadline=None,
            derandomize=True,
            suppress_health_check=[HealthCheck.too_slow],
        )
        @given(scripts, hopeless, cancelled)
        def law(script: dict[str, list[str]], hopeless: str | None, cancelled: str | None) -> None:
            if hopeless == "capture":  # a person vouches that it did not happen, so it had better not
                script["capture"] = ["error" for _ in script["capture"]]
            runner.run(one(Model(script, hopeless, cancelled)))

        try:
            law()
        finally:
            runner.run(worker.__aexit__(None, None, None))
            runner.run(db.close())
            shop.close()
    assert len(seen) == 4, "both ends, with and without help"
    assert patient, "a pivot whose outcome stayed unknown for longer than its attempts"
