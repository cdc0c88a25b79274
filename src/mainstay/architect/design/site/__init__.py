"""The site: everything that a design came to, as pages that open from disk and need no network and no script.

`write_site` gives the texts of all pages by their paths; ``package.py`` puts them into the folder. Diagrams are drawn
into the pages as SVG by `drawing.py` where a renderer is installed, else they stand there as Mermaid text. Every
number of a risk leads to its formula and its inputs, each input to its line in the blueprint, which is a page too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from markdown_it import MarkdownIt
from markupsafe import Markup, escape

from mainstay.architect.design.generated import Generated
from mainstay.architect.design.reading import Source
from mainstay.architect.design.risks import Risk
from mainstay.architect.design.site.drawing import unique
from mainstay.architect.design.study import Result
from mainstay.architect.findings import Location, Severity

Draw = Callable[[str], str | None]
"""Mermaid text to SVG; None where it cannot be drawn."""

PAGES = (
    ("index.html", "Overview"),
    ("risks.html", "Risks"),
    ("diagrams.html", "Diagrams"),
    ("contracts.html", "Contracts"),
    ("decisions.html", "Decisions"),
    ("documents.html", "Tables and plans"),
    ("blueprint.html", "Blueprint"),
)
ORDER = list(Severity)


@dataclass(frozen=True, slots=True)
class Turned:
    """One row of the sensitivity table."""

    name: str
    """The number, as a blueprint names it."""
    now: str
    effect: str
    """What happens to the risks where it is a tenth better or worse."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One diagram as it stands on a page."""

    file: Generated
    name: str
    svg: Markup | None


@dataclass(frozen=True, slots=True)
class Written:
    """One file of the blueprint as it stands on its page."""

    name: str
    """From the folder of the blueprint: the same wherever the site is written from."""
    anchor: str
    lines: list[str]


@dataclass(frozen=True, slots=True)
class Card:
    """One risk as it stands on a page."""

    risk: Risk
    name: str
    severity: str
    waived: str
    """Who answers for it, why and until when; empty where nobody does."""


def write_site(
    result: Result,
    generated: Sequence[Generated],
    *,
    draw: Draw | None = None,
    sensitivity: Sequence[Turned] = (),
    marks: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The pages.

    Args:
        result: the design.
        generated: the files of the package; shown, and linked as they lie beside the folder ``site``.
        draw: draws a diagram; without it all stand as text.
        sensitivity: the numbers that matter most, first ones first.
        marks: by path, which validator accepted a file.

    Returns:
        Texts by path, ``site/index.html`` first.
    """
    cards = _cards(result)
    pictures = _pictures(generated, draw)
    sources = _sources(result.study.system.source)
    told = {
        "sources": list(sources.values()),
        "system": result.study.system,
        "result": result,
        "cards": [card for card in cards if not card.waived],
        "waived": [card for card in cards if card.waived],
        "pictures": pictures,
        "containers": next((each for each in pictures if each.file.path == "diagrams/containers.mmd"), None),
        "contracts": [file for file in generated if file.path.startswith("contracts/")],
        "decisions": [file for file in generated if file.path.startswith("decisions/")],
        "documents": [file for file in generated if file.path.startswith("documents/")],
        "sensitivity": sensitivity,
        "marks": marks or {},
        "counts": {
            severity: sum(card.severity == severity for card in cards if not card.waived)
            for severity in ORDER
        },
        "pages": PAGES,
    }
    environment = _environment(lambda location: _place(location, sources))
    made = {}
    for page, heading in PAGES:
        template = environment.get_template(f"{page}.j2")
        made[f"site/{page}"] = template.render(**told, page=page, heading=heading)
    made["site/style.css"] = files(__name__).joinpath("style.css").read_text(encoding="utf-8")
    return made


def _environment(place: Callable[[Location], Markup]) -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # only where a site is written

    environment = Environment(
        loader=PackageLoader(__name__, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"prose": prose, "anchor": anchor, "place": place}
    return environment


def _cards(result: Result) -> list[Card]:
    """Risks, worst first."""
    waived = {each.finding.fingerprint: each.reason for each in result.report.suppressed}
    cards = []
    for risk in result.risks:
        finding = risk.finding()
        severity = (risk.severity or risk.kind.severity).value
        cards.append(Card(risk, anchor(risk.id), severity, waived.get(finding.fingerprint, "")))
    return sorted(cards, key=lambda card: (ORDER.index(Severity(card.severity)), card.risk.id))


def _pictures(generated: Sequence[Generated], draw: Draw | None) -> list[Picture]:
    first = ("diagrams/containers", "diagrams/context", "diagrams/deployment", "diagrams/sequences")
    chosen = [file for file in generated if file.kind == "mermaid"]
    chosen.sort(
        key=lambda file: next((at for at, name in enumerate(first) if file.path.startswith(name)), len(first))
    )
    pictures = []
    for number, file in enumerate(chosen):
        svg = draw(file.text) if draw is not None else None
        drawn = Markup(unique(svg, f"d{number}", file.title)) if svg is not None else None
        pictures.append(Picture(file, anchor(file.path), drawn))
    return pictures


def anchor(name: str) -> str:
    """An id for a place on a page."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()


def prose(text: str) -> Markup:
    """Markdown as HTML; what it quotes of HTML is shown, not used. Front matter is left out."""
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    made = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    return Markup(re.sub(r"<(/?)h([1-4])", lambda match: f"<{match[1]}h{int(match[2]) + 1}", made))


def _sources(source: Source) -> dict[str, Written]:
    """The files of the blueprint by their real paths; none where it was made in Python."""
    first = os.path.dirname(next(iter(source.files), ""))  # noqa: PTH120 - real paths as the source holds them
    made = {}
    for number, (file, content) in enumerate(source.files.items()):
        name = os.path.relpath(file, first).replace(os.sep, "/")
        text = content.decode("utf-8-sig", errors="replace")
        made[file] = Written(name, f"f{number}", text.splitlines())
    return made


def _place(location: Location, sources: Mapping[str, Written]) -> Markup:
    """``line 12``, which leads there; ``shop.yaml:12`` where there are several files."""
    written = sources.get(os.path.realpath(location.file))
    if written is None:
        return escape(f"{location.file}:{location.line}")
    told = f"line {location.line}" if len(sources) == 1 else f"{written.name}:{location.line}"
    return Markup('<a href="blueprint.html#{}-{}">{}</a>').format(written.anchor, location.line, told)
