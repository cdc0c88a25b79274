"""The report as one HTML file that needs nothing but itself: no network, no font, no script from elsewhere.

Style and script are allowed by their hash alone (Content Security Policy), so nothing that a finding quotes can
run. Without JavaScript everything can be read; the controls are then not shown.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from mainstay.architect.findings import Finding, Report, Step, Verdict
from mainstay.architect.report.context import Context, ManualPage
from mainstay.architect.report.counts import by_edge, by_severity, by_verdict, facts, headline
from mainstay.architect.report.html.chart import chart
from mainstay.architect.report.html.compare import Comparison, compare
from mainstay.architect.report.html.diagram import diagram
from mainstay.architect.report.html.outcomes import Table, outcomes
from mainstay.architect.report.html.prose import prose, sentence
from mainstay.architect.report.source import Line, dedent, excerpt
from mainstay.architect.report.text import line, visible

NAME = "html"

OPEN = 12
"""A report of at most so many findings shows them unfolded; a longer one unfolds the proven ones."""


@dataclass(frozen=True, slots=True)
class PathStep:
    """One step of the path, with its lines of source where they can be read."""

    step: Step
    lines: list[Line]
    placed: bool = True
    """False for a figure that was assumed: it stands nowhere."""


@dataclass(frozen=True, slots=True)
class Card:
    """All that is shown of one finding."""

    name: str
    """Its id on the page."""
    finding: Finding
    open: bool
    steps: list[PathStep]
    page: ManualPage | None
    about: Markup
    """The page of the edge, on the first finding of each edge."""
    comparison: Comparison | None
    """The sharp and safe lines: on every proven finding, and on the first of each edge."""
    shown_at: str
    """Where the comparison is to be seen, if not here: the id of another card, or empty."""
    diagram: Markup
    chart: Markup
    outcomes: Table | None

    @property
    def search(self) -> str:
        """What the text search looks through."""
        finding = self.finding
        steps = [f"{step.location.file} {step.text} {step.function}" for step in finding.path]
        told = [finding.edge, finding.message, str(finding.location), finding.subject, finding.remedy, *steps]
        return line(" ".join(told)).lower()


def render(report: Report, context: Context) -> str:
    """A whole HTML document."""
    cards = _cards(report, context)
    style, script = _asset("style.css") + _spans(cards), _asset("script.js")
    policy = "; ".join(
        [
            "default-src 'none'",
            f"style-src '{_digest(style)}'",
            f"script-src '{_digest(script)}'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    return _template().render(
        report=report,
        cards=cards,
        headline=headline(report),
        facts=facts(report),
        severities=by_severity(report),
        verdicts=by_verdict(report),
        edges=by_edge(report),
        version=context.version,
        style=Markup(style),
        script=Markup(script),
        policy=policy,
    )


def _cards(report: Report, context: Context) -> list[Card]:
    shown: dict[str, str] = {}
    told: set[str] = set()
    cards = []
    few = len(report.findings) <= OPEN
    for number, finding in enumerate(report.findings, 1):
        name = f"f{number}"
        page = context.pages(finding.edge)
        compared = compare(page.sharp, page.safe) if page else None
        here = compared is not None and (finding.verdict is Verdict.PROVEN or finding.edge not in shown)
        if here:
            shown.setdefault(finding.edge, name)
        witness = finding.witness
        cards.append(
            Card(
                name=name,
                finding=finding,
                open=few or finding.verdict is Verdict.PROVEN,
                steps=_steps(finding, context),
                page=page,
                about=prose(page.text) if page and finding.edge not in told else Markup(""),
                comparison=compared if here else None,
                shown_at="" if here else shown.get(finding.edge, ""),
                diagram=diagram(witness, f"{name}-event") if witness else Markup(""),
                chart=chart(witness.measurements) if witness else Markup(""),
                outcomes=outcomes(witness) if witness else None,
            )
        )
        told.add(finding.edge)
    return cards


def _steps(finding: Finding, context: Context) -> list[PathStep]:
    steps = finding.path or (Step(finding.location, ""),)
    last = len(steps) - 1
    shown = []
    for index, step in enumerate(steps):
        placed = not (finding.formula and step.text.endswith("(assumed)"))
        around = 2 if index == last else 1
        lines = dedent(excerpt(context.root, step.location, around=around)) if placed else []
        shown.append(PathStep(step, lines, placed))
    return shown


def _spans(cards: list[Card]) -> str:
    """Rules that lay both columns of a comparison on the same rows, so that lines stay level where they wrap."""
    counts = {len(card.comparison.sharp) + 1 for card in cards if card.comparison}
    rules = "".join(f" .rows-{count} {{ grid-row: span {count}; }}" for count in sorted(counts))
    return f"@media (min-width: 721px) {{{rules} }}\n" if rules else ""


def _finalize(value: object) -> object:
    """What is printed loses its control characters and lone surrogates; autoescape does the rest."""
    return value if isinstance(value, Markup) else visible(str(value))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(__name__, ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_finalize,
    )
    environment.filters["sentence"] = sentence
    return environment


def _template() -> Template:
    return _environment().get_template("page.html.j2")


@cache
def _asset(name: str) -> str:
    text = files(__name__).joinpath(name).read_text(encoding="utf-8").strip()
    return "\n" + text + "\n"


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
