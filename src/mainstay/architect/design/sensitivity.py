"""Which numbers matter most: each figure that went into a risk is turned by a tenth, and the risks are computed anew.

An availability is turned by a tenth of what it lacks (99.9 % becomes 99.91 % and 99.89 %), everything else by a tenth
of itself. What counts first is how many risks that flips: they go or appear. Then it counts how far the others' margins
move, as the sum over risks of the relative change of computed over needed (of availabilities, of what they lack).
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

from mainstay.architect.design.figures import Figure, show
from mainstay.architect.design.risks import Risk, Study, assess
from mainstay.architect.design.study import Result
from mainstay.architect.design.system import System, turned

STEP = 0.1
SECONDS = 10.0
"""After which no further figure is turned; those that most risks rest on come first."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one figure does."""

    figure: Figure
    gone: tuple[str, ...]
    """Risks that go when it is turned one way, by id."""
    appear: tuple[str, ...]
    """Risks that appear when it is turned the other way."""
    moved: int
    """Other risks whose margin moves."""
    weight: float
    """Sum of the relative changes of their margins, the larger of both ways."""
    better: str
    """The value at which risks go, or margins get better: ``1.1s``."""

    @property
    def flips(self) -> int:
        """How many risks go or appear."""
        return len(self.gone) + len(self.appear)


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """All turns, those that matter most first."""

    turns: list[Turn]
    left: int
    """How many figures were not turned for want of time."""


def sensitivity(result: Result, seconds: float = SECONDS) -> Sensitivity:
    """Turn every figure that went into a risk.

    Args:
        result: the design.
        seconds: how long at most.
    """
    began = time.monotonic()
    before = {risk.id: risk for risk in result.risks}
    counts = Counter(figure.key for risk in result.risks for figure in risk.inputs)
    figures = {figure.key: figure for risk in result.risks for figure in risk.inputs if figure.value}
    turns, left = [], 0
    for key, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if key not in figures:
            continue
        if time.monotonic() - began > seconds:
            left += 1
            continue
        up, down = _assess(result, key, 1 + STEP), _assess(result, key, 1 - STEP)
        turn = _turn(figures[key], before, up, down)
        if turn.flips or turn.weight > 1e-9:
            turns.append(turn)
    turns.sort(key=lambda turn: (-turn.flips, -round(turn.weight, 9), turn.figure.key))
    return Sensitivity(turns, left)


def _assess(result: Result, key: str, factor: float) -> dict[str, Risk]:
    old = result.study
    system = System(old.system.source, old.system.blueprint)
    system.turned[key] = factor
    study = Study(system)
    study.today = old.today
    return {risk.id: risk for risk in assess(study, result.chosen)}


def _turn(figure: Figure, before: dict[str, Risk], up: dict[str, Risk], down: dict[str, Risk]) -> Turn:
    weights = [_weight(before, after) for after in (up, down)]
    ups = (len(before.keys() - up.keys()) - len(up.keys() - before.keys()), -_pressure(before, up))
    downs = (len(before.keys() - down.keys()) - len(down.keys() - before.keys()), -_pressure(before, down))
    factor = 1 + STEP if ups >= downs else 1 - STEP
    gone = (before.keys() - up.keys()) | (before.keys() - down.keys())
    appear = (up.keys() - before.keys()) | (down.keys() - before.keys())
    moved = {
        id
        for after in (up, down)
        for id in before.keys() & after.keys()
        if abs(margin(before[id]) - margin(after[id])) > 1e-12
    }
    better = show(turned(figure, factor), figure.unit)
    return Turn(figure, tuple(sorted(gone)), tuple(sorted(appear)), len(moved - gone), max(weights), better)


def margin(risk: Risk) -> float:
    """Computed over needed; of an availability, what it lacks over what it may lack."""
    value, need = risk.value, risk.need
    if value is not None and need is not None and 0.5 < value < need < 1:
        return (1 - value) / (1 - need)
    return risk.margin


def _weight(before: dict[str, Risk], after: dict[str, Risk]) -> float:
    return sum(
        abs(margin(after[id]) / margin(risk) - 1)
        for id, risk in before.items()
        if id in after and margin(risk)
    )


def _pressure(before: dict[str, Risk], after: dict[str, Risk]) -> float:
    """How far from their needs the risks are, all together, less how far they were."""
    return sum(
        abs(margin(after[id]) - 1) - abs(margin(risk) - 1)
        for id, risk in before.items()
        if id in after and margin(risk)
    )
