"""Suppressions, baselines, settings: what keeps a known finding from being shown, and what does not."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay.architect.baseline import apply_baseline, baseline_text, read_baseline
from mainstay.architect.errors import MainstayError
from mainstay.architect.findings import Finding, Location, Report, Severity, Verdict
from mainstay.architect.settings import find_root, load_settings
from mainstay.architect.suppression import apply_suppressions


def finding(
    line: int = 2, edge: str = "n-plus-one", subject: str = "f", end: int = 0, file: str = "a.py"
) -> Finding:
    return Finding(edge, Severity.HIGH, Verdict.LIKELY, "m", Location(file, line, 1, end, 0), subject=subject)


def suppressed(tmp_path: Path, source: str, one: Finding) -> Report:
    (tmp_path / "a.py").write_text(source)
    report = Report("review", [one])
    apply_suppressions(report, tmp_path)
    return report


@pytest.mark.parametrize(
    ("source", "one"),
    [
        ("x\ny()  # mainstay: ignore[n-plus-one] three rows at most\n", finding(2)),
        ("x\n# mainstay: ignore[n-plus-one] three rows at most\ny()\n", finding(3)),
        ("x\ny(\n  1,\n)  # mainstay: ignore[n-plus-one] three rows at most\n", finding(2, end=4)),
        ("x\ny() // mainstay: ignore[check-then-act, n-plus-one]: three rows at most\n", finding(2)),
        ("x\n-- mainstay: ignore[n-plus-one] three rows at most\ny\n", finding(3)),
    ],
)
def test_a_comment_with_a_reason_suppresses(tmp_path: Path, source: str, one: Finding) -> None:
    """On a line of the finding or alone above it, in any of the comment styles, the reason is kept."""
    report = suppressed(tmp_path, source, one)
    assert not report.findings and not report.problems
    assert report.suppressed[0].reason == "three rows at most"


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("x\ny()  # mainstay: ignore[n-plus-one]\n", "needs a reason"),
        ("x\ny()  # mainstay: ignore because\n", "must name an edge"),
        ("x\ny()  # mainstay: ignore[check-then-act] other edge\n", ""),
        ("z()  # mainstay: ignore[n-plus-one] it stands behind other code\ny()\n", ""),
    ],
)
def test_a_comment_that_does_not_answer_for_it_does_not_suppress(
    tmp_path: Path, source: str, problem: str
) -> None:
    """Without a reason or a name the finding stays and the comment is reported; another edge's comment is not ours."""
    report = suppressed(tmp_path, source, finding(2))
    assert len(report.findings) == 1 and not report.suppressed
    assert [problem in str(entry) for entry in report.problems] == ([True] if problem else [])


subjects = st.lists(st.sampled_from("fgh"), max_size=8)


@given(known=subjects, now=subjects)
def test_a_baseline_hides_as_many_as_it_counts(known: list[str], now: list[str]) -> None:
    """Law: what stays is exactly the multiset difference of the findings now and the findings known."""
    before = Report("review", [finding(number + 1, subject=name) for number, name in enumerate(known)])
    report = Report("review", [finding(number + 50, subject=name) for number, name in enumerate(now)])
    apply_baseline(report, Counter(one.fingerprint for one in before.findings))
    assert Counter(one.subject for one in report.findings) == Counter(now) - Counter(known)
    assert len(report.findings) + len(report.suppressed) == len(now)


def test_a_baseline_survives_being_written_and_read(tmp_path: Path) -> None:
    """What was written is what is known, and writing it again while it is in force changes nothing."""
    report = Report("review", [finding(1), finding(9), finding(3, subject="g")])
    file = tmp_path / "baseline.json"
    file.write_text(baseline_text(report))
    known = read_baseline(file)
    assert sum(known.values()) == 3
    apply_baseline(report, known)
    assert not report.findings
    assert baseline_text(report) == file.read_text()


@pytest.mark.parametrize(
    "content", ["", "[]", '{"version": 99, "findings": []}', '{"version": 1, "findings": [{}]}']
)
def test_what_is_not_a_baseline_is_refused(tmp_path: Path, content: str) -> None:
    """One sentence that names the file and the remedy."""
    file = tmp_path / "baseline.json"
    file.write_text(content)
    with pytest.raises(MainstayError, match="--write-baseline"):
        read_baseline(file)


def test_settings_are_read_from_the_root(tmp_path: Path) -> None:
    """The nearest folder with .git or pyproject.toml is the root, and its [tool.mainstay] counts."""
    (tmp_path / "pyproject.toml").write_text(
        '[tool.mainstay]\nignore = ["n-plus-one"]\nmin-verdict = "possible"\n'
    )
    (tmp_path / "src").mkdir()
    root = find_root([tmp_path / "src"])
    settings = load_settings(root)
    assert (root, settings.ignore, settings.min_verdict) == (tmp_path.resolve(), ("n-plus-one",), "possible")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('ignored = ["x"]', "did you mean 'ignore'"),
        ('ignore = "x"', "must be a list of strings"),
        ('min-verdict = "sure"', "'likely' or 'possible'"),
        ("baseline = 3", "path of a file"),
        ("= 3", "not TOML"),
    ],
)
def test_wrong_settings_are_refused(tmp_path: Path, line: str, said: str) -> None:
    """Each with the file, what is wrong and the nearest right thing."""
    (tmp_path / "pyproject.toml").write_text(f"[tool.mainstay]\n{line}\n")
    with pytest.raises(MainstayError, match=said):
        load_settings(tmp_path)
