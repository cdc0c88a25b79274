"""What holds for every report format, and what each promises on its own."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import any_report
import jsonschema
import lxml.html
import pytest
import samples
from hypothesis import HealthCheck, given, settings
from pydantic_sarif.model import StaticAnalysisResultsFormatSarifVersion210JsonSchema as Sarif

from mainstay.architect.errors import MainstayError
from mainstay.architect.findings import (
    Event,
    Finding,
    Location,
    Problem,
    Report,
    Severity,
    Suppressed,
    Verdict,
)
from mainstay.architect.report import Context, ManualPage, formats, render
from mainstay.architect.report import schema as report_schema
from mainstay.architect.report.html.statement import brief, note, rows
from mainstay.architect.report.source import dedent, excerpt

SCHEMA = json.loads(report_schema.FILE.read_text(encoding="utf-8"))
PAGES = {"check-then-act": ManualPage("a title", "# text", "a remedy", "high", "x = 1\n", "x = 2\n")}
ANYTHING = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return samples.context(tmp_path)


def sarif(report: Report, context: Context) -> dict[str, object]:
    """The SARIF log, parsed, after it has passed the model made from the published schema."""
    log = json.loads(render("sarif", report, context))
    Sarif.model_validate(log)
    return log["runs"][0]


# ------------------------------------------------------------------------------------------- all of them


def test_formats_are_found_by_walking_the_folder() -> None:
    """Each format the command line offers is a module of the folder; there is no list."""
    assert list(formats()) == ["github", "html", "json", "sarif", "text"]


def test_an_unknown_format_is_refused_with_the_nearest_name() -> None:
    """A mistyped format is one clear sentence."""
    with pytest.raises(MainstayError, match=r"'sariff' \(did you mean 'sarif'\?\)"):
        render("sariff", Report("review"))


@pytest.mark.parametrize("name", ["github", "html", "json", "sarif", "text"])
def test_an_empty_report_is_written(name: str) -> None:
    """Nothing found is a report too."""
    assert render(name, Report("review")).endswith("\n")


@ANYTHING
@given(any_report.REPORT)
def test_every_format_writes_whatever_the_strings(report: Report) -> None:
    """No string in a report keeps a format from being written as UTF-8."""
    for name in formats():
        render(name, report, Context(pages=PAGES.get)).encode()


# ------------------------------------------------------------------------------------------- text


def test_text_fits_the_terminal(context: Context) -> None:
    """No line is wider than the terminal, at 80 columns and at 40."""
    for width in (80, 40):
        narrow = Context(root=context.root, pages=context.pages, width=width)
        assert max(map(len, render("text", samples.report(), narrow).splitlines())) <= width


def test_text_shows_the_evidence(context: Context) -> None:
    """Path with source and the guilty span, argument, remedy and the two commands stand in the text."""
    text = render("text", samples.report(), context)
    assert "  4. withdraw() writes accounts  app/wallet.py:17" in text
    assert "     17 │ account.balance -= amount\n        │ ^^^^^^^^^^^^^^^^^^^^^^^^^\n" in text
    assert "both were" in text
    assert "mainstay replay .mainstay/witnesses/check-then-act-withdraw.json" in text
    assert "mainstay explain check-then-act" in text
    assert "? undecided  check-then-act  POST /refunds" in text
    assert "app/legacy.py:12: is not Python 3: invalid syntax" in text
    assert "5 findings: 1 critical, 2 high, 1 medium, 1 low" in text


def test_text_prints_markup_as_it_is(context: Context) -> None:
    """Square brackets of the code under review are no colours."""
    assert "[bold]everything[/bold]" in render("text", samples.report(), context)


def test_text_falls_back_to_ascii(context: Context) -> None:
    """A terminal that is not UTF-8 gets ASCII only."""
    plain = Context(root=context.root, pages=context.pages, unicode=False)
    assert render("text", samples.report(), plain).isascii()


@ANYTHING
@given(any_report.REPORT)
def test_text_lets_no_control_character_through(report: Report) -> None:
    """What a statement or a file name holds cannot command the terminal."""
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", render("text", report, Context()))


def test_colour_only_on_a_terminal_and_not_with_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe is never coloured; a terminal is, unless NO_COLOR or TERM=dumb says otherwise."""

    class Terminal(io.StringIO):
        encoding = "ISO-8859-1"

        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert Context.of(Terminal()).color
    assert not Context.of(Terminal()).unicode
    assert not Context.of(io.StringIO()).color
    monkeypatch.setenv("NO_COLOR", "1")
    assert not Context.of(Terminal()).color
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not Context.of(Terminal()).color


def test_colour_adds_nothing_but_colour(context: Context) -> None:
    """The coloured text without its escapes is the plain text."""
    colored = Context(root=context.root, pages=context.pages, color=True)
    text = render("text", samples.report(), colored)
    assert "\x1b[" in text
    bare = "\n".join(row.rstrip() for row in re.sub(r"\x1b\[[\d;]*m", "", text).splitlines())
    assert bare == render("text", samples.report(), context).rstrip("\n")


def test_quiet_text_is_the_findings_alone(context: Context) -> None:
    """Quiet leaves out paths, checks and the summary."""
    quiet = Context(root=context.root, quiet=True)
    text = render("text", samples.report(), quiet)
    assert "app/wallet.py:17:5" in text
    assert "cleared" not in text and "5 findings" not in text


# ------------------------------------------------------------------------------------------- JSON


def test_the_schema_file_is_made_from_the_classes() -> None:
    """``python -m mainstay.architect.report.schema`` has been run since the classes changed."""
    assert report_schema.FILE.read_text(encoding="utf-8") == report_schema.text()


def test_the_schema_is_a_schema() -> None:
    """JSON Schema 2020-12 accepts it."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@ANYTHING
@given(any_report.REPORT)
def test_json_obeys_its_schema(report: Report) -> None:
    """Whatever is reported, the JSON is what the schema says."""
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(render("json", report)))


def test_a_witness_file_obeys_the_schema() -> None:
    """The sealed witness is described by the same schema."""
    witness = {"$ref": "#/$defs/Witness", "$defs": SCHEMA["$defs"]}
    for made in (samples.race(), samples.growth(), samples.trace()):
        jsonschema.Draft202012Validator(witness).validate(json.loads(json.dumps(made.sealed())))


def test_the_schema_refuses_what_is_misspelt() -> None:
    """An unknown field is an error, so that the schema is worth having."""
    report = json.loads(render("json", samples.report()))
    report["findings"][0]["severty"] = "high"
    with pytest.raises(jsonschema.ValidationError, match="severty"):
        jsonschema.Draft202012Validator(SCHEMA).validate(report)


# ------------------------------------------------------------------------------------------- SARIF


@ANYTHING
@given(any_report.REPORT)
def test_sarif_always_writes_and_is_always_valid(report: Report) -> None:
    """Lone surrogates, control characters, lines at zero: the log is valid SARIF 2.1.0 and plain ASCII."""
    assert render("sarif", report, Context(pages=PAGES.get)).isascii()
    sarif(report, Context(pages=PAGES.get))


def test_sarif_tells_the_path_and_the_interleaving(context: Context) -> None:
    """One code flow is the path; the other has a thread flow per actor, in order of execution."""
    result = sarif(samples.report(), context)["results"][0]  # type: ignore[index]
    path, interleaving = result["codeFlows"]
    texts = [step["location"]["message"]["text"] for step in path["threadFlows"][0]["locations"]]
    assert texts[0] == "withdraw() calls find_account()"
    assert len(texts) == 4
    assert [flow["id"] for flow in interleaving["threadFlows"]] == ["alice", "bob"]
    orders = [step["executionOrder"] for flow in interleaving["threadFlows"] for step in flow["locations"]]
    assert len(set(orders)) == len(orders)
    assert result["level"] == "error"
    assert result["partialFingerprints"] == {"mainstay/v1": samples.findings()[0].fingerprint}
    region = result["locations"][0]["physicalLocation"]["region"]
    assert region == {"startLine": 17, "startColumn": 5, "endLine": 17, "endColumn": 30}


def test_sarif_rules_carry_the_page(context: Context) -> None:
    """The help of a rule is the page of the edge, as Markdown."""
    run = sarif(samples.report(), context)
    rules = {rule["id"]: rule for rule in run["tool"]["driver"]["rules"]}  # type: ignore[index]
    assert rules["check-then-act"]["help"]["markdown"].startswith("# Situation")
    assert rules["check-then-act"]["defaultConfiguration"] == {"level": "error"}
    for result in run["results"]:  # type: ignore[attr-defined]
        assert list(rules)[result["ruleIndex"]] == result["ruleId"]


def test_sarif_suppressions_say_where_and_why(context: Context) -> None:
    """A comment in the code is in source, a baseline is external; both carry their reason."""
    finding = samples.findings()[0]
    report = Report(
        "review", suppressed=[Suppressed(finding, "known"), Suppressed(finding, "old", by="baseline")]
    )
    results = sarif(report, context)["results"]
    assert [item["suppressions"][0]["kind"] for item in results] == ["inSource", "external"]  # type: ignore[attr-defined]
    assert results[0]["suppressions"][0]["justification"] == "known"  # type: ignore[index]


def test_sarif_problems_are_notifications(context: Context) -> None:
    """A file that could not be read is told with its place."""
    run = sarif(samples.report(), context)
    told = run["invocations"][0]["toolExecutionNotifications"]  # type: ignore[index]
    assert told[0]["message"]["text"] == "is not Python 3: invalid syntax"
    assert told[0]["locations"][0]["physicalLocation"]["region"]["startLine"] == 12


def test_sarif_addresses_are_relative_and_encoded() -> None:
    """Blanks, colons, percent signs and bytes that are no UTF-8 are percent-encoded below %SRCROOT%."""
    finding = Finding("e", Severity.LOW, Verdict.LIKELY, "m", Location("a b/c:d%/\u00e9\udcff.py", 1))
    place = sarif(Report("review", [finding]), Context())["results"][0]["locations"][0]  # type: ignore[index]
    assert place["physicalLocation"]["artifactLocation"] == {
        "uri": "a%20b/c%3Ad%25/%C3%A9%FF.py",
        "uriBaseId": "%SRCROOT%",
    }


# ------------------------------------------------------------------------------------------- GitHub


def test_annotations_are_escaped() -> None:
    """Percent signs, line ends, colons and commas are written as GitHub reads them."""
    finding = Finding(
        "check-then-act",
        Severity.MEDIUM,
        Verdict.LIKELY,
        "50% is: not, enough\r\nhere",
        Location("a,b:c.py", 3, 5, 3, 9),
        remedy="Lock.",
    )
    report = Report("review", [finding], problems=[Problem("x.py", "gone", 2)])
    first, second, last = render("github", report).splitlines()
    assert first == (
        "::warning file=a%2Cb%3Ac.py,line=3,col=5,endLine=3,endColumn=9,title=check-then-act (medium%2C likely)"
        "::50%25 is: not, enough%0D%0Ahere%0ARemedy: Lock."
    )
    assert second == "::warning file=x.py,line=2,title=not read::gone"
    assert last.startswith("1 finding: 1 medium")


@ANYTHING
@given(any_report.REPORT)
def test_annotations_are_one_line_each(report: Report) -> None:
    """No text starts a command of its own."""
    lines = render("github", report, Context(quiet=True)).split("\n")[:-1]
    assert len(lines) == len(report.findings) + len(report.problems)
    assert all(line.startswith(("::error file=", "::warning file=", "::notice file=")) for line in lines)


# ------------------------------------------------------------------------------------------- HTML


@ANYTHING
@given(any_report.REPORT)
def test_html_runs_nothing_that_it_quotes(report: Report) -> None:
    """However a finding is spelt, the page has one script, no handler, and no address but its own."""
    page = lxml.html.document_fromstring(render("html", report, Context(pages=PAGES.get)))
    assert len(page.xpath("//script")) == 1
    assert not page.xpath("//@*[starts-with(name(), 'on')] | //img | //iframe | //object | //@src | //@style")
    assert all(link.startswith(("#", "data:,")) for link in page.xpath("//@href"))


def test_html_holds_the_whole_proof(context: Context) -> None:
    """Argument, events, serial outcomes, source, remedy and the sharp and safe lines are on the page."""
    page = lxml.html.document_fromstring(render("html", samples.report(), context))
    card = page.get_element_by_id("f1")
    text = card.text_content()
    for expected in (
        "In every serial order",
        "bob then alice",
        "withdraw() writes accounts",
        "with_for_update",
    ):
        assert expected in text
    assert len(card.cssselect(".events tbody tr")) == len(samples.race().events)
    assert [item.text_content().strip() for item in card.cssselect(".safe .changed .c")] == [
        "select(Account).where(Account.id == account_id).with_for_update()"
    ]
    assert len(card.cssselect("g.bar")) == 2, "one bar a transaction"
    assert len(card.cssselect("g.switch")) == 2, "to bob and back"
    assert len(card.cssselect("g.period.pause")) == 1
    assert len(card.cssselect("g.marked")) == 1
    assert [item.text_content() for item in card.cssselect("td.differs")] == [
        '≠ 409 {"detail": "balance too low"}',
        '≠ 409 {"detail": "balance too low"}',
    ]


def test_html_draws_who_waits_for_whom(context: Context) -> None:
    """A lock that is waited for is a period on the lane of the one who waits."""
    finding = samples.findings()[0]
    report = Report(
        "diagnose",
        [
            Finding(
                finding.edge,
                finding.severity,
                finding.verdict,
                "m",
                finding.location,
                witness=samples.blocked(),
            )
        ],
    )
    page = lxml.html.document_fromstring(render("html", report, context))
    assert page.cssselect("g.period.blocked title")[0].text == "bob waits for a lock"


def test_html_folds_what_repeats(context: Context) -> None:
    """Twenty equal statements are two and a sentence in the diagram, and twenty in the table."""
    page = lxml.html.document_fromstring(render("html", samples.report(), context))
    card = next(item for item in page.cssselect(".finding") if "grows" in item.text_content())
    assert card.cssselect("svg .fold")[0].text == "⋯ 18 more of the same ⋯"
    assert len(card.cssselect("g.marked")) == 2
    assert len(card.cssselect(".events tr.marked")) == 20
    assert "20 rows, 20 times" in card.cssselect("svg.growth")[0].get("aria-label")


def test_html_explains_each_edge_once(context: Context) -> None:
    """The page of an edge stands on its first finding, as prose; raw HTML in it is text."""
    pages = {
        "n-plus-one": ManualPage(
            "Title", "## Why\n\n*Because* <b onclick=x>of</b> ![pixel](//elsewhere/x.png)"
        )
    }
    text = render("html", samples.report(), Context(root=context.root, pages=pages.get))
    (about,) = lxml.html.document_fromstring(text).cssselect(".about .prose")
    assert about.cssselect("h5")[0].text == "Why"
    assert about.cssselect("em")[0].text == "Because"
    assert not about.cssselect("b, img")


def test_html_assets_do_not_end_their_element() -> None:
    """Style and script stand in the page as they are, so neither may hold an end tag."""
    folder = Path(report_schema.__file__).parent / "html"
    for name in ("style.css", "script.js"):
        assert "</" not in (folder / name).read_text(encoding="utf-8")


def test_html_of_five_hundred_findings_is_written_at_once(context: Context) -> None:
    """A long report is one page of bearable size, with only the proven findings unfolded."""
    report = Report("review", [finding for _ in range(100) for finding in samples.findings()])
    text = render("html", report, context)
    assert len(text) < 30_000_000
    assert text.count('<details class="card" open>') == 300


# ------------------------------------------------------------------------------------------- parts


def test_excerpt_marks_the_span_with_tabs_expanded(context: Context) -> None:
    """Columns count characters of the file; what is shown has tabs as four blanks."""
    (row,) = dedent(excerpt(context.root, Location("app/orders.py", 24, 17, 24, 28)))
    assert row.parts[1] == "client.post"


def test_excerpt_reads_nothing_outside_the_root(context: Context) -> None:
    """Neither a path upwards nor an absolute one nor a missing file is read."""
    (context.root.parent / "secret.py").write_text("secret", encoding="utf-8")
    for file in ("../secret.py", str(context.root.parent / "secret.py"), "gone.py", "a\0b", ""):
        assert excerpt(context.root, Location(file, 1)) == []


def test_notes_of_the_diagram_are_sentences() -> None:
    """Held, resumed, blocked and answered read as words, and a status is not said twice."""

    def said(kind: str, text: str, result: str = "") -> str:
        return note(Event("a", kind, text, result=result))

    assert said("pause", "before UPDATE accounts") == "held before UPDATE accounts"
    assert said("resume", "before UPDATE accounts") == "goes on with UPDATE accounts"
    assert said("blocked", "UPDATE accounts waits for bob") == "UPDATE accounts waits for bob"
    assert said("unblocked", "UPDATE accounts") == "has the lock: UPDATE accounts"
    assert said("reply", "409 too low", "409") == said("reply", "too low", "409") == "409 too low"


def test_statements_are_shortened_to_what_matters() -> None:
    """Column lists give way, qualifiers go, parameters are filled in."""
    read, write = samples.race().events[2], samples.race().events[-3]
    assert brief(read, 60) == "SELECT … FROM accounts WHERE id = 1"
    assert brief(write, 60) == "UPDATE accounts SET balance=20 WHERE id = 1"
    assert brief(read, 12) == "SELECT … FR…"
    assert rows(write, 36) == ["UPDATE accounts SET balance=20", "WHERE id = 1"]
    assert rows(read, 60) == ["SELECT … FROM accounts WHERE id = 1"]
    columns = "INSERT INTO payments (account_id, amount) VALUES ($1, $2) RETURNING payments.id, payments.at"
    insert = Event("a", "statement", columns, target="payments", parameters=("1", "o'hara"))
    assert brief(insert, 80) == "INSERT INTO payments (…) VALUES (1, 'o'hara') RETURNING id, at"
