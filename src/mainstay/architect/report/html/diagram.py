"""The sequence diagram of a witness: lanes for actors, database and outside world, time from top to bottom.

Transactions are bars on their actor's lane from BEGIN to COMMIT or ROLLBACK; an actor held by the laboratory or
waiting for a lock is hatched; every change of actor is a line across; marked events are red and carry a cross.
Repeated statements are folded, so that the diagram of a long run stays readable; the table of events is whole.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field

from markupsafe import Markup

from mainstay.architect.findings import Event, Witness
from mainstay.architect.report.html.statement import note, rows
from mainstay.architect.report.html.svg import element
from mainstay.architect.report.text import counted, line, short

MARGIN = 92
"""Room for the time, left of the first lane."""
NEAR, FAR = 280, 420
"""Least and most between two lanes."""
FITS = 1090
"""Width of a card: lanes spread to fill it."""
EDGE = 84
"""From the margin to the first lane, and from the last lane to the right border."""
CHARACTER = 7.3
"""Width of a character of the labels."""
HEAD = 46
ARROW, ROW, NOTE, SWITCH = 48, 14, 32, 26
"""Heights: of an arrow, of a second row above it, of a note, of a switch."""
MOST_ROWS = 160

DATABASE = "database"
OUTSIDE = "outside world"


@dataclass(slots=True)
class _Canvas:
    lanes: dict[str, float]
    width: float
    gap: float
    y: float = HEAD
    ground: list[Markup] = field(default_factory=list)
    behind: list[Markup] = field(default_factory=list)
    front: list[Markup] = field(default_factory=list)
    bars: dict[tuple[str, int], tuple[float, float, str]] = field(default_factory=dict)
    """For each open transaction: where it began, when, and its state."""
    held: dict[tuple[str, str], float] = field(default_factory=dict)


def diagram(witness: Witness, name: str) -> Markup:
    """The diagram as one ``<svg>``; `name` is the prefix of its ids. Empty where the witness has no events."""
    if not witness.events:
        return Markup("")
    lanes = _lanes(witness)
    gaps = len(lanes) - 1
    gap = min(max((FITS - MARGIN - 2 * EDGE) / max(gaps, 1), NEAR), FAR)
    places = {lane: MARGIN + EDGE + index * gap for index, lane in enumerate(lanes)}
    canvas = _Canvas(places, MARGIN + 2 * EDGE + max(gaps, 1) * gap, gap)
    rows = _folded(witness.events)
    previous = ""
    for row in rows:
        if isinstance(row, str):
            _fold(canvas, row)
            continue
        number, event = row
        if previous and event.actor != previous:
            _switch(canvas, event.actor)
        previous = event.actor
        _event(canvas, event, f"{name}-{number}")
    for actor, connection in list(canvas.bars):
        _end_bar(canvas, actor, connection, canvas.y, witness.events[-1].milliseconds)
    for actor, kind in list(canvas.held):
        _end_held(canvas, actor, kind, canvas.y)
    height = canvas.y + 14
    tall = len(rows) > 24
    heads = [_head(lane, x, 4) for lane, x in places.items()]
    if tall:
        heads += [_head(lane, x, height) for lane, x in places.items()]
    lines = [
        element("line", x1=x, y1=32, x2=x, y2=height, class_=f"lane {_sort(lane)}")
        for lane, x in places.items()
    ]
    total = height + (38 if tall else 6)
    said = f"Sequence diagram of {counted(len(witness.events), 'event')}: " + ", ".join(lanes)
    return element(
        "svg",
        *canvas.ground,
        *lines,
        *canvas.behind,
        *heads,
        *canvas.front,
        viewBox=f"0 0 {canvas.width:.0f} {total:.0f}",
        width=canvas.width,
        height=total,
        class_="sequence",
        role="group",
        aria_label=line(said),
    )


def _lanes(witness: Witness) -> list[str]:
    """Actors in order of appearance; the database between them, the outside world at the right."""
    actors = list(dict.fromkeys(event.actor for event in witness.events))
    kinds = {event.kind for event in witness.events}
    outside = [OUTSIDE] if "outside" in kinds else []
    database = [DATABASE] if kinds & {"statement", "blocked"} else []
    if len(actors) == 1 and outside:
        return [*database, *actors, *outside]  # no arrow crosses a lane
    return [*actors[:1], *database, *actors[1:], *outside]


def _sort(lane: str) -> str:
    return {DATABASE: "of-database", OUTSIDE: "of-outside"}.get(lane, "of-actor")


def _folded(events: list[Event]) -> list[tuple[int, Event] | str]:
    """Events with their numbers from 1; of four or more equal groups in a row, two stay and a sentence follows."""
    rows: list[tuple[int, Event] | str] = []
    index = 0
    keys = [(event.actor, event.kind, event.text, event.transaction) for event in events]
    while index < len(events):
        size, times = _repeats(keys, index)
        if times >= 4:
            rows += [(index + k + 1, events[index + k]) for k in range(2 * size)]
            what = "of the same" if size == 1 else f"rounds of the same {size} events"
            rows.append(f"{times - 2} more {what}")
            index += size * times
        else:
            rows.append((index + 1, events[index]))
            index += 1
    if len(rows) > MOST_ROWS:
        half = MOST_ROWS // 2
        rows[half:-half] = [f"{len(rows) - 2 * half} rows left out here; the table of events has them"]
    return rows


def _repeats(keys: list[tuple[str, str, str, str]], start: int) -> tuple[int, int]:
    """The smallest group (of up to 4 events) that repeats at `start`, and how often it stands there in a row."""
    for size in range(1, 5):
        group = keys[start : start + size]
        times = 1
        while keys[start + times * size : start + (times + 1) * size] == group:
            times += 1
        if times >= 4:
            return size, times
    return 1, 1


# ------------------------------------------------------------------------------------------- rows


def _event(canvas: _Canvas, event: Event, name: str) -> None:
    arrow = event.kind in ("statement", "outside")
    room = canvas.gap - 30
    label = rows(event, int(room / CHARACTER)) if arrow else []
    more = ROW * (len(label) - 1) if arrow else 0
    height = ARROW + more if arrow else NOTE
    top, middle = canvas.y, canvas.y + (26 + more if arrow else 17)
    canvas.y += height
    parts: list[Markup] = [element("title", _whole(event))]
    parts.append(
        element("rect", x=2, y=top + 1, width=canvas.width - 4, height=height - 2, rx=4, class_="row")
    )
    parts.append(element("text", f"{event.milliseconds:.1f} ms", x=MARGIN - 8, y=middle + 4, class_="time"))
    if event.marked:
        canvas.ground.append(
            element("rect", x=2, y=top + 1, width=canvas.width - 4, height=height - 2, rx=4, class_="wrong")
        )
        parts.append(_cross(12, middle))
    parts += _arrow(canvas, event, middle, label, room) if arrow else _note(canvas, event, middle)
    _transactions(canvas, event, middle)
    if event.kind in ("pause", "blocked"):
        canvas.held[event.actor, event.kind] = middle
    elif event.kind in ("resume", "unblocked"):
        _end_held(canvas, event.actor, "pause" if event.kind == "resume" else "blocked", middle)
    kind = f"event is-{event.kind}" + (" marked" if event.marked else "")
    canvas.front.append(element("g", *parts, class_=kind, id=name, role="img", aria_label=_whole(event)))


def _arrow(canvas: _Canvas, event: Event, y: float, label: list[str], room: float) -> list[Markup]:
    start = canvas.lanes[event.actor]
    end = canvas.lanes[OUTSIDE if event.kind == "outside" else DATABASE]
    way = 1 if end > start else -1
    left = start + 14 if way > 0 else start - room - 16  # beside the actor's lane, however far the arrow goes
    tip = end - way * 2
    parts = [
        element("line", x1=start + way * 6, y1=y, x2=tip - way * 6, y2=y, class_="arrow"),
        element(
            "polygon",
            points=f"{tip:.0f},{y:.0f} {tip - way * 9:.0f},{y - 4:.0f} {tip - way * 9:.0f},{y + 4:.0f}",
            class_="tip",
        ),
    ]
    for index, row in enumerate(reversed(label)):
        parts.append(element("text", row, x=left, y=y - 7 - ROW * index, class_="label"))
    if said := _said(event):
        parts.append(element("text", short(said, int(room / 6.7)), x=left, y=y + 14, class_="said"))
    return parts


def _said(event: Event) -> str:
    """What came back: rows, first row, status or SQLSTATE."""
    said = []
    if event.rows is not None and event.effect not in ("begin", "commit", "rollback"):
        said.append(counted(event.rows, "row"))
    if event.result:
        word = {"outside": "answers "}.get(event.kind, "fails with " if _failed(event) else "")
        said.append(word + event.result)
    return " · ".join(said)


def _failed(event: Event) -> bool:
    return (
        event.kind == "statement"
        and event.rows is None
        and re.match(r"[0-9A-Z]{5}(?!\S)", event.result) is not None
    )


def _note(canvas: _Canvas, event: Event, y: float) -> list[Markup]:
    x = canvas.lanes[event.actor]
    last = x == max(canvas.lanes.values()) and len(canvas.lanes) > 1
    way = -1 if last else 1
    room = int((canvas.gap - 34) / CHARACTER)
    shape = {
        "request": element("circle", cx=x, cy=y, r=5, class_="start"),
        "reply": element("circle", cx=x, cy=y, r=5, class_="end"),
        "pause": element(
            "g", _rect(x - 5, y - 6, 3.5, 12), _rect(x + 1.5, y - 6, 3.5, 12), class_="held-sign"
        ),
        "resume": element(
            "polygon",
            points=f"{x - 4:.0f},{y - 6:.0f} {x - 4:.0f},{y + 6:.0f} {x + 6:.0f},{y:.0f}",
            class_="held-sign",
        ),
    }.get(event.kind, element("rect", x=x - 6, y=y - 6, width=12, height=12, rx=2, class_="wait-sign"))
    anchor = "end" if last else "start"
    label = element("text", short(note(event), room), x=x + way * 15, y=y + 4, class_=f"label {anchor}")
    return [shape, label]


def _rect(x: float, y: float, width: float, height: float) -> Markup:
    return element("rect", x=x, y=y, width=width, height=height)


def _transactions(canvas: _Canvas, event: Event, y: float) -> None:
    if not event.transaction:
        return
    key = (event.actor, event.connection)
    bar = canvas.bars.get(key)
    if event.transaction == "idle":
        if bar:
            _end_bar(canvas, *key, y, event.milliseconds)
    elif bar is None and event.kind == "statement":
        canvas.bars[key] = (y, event.milliseconds, event.transaction)
    elif (
        bar is not None and bar[2] != event.transaction
    ):  # open, then failed: the rest of it is drawn as failed
        _end_bar(canvas, *key, y, event.milliseconds)
        canvas.bars[key] = (y, bar[1], event.transaction)


def _end_bar(canvas: _Canvas, actor: str, connection: int, y: float, until: float) -> None:
    top, since, state = canvas.bars.pop((actor, connection))
    x = canvas.lanes[actor] - 5 + 4 * max(connection - 1, 0)
    title = element("title", f"{actor}: transaction {state} for {until - since:.1f} ms")
    canvas.behind.append(
        element(
            "g", title, element("rect", x=x, y=top, width=10, height=y - top, rx=2), class_=f"bar {state}"
        )
    )


def _end_held(canvas: _Canvas, actor: str, kind: str, y: float) -> None:
    top = canvas.held.pop((actor, kind), None)
    if top is None:
        return
    x = canvas.lanes[actor]
    word = "held by the laboratory" if kind == "pause" else "waits for a lock"
    canvas.behind.append(
        element(
            "g",
            element("title", f"{actor} {word}"),
            element("rect", x=x - 11, y=top, width=22, height=y - top, rx=3, class_="ground"),
            element("rect", x=x - 11, y=top, width=22, height=y - top, rx=3, class_="hatch"),
            class_=f"period {kind}",
        )
    )


def _switch(canvas: _Canvas, actor: str) -> None:
    y = canvas.y + SWITCH / 2
    canvas.y += SWITCH
    text = short(f"switch to {actor}", 26)
    canvas.behind.append(
        element(
            "g",
            element("line", x1=4, y1=y, x2=canvas.width - 4, y2=y),
            element("rect", x=4, y=y - 9, width=len(text) * 6.4 + 14, height=18, rx=9),
            element("text", text, x=11, y=y + 4),
            class_="switch",
        )
    )


def _fold(canvas: _Canvas, text: str) -> None:
    y = canvas.y + 16
    canvas.y += NOTE
    x = (min(canvas.lanes.values()) + max(canvas.lanes.values())) / 2
    canvas.front.append(element("text", f"⋯ {text} ⋯", x=x, y=y + 4, class_="fold"))


def _head(lane: str, x: float, y: float) -> Markup:
    box = element("rect", x=x - 70, y=y, width=140, height=28, rx=5)
    return element("g", box, element("text", short(lane, 20), x=x, y=y + 18), class_=f"head {_sort(lane)}")


def _cross(x: float, y: float) -> Markup:
    path = f"M{x - 4:.0f} {y - 4:.0f}l8 8m0 -8l-8 8"
    return element("path", d=path, class_="cross")


def _whole(event: Event) -> str:
    """Everything that is known of an event, as a sentence or two."""
    words = defaultdict(
        lambda: event.kind, outside="calls", statement="runs", pause="is held", resume="goes on"
    )
    said = f"{event.milliseconds:.1f} ms, {event.actor} {words[event.kind]}: {line(event.text)}"
    if event.parameters:
        said += "; parameters " + ", ".join(
            "null" if item is None else line(item) for item in event.parameters
        )
    if came := _said(event):
        said += f"; {came}"
    if event.transaction:
        said += f"; transaction {event.transaction}"
    if event.location is not None:
        said += f"; {event.location.file}:{event.location.line}"
    return said + ("; this is where it went wrong" if event.marked else "")
