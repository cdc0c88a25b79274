"""Small random blueprints, as plain values: calls that run down a few services, with all that a call may say."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from mainstay.architect.design.reading import Source
from mainstay.architect.design.risks import Study
from mainstay.architect.design.system import System

SERVICES, DEPENDENCIES = 4, 3


@st.composite
def blueprints(draw: st.DrawFn, plain: bool = False) -> dict[str, Any]:
    """Services a, b, c, d with two operations each; each calls only what comes later, so that no ring is made.

    Args:
        draw: of hypothesis.
        plain: without caches, fallbacks and shares.
    """
    deps = {
        f"dep{at}": {
            "availability": f"{draw(st.integers(70, 99))}%",
            "p99": f"{draw(st.integers(20, 400))}ms",
            "timeout": "3s",
        }
        for at in range(DEPENDENCIES)
    }
    names = "abcd"[:SERVICES]
    services: dict[str, Any] = {}
    for at, service in enumerate(names):
        below = [f"{other}.{op}" for other in names[at + 1 :] for op in ("one", "two")] + list(deps)
        does: dict[str, Any] = {}
        for op in ("one", "two"):
            made: dict[str, Any] = {"timeout": "20s", "work": f"{draw(st.integers(5, 60))}ms"}
            if service == "a":
                made |= {"by": "user", "load": "5/s peak 20/s", "gives": "text"}
            many = draw(st.integers(0, 3 if service == "a" else 2))
            calls: list[Any] = [_call(draw, below, plain) for _ in range(many)]
            if len(calls) > 1 and draw(st.booleans()):
                calls = [calls[:2], *calls[2:]]
            if calls:
                made["calls"] = calls
            if not plain and service != "a" and draw(st.integers(0, 3)) == 0:
                made["cache"] = draw(st.sampled_from(["30s hit 50%", "10m hit 80%", "1m hit 60% stale 1h"]))
            does[op] = made
        services[service] = {
            "availability": f"{draw(st.integers(80, 99))}%",
            "copies": str(draw(st.integers(1, 2))),
            "pool": str(draw(st.integers(1, 4))),
            "does": does,
        }
    return {
        "blueprint": "random",
        "needs": {"availability": "99.9%", "p99": "100ms"},
        "actors": {"user": {"auth": "oidc"}},
        "depends": deps,
        "services": services,
    }


def _call(draw: st.DrawFn, below: list[str], plain: bool) -> str:
    parts = [draw(st.sampled_from(below))]
    if plain:
        return parts[0]
    if draw(st.integers(0, 4)) == 0:
        parts.append(f"x{draw(st.integers(2, 3))}")
    if draw(st.integers(0, 3)) == 0:
        parts.append(f"{draw(st.integers(10, 90))}%")
    if draw(st.integers(0, 3)) == 0:
        parts.append("retry 1")
    match draw(st.integers(0, 5)):
        case 0:
            parts.append("else nothing")
        case 1:
            parts.append(f"else {draw(st.sampled_from(below))}")
    return " ".join(parts)


def study_of(value: dict[str, Any]) -> Study:
    """The study of plain values."""
    return Study(System(Source("random.yaml", value)))
