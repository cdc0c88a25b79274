"""The growth chart of a witness: how often a statement ran against how many rows there were."""

from __future__ import annotations

from markupsafe import Markup

from mainstay.architect.findings import Measurement
from mainstay.architect.report.html.svg import element

WIDTH, HEIGHT = 300, 200
LEFT, RIGHT, TOP, BOTTOM = 52, 24, 26, 46


def chart(measurements: list[Measurement]) -> Markup:
    """Points with their values, joined by a line, over axes that begin at zero. Empty for no measurements."""
    if not measurements:
        return Markup("")
    points = sorted(measurements, key=lambda point: point.rows)
    most_rows = max(point.rows for point in points) or 1
    most_count = max(point.count for point in points) or 1

    def x(rows: float) -> float:
        return LEFT + rows / most_rows * (WIDTH - LEFT - RIGHT)

    def y(count: float) -> float:
        return HEIGHT - BOTTOM - count / most_count * (HEIGHT - TOP - BOTTOM)

    parts = [
        element("line", x1=LEFT, y1=y(0), x2=WIDTH - RIGHT, y2=y(0), class_="axis"),
        element("line", x1=LEFT, y1=TOP, x2=LEFT, y2=y(0), class_="axis"),
        element("text", "rows", x=WIDTH - RIGHT, y=HEIGHT - 6, class_="name end"),
        element("text", "times the statement ran", x=8, y=14, class_="name"),
    ]
    previous = None
    for point in points:  # ticks only where they do not overlap
        if previous is None or x(point.rows) - previous > 26:
            previous = x(point.rows)
            parts.append(element("text", str(point.rows), x=previous, y=y(0) + 17, class_="tick"))
    level = None
    for count in sorted({point.count for point in points}, reverse=True):
        if level is None or y(count) - level > 18:
            level = y(count)
            parts.append(element("line", x1=LEFT, y1=level, x2=WIDTH - RIGHT, y2=level, class_="grid"))
            parts.append(element("text", str(count), x=LEFT - 8, y=level + 4, class_="tick end"))
    line = " ".join(f"{x(point.rows):.1f},{y(point.count):.1f}" for point in points)
    parts.append(element("polyline", points=line, class_="curve"))
    for point in points:
        said = f"{point.rows} rows: ran {point.count} times"
        parts.append(
            element(
                "circle", element("title", said), cx=x(point.rows), cy=y(point.count), r=4.5, class_="point"
            )
        )
    said = "; ".join(f"{point.rows} rows, {point.count} times" for point in points)
    return element(
        "svg",
        *parts,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        width=WIDTH,
        height=HEIGHT,
        class_="growth",
        role="img",
        aria_label=f"How often the statement ran as rows grew: {said}",
    )
