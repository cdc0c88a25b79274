"""What if: one or more values of the blueprint are others, and which risks appear, vanish or move."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from mainstay.architect.design.blueprint import Blueprint
from mainstay.architect.design.figures import COUNT, show
from mainstay.architect.design.reading import SECTIONS, Source, plain, way
from mainstay.architect.design.risks import Risk
from mainstay.architect.design.study import Result, study_source
from mainstay.architect.document import Document, Where, known_keys
from mainstay.architect.errors import MainstayError
from mainstay.architect.nearest import nearest


@dataclass(frozen=True, slots=True)
class Moved:
    """One risk before and after."""

    id: str
    how: str
    """``gone``, ``appears``, ``better`` or ``worse``, else ``moved``."""
    before: str
    after: str
    need: str


def parse(given: str) -> tuple[str, str]:
    """Key and value of ``orders.place_order.timeout=400ms``. Raises `MainstayError` where there is no ``=``."""
    key, found, value = given.partition("=")
    if not found or not key.strip() or not value.strip():
        raise MainstayError(
            f"--what-if takes KEY=VALUE, such as orders.place_order.timeout=400ms, not {given!r}"
        )
    return key.strip(), value.strip()


def changed(source: Source, changes: Sequence[str]) -> Source:
    """The blueprint with other values.

    Args:
        source: as it was read.
        changes: ``KEY=VALUE``; the value is written as in the file.

    Raises:
        MainstayError: there is no such key; the nearest one is said.
    """
    for given in changes:
        key, text = parse(given)
        where = resolve(source, key)
        source = source.changed(where, _value(source, where, key, text))
    return source


def study(
    source: Source, changes: Sequence[str], today: date | None = None, chosen: Sequence[str] = ()
) -> Result:
    """The changed design. Raises `MainstayError`, which names the change where its value is the reason."""
    other = changed(source, changes)
    try:
        return study_source(other, today, chosen)
    except MainstayError as error:
        said = re.sub(r"^\S+?:\d+:\d+: ", "", str(error))
        asked = " ".join(" and ".join(changes).split())  # on one line, whatever was given
        raise MainstayError(f"--what-if {asked}: {' '.join(said.split())}") from None


def compare(before: Iterable[Risk], after: Iterable[Risk]) -> list[Moved]:
    """Every risk that is not as it was, what goes first and what comes last."""
    old, new = {risk.id: risk for risk in before}, {risk.id: risk for risk in after}
    moved = []
    for id in sorted({*old, *new}):
        was, now = old.get(id), new.get(id)
        if was is not None and now is not None:
            if was.value == now.value and was.need == now.need:
                continue
            moved.append(Moved(id, _direction(was, now), number(was), number(now), needed(now)))
        elif was is not None:
            moved.append(Moved(id, "gone", number(was), "", needed(was)))
        elif now is not None:
            moved.append(Moved(id, "appears", "", number(now), needed(now)))
    order = ("gone", "better", "moved", "worse", "appears")
    return sorted(moved, key=lambda one: (order.index(one.how), one.id))


def number(risk: Risk) -> str:
    """What was computed, as people write it; empty where it is no number."""
    return "" if risk.value is None else show(risk.value, unit(risk))


def needed(risk: Risk) -> str:
    """What it is held against; empty where that is no number."""
    return "" if risk.need is None else show(risk.need, unit(risk))


def unit(risk: Risk) -> str:
    """Of what was computed: that of the figure it is held against."""
    return next((figure.unit for figure in risk.inputs if figure.value == risk.need), COUNT)


def _direction(was: Risk, now: Risk) -> str:
    """Further from what is needed is worse; whichever side of it is wrong."""
    if None in (was.value, now.value, was.need, now.need) or not was.need or not now.need:
        return "moved"
    assert was.value is not None and now.value is not None
    before, after = abs(was.value / was.need - 1), abs(now.value / now.need - 1)
    return "moved" if before == after else "better" if after < before else "worse"


# ------------------------------------------------------------------------------------------- keys


def resolve(source: Source, key: str) -> Where:
    """The way to what a dotted key names, step by step.

    Raises:
        MainstayError: a step is not there; the nearest name at that step is said.
    """
    written, keys = key.partition(" ")[0], source.value
    where = way(keys, written)
    for end in range(1, len(where)):
        known = _names(source, where[:end])
        step = where[end]
        if known is not None and str(step) not in known:
            place = ".".join(str(part) for part in where[:end] if part not in ("services", "does", *SECTIONS))
            raise MainstayError(
                f"--what-if {key}: {place or 'the blueprint'} has no {str(step)!r}{nearest(str(step), known)}"
            )
    return where


def _names(source: Source, where: Where) -> list[str] | None:
    """What may follow on the way; None for what is inside one value."""
    value = _at(source, where)
    if isinstance(value, list):
        return [str(at) for at in range(len(value))]
    named = [str(name) for name in value] if isinstance(value, dict) else []
    if where in [(section,) for section in SECTIONS] or where[2:] in (("does",), ("owns",)):
        return named
    if where[0] == "services" and len(where) == 2:
        named += [str(name) for name in _at(source, (*where, "does")) or ()]
    return [*known_keys(Blueprint, where), *named] or None


def _at(source: Source, where: Where) -> Any:
    """What stands in one place; None where nothing does."""
    value: Any = source.value
    for step in where:
        value = value.get(step) if isinstance(value, dict) else None
    return value


def _value(source: Source, where: Where, key: str, text: str) -> Any:
    """A value as it would stand in the file: a list or a mapping in flow style, else a scalar."""
    if key.endswith(" peak"):  # as a risk names it: the second figure of a load
        usual = str(_at(source, where) or "").partition(" peak ")[0] or "1/s"
        return plain(f"{usual} peak {text}")
    if text[:1] in "[{":
        return Document.parse(text, f"--what-if {key}").value
    return plain(text)
