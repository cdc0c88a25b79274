"""Which way a saga goes: functions of where it stands and what has happened, which touch nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["waiting", "running", "finishing", "compensating", "completed", "compensated"]
StepState = Literal["pending", "begun", "done", "failed", "skipped", "undone", "left"]


@dataclass(slots=True)
class StepProgress:
    """A step of one saga. `begun`: a call outside was made or about to be, at some time."""

    position: int
    name: str
    state: StepState
    pivot: bool
    undoable: bool
    begun: bool = False

    @property
    def to_undo(self) -> bool:
        """Whether it has, or may have, an effect that would have to be undone."""
        there = self.state in ("begun", "done") or (self.state == "skipped" and self.begun)
        return self.undoable and there


@dataclass(slots=True)
class Progress:
    """Where one saga stands."""

    id: int
    kind: str
    key: str | None
    lock: str | None
    queue: str
    state: State
    step: str | None
    version: int
    data: str
    requested: str | None
    because: str | None
    remaining: float | None
    """Seconds until its deadline; None without one."""
    installation: str
    message: int | None
    """The number of the message of its step; None where that was called off or given up."""
    steps: list[StepProgress]

    @property
    def current(self) -> StepProgress:
        """The step that is being done or undone."""
        return next(one for one in self.steps if one.name == self.step)

    @property
    def can_go_back(self) -> bool:
        """Not after the pivot, and not while nobody knows whether the pivot has happened."""
        if self.state == "waiting":
            return True
        return self.state == "running" and not (self.current.pivot and self.current.state == "begun")

    def idempotency_key(self, step: StepProgress, *, undo: bool = False) -> str:
        """By position, since that is ASCII and never changes."""
        return f"{self.installation}-saga-{self.id}-{step.position}{'-undo' if undo else ''}"


@dataclass(frozen=True, slots=True)
class Move:
    """What changes: one step, and where the saga stands then.

    `settled`: what was requested has been done, or is pointless now.
    """

    state: State
    step: str | None
    changed: str | None = None
    outcome: StepState | None = None
    error: str | None = None
    settled: bool = False


def forward(progress: Progress, outcome: StepState = "done") -> Move:
    """The step at work is done (or skipped): on to the next one."""
    here = progress.current
    following = next(
        (one for one in progress.steps if one.position > here.position and one.state == "pending"), None
    )
    passed = progress.state == "finishing" or here.pivot
    state: State = "completed" if following is None else "finishing" if passed else "running"
    settled = state != "running" or progress.requested == "skip"
    return Move(state, None if following is None else following.name, here.name, outcome, settled=settled)


def back(progress: Progress, reason: str, outcome: StepState | None = None) -> Move:
    """Turn round. `outcome` tells what became of the step at work, where that is known."""
    changed = progress.step if outcome is not None else None
    undone = {changed} if outcome == "failed" else set()
    following = _to_undo(progress, undone)
    state: State = "compensated" if following is None else "compensating"
    return Move(state, following, changed, outcome, reason, settled=True)


def undone(progress: Progress, outcome: StepState = "undone") -> Move:
    """The step at work is undone (or left as it is): on to the one before."""
    following = _to_undo(progress, {progress.step})
    state: State = "compensated" if following is None else "compensating"
    return Move(state, following, progress.step, outcome, settled=True)


def _to_undo(progress: Progress, gone: set[str | None]) -> str | None:
    rest = [one for one in progress.steps if one.to_undo and one.name not in gone]
    return max(rest, key=lambda one: one.position).name if rest else None


def due(progress: Progress, failed: int, attempts: int, error: str | None, known: bool) -> Move | None:
    """What else is to happen than another attempt of the step at work.

    Args:
        failed: attempts that have failed.
        attempts: that it may have.
        error: of the last one.
        known: a failed attempt of this step has certainly left nothing (it was rolled back).
    """
    if progress.requested == "skip":
        return undone(progress, "left") if progress.state == "compensating" else forward(progress, "skipped")
    if progress.state != "running":
        return None
    here = progress.current
    outcome: StepState | None = "failed" if known and failed else None
    if progress.requested == "compensate":
        # Whoever asks for it vouches that the pivot has not happened.
        vouched: StepState | None = "failed" if here.pivot else outcome
        return back(progress, f"compensated by hand: {progress.because}", vouched)
    if not progress.can_go_back:
        return None
    if progress.requested == "cancel":
        return back(progress, f"cancelled: {progress.because}", outcome)
    if progress.remaining is not None and progress.remaining <= 0:
        return back(progress, _late(here.name, error), outcome)
    if failed >= attempts:
        last = error or f"its worker went away {failed} times"
        return back(progress, f"step {here.name} failed {failed} times: {last}", "failed" if known else None)
    return None


def _late(step: str, error: str | None) -> str:
    return f"the saga's time was up at step {step}" + (f": {error}" if error else "")
