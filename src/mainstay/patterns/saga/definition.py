"""What a saga's class comes to: its name, its plan, its keys. Mistakes are told here, as the code is loaded."""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mainstay.patterns.errors import Misuse
from mainstay.patterns.saga.step import START, Place, Step

if TYPE_CHECKING:
    from mainstay.patterns.saga.saga import Saga


@dataclass(frozen=True)
class Definition:
    """A class of sagas, as `Messages.saga` declares it; see there."""

    cls: type[Saga]
    name: str
    queue: str
    key: str | None
    lock: str | None
    timeout: float | None
    keep: float
    steps: tuple[Step[Any, Any], ...]

    @cached_property
    def plan(self) -> Mapping[str, Any]:
        """The steps as they are stored with each saga."""
        return {
            "names": [one.name for one in self.steps],
            "states": ["done" if one.name == START else "pending" for one in self.steps],
            "first": next(one.name for one in self.steps if one.name != START),
            "pivots": [number == self.pivot for number in range(len(self.steps))],
            "patiences": [one.work.retry.attempts for one in self.steps],
            "undo_patiences": [one.undoing and one.undoing.retry.attempts for one in self.steps],
        }

    @property
    def pivot(self) -> int | None:
        """Which step is the pivot: the one that says so, else the last one if it has no undo."""
        return _pivot(self.steps)


def define(
    cls: type[Saga],
    *,
    name: str | None,
    queue: str,
    key: str | None,
    lock: str | None,
    timeout: float | None,
    keep: float,
) -> Definition:
    """Look a class through.

    Raises:
        Misuse: with what is wrong about it.
    """
    from mainstay.patterns.saga.saga import Saga

    steps = {
        attribute: found
        for base in reversed(cls.__mro__)
        for attribute, found in vars(base).items()
        if isinstance(found, Step)
    }
    title = name or cls.__name__
    if all(one.place == "start" for one in steps.values()):
        raise Misuse(f"saga {title} has no steps: mark its methods with @step")
    if "/" in title or not title:
        raise Misuse(f"the name of a saga is not empty and has no slash: {title!r}")
    for attribute, one in steps.items():
        called = one.__wrapped__.__name__ if one.place == "start" else one.name
        if attribute != called:
            raise Misuse(f"saga {title}: step {called} is known as {attribute} too; give it one name")
        if hasattr(Saga, attribute):
            raise Misuse(
                f"saga {title}: a step cannot be called {attribute}, as a part of Saga itself is; give it another name"
            )
    for place, hook in (("start", "on_compensated"), ("end", "on_completed")):
        twice = [attribute for attribute, one in steps.items() if one.place == place]
        if len(twice) > 1:
            raise Misuse(
                f"saga {title} has two methods with @{hook}, {' and '.join(twice)}, and can have one"
            )
    for what, template in (("key", key), ("lock", lock)):
        for _, field, _, _ in string.Formatter().parse(template or ""):
            if field is not None and field.partition(".")[0].partition("[")[0] not in cls.model_fields:
                raise Misuse(f"saga {title}: {what}={template!r} names {field!r}, which is no field of it")
    if timeout is not None and not 0 < timeout < 100 * 366 * 86400:
        raise Misuse(f"saga {title}: timeout is a positive number of seconds, not {timeout}")
    if not 0 <= keep < 100 * 366 * 86400:
        raise Misuse(f"saga {title}: keep is a number of seconds from 0 to a hundred years, not {keep}")
    places: tuple[Place, ...] = ("start", "in order", "end")
    ordered = tuple(sorted(steps.values(), key=lambda one: places.index(one.place)))
    _check_way_back(title, ordered)
    return Definition(cls, title, queue, key, lock, timeout, keep, ordered)


def _pivot(steps: tuple[Step[Any, Any], ...]) -> int | None:
    said = [number for number, one in enumerate(steps) if one.pivot]
    if said:
        return said[0]
    last = len(steps) - 1
    if steps[last].place == "end" and last > 0 and steps[last - 1].undoing is None:
        last -= 1
    return last if steps[last].undoing is None else None


def _check_way_back(title: str, steps: tuple[Step[Any, Any], ...]) -> None:
    pivots = [one for one in steps if one.pivot]
    if len(pivots) > 1:
        raise Misuse(f"saga {title} has two pivots, {pivots[0].name} and {pivots[1].name}, and can have one")
    pivot = _pivot(steps)
    place = len(steps) - 1 if pivot is None else pivot
    for one in steps[:place]:
        if one.undoing is None and not one.no_undo:
            raise Misuse(
                f"saga {title}: step {one.name} has no undo; declare one with @{one.name}.undo, or say"
                " @step(no_undo=True) if it leaves nothing behind"
            )
    for one in steps:
        if one.undoing is not None and one.place == "end":
            raise Misuse(
                f"saga {title}: {one.name} is called when all is done, with no way back from there; drop its undo"
            )
        if one.undoing is not None and one.no_undo:
            raise Misuse(f"saga {title}: step {one.name} says no_undo and has one")
        if one.undoing is not None and pivots and steps.index(one) >= place:
            raise Misuse(
                f"saga {title}: the undo of {one.name} would never be called, since there is no way back from the"
                f" pivot {pivots[0].name} on"
            )
