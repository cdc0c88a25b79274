"""What review reads, what it passes over, and what it says of what cannot be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mainstay.architect.errors import MainstayError
from mainstay.architect.findings import Report
from mainstay.architect.review import review
from mainstay.architect.review.libraries import load

LOUD = """
from sqlalchemy import select
from sqlalchemy.orm import Session, DeclarativeBase, mapped_column
class Base(DeclarativeBase): pass
class Order(Base):
    __tablename__ = "orders"
    id = mapped_column(primary_key=True)
def f(session: Session):
    for order in session.scalars(select(Order)):
        session.get(Order, order.id + 1)
"""


def run(folder: Path, edges, **options) -> Report:
    return review([folder], validations=edges, root=folder, workers=1, **options)


HOSTILE: dict[str, bytes] = {
    "syntax.py": b"def f(:\n",
    "python2.py": b"print 'x'\n",
    "nul.py": b"x = 1\0\n",
    "utf16.py": "x = 1\n".encode("utf-16"),
    "bytes.py": b'x = "\xff\xfe"\n',
    "unknown_encoding.py": b"# coding: klingon\nx = 1\n",
    "one_line.py": b"x = [" + b"1," * 5_000_000 + b"]\n",
    "long_line.py": b"x = '" + b"a" * 500_000 + b"'\n",
    "parentheses.py": b"x = " + b"(" * 10_000 + b")" * 10_000 + b"\n",
    "brackets.py": b"x = " + b"[" * 10_000 + b"]" * 10_000 + b"\n",
    "minus.py": b"x = " + b"-" * 50_000 + b"1\n",
    "nots.py": b"x = " + b"not " * 20_000 + b"1\n",
    "attributes.py": b"x = a" + b".b" * 40_000 + b"\n",
    "calls.py": b"x = a" + b"()" * 20_000 + b"\n",
    "sum.py": b"x = " + b"+".join([b"a"] * 40_000) + b"\n",
    "lambdas.py": b"x = " + b"lambda:" * 10_000 + b"1\n",
    "big_number.py": b"x = " + b"9" * 50_000 + b"\n",
}

HARMLESS: dict[str, bytes] = {
    "empty.py": b"",
    "bom.py": b"\xef\xbb\xbfx = 1\n",
    "latin.py": b"# coding: latin-1\nx = '\xe9'\n",
    "carriage.py": b"def f():\r\n    return 1\r\n",
    "surrogate.py": b"x = '\\ud800'\n",
    "deep_but_legal.py": b"def f(a):\n    return a" + b".b" * 400 + b"\n",
    "circles.py": (
        b"from .circles import *\nfrom circles import x as x\nx = x\ny = z\nz = y\n"
        b"class A(A): pass\nclass B(C): pass\nclass C(B): pass\ndef f(): return g()\ndef g(): return f()\n"
    ),
    "odd_models.py": (
        b"from django.db import models\nclass M(models.Model):\n    p = models.ForeignKey('self')\n"
        b"    q = models.ForeignKey()\n    r = models.ManyToManyField(to=None)\n"
        b"def f():\n    for m in M.objects.all():\n        m.p.q.r.all()\n"
    ),
}


def test_hostile_files_become_problems_and_the_rest_goes_on(tmp_path: Path, edges) -> None:
    """Each file that cannot be read is one problem; harmless oddities are none; findings still come."""
    for name, data in {**HOSTILE, **HARMLESS}.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "loud.py").write_text(LOUD)
    report = run(tmp_path, edges)
    assert sorted(problem.file for problem in report.problems) == sorted(HOSTILE)
    assert all("\n" not in problem.message and problem.message for problem in report.problems)
    assert any(finding.location.file == "loud.py" for finding in report.findings)


def test_links_that_loop(tmp_path: Path, edges) -> None:
    """Links back up, onto themselves and to nowhere are said once each and not followed."""
    (tmp_path / "loud.py").write_text(LOUD)
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "up").symlink_to("..")
    (tmp_path / "self.py").symlink_to("self.py")
    (tmp_path / "nowhere.py").symlink_to("missing.py")
    os.mkfifo(tmp_path / "pipe.py")
    report = run(tmp_path, edges)
    assert sorted(p.file for p in report.problems) == ["inner/up", "nowhere.py", "pipe.py", "self.py"]
    assert {f.location.file for f in report.findings} == {"loud.py"}


def test_unreadable_file(tmp_path: Path, edges) -> None:
    """A file name that is no text is shown with the strange bytes replaced."""
    (tmp_path / "loud.py").write_text(LOUD)
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.py"))).write_text("def f(:\n")
    (problem,) = run(tmp_path, edges).problems
    assert problem.file.encode() == "bad\ufffd.py".encode()


def test_a_path_that_does_not_exist(tmp_path: Path, edges) -> None:
    """A missing path is one sentence with the path in it."""
    with pytest.raises(MainstayError, match="nothing_here"):
        review([tmp_path / "nothing_here"], validations=edges)


def test_a_tree_without_python(tmp_path: Path, edges) -> None:
    """A folder without Python is said to be one."""
    (tmp_path / "readme.txt").write_text("hello")
    with pytest.raises(MainstayError, match="no Python file"):
        review([tmp_path], validations=edges)


def test_what_nobody_here_wrote_is_passed_over(tmp_path: Path, edges) -> None:
    """Environments and caches are skipped, unless one is named."""
    for name in ("app.py", ".venv/lib/x.py", "node_modules/a/b.py", "site-packages/y.py"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(LOUD)
    assert {f.location.file for f in run(tmp_path, edges).findings} == {"app.py"}
    named = review([tmp_path / ".venv"], validations=edges, root=tmp_path)
    assert {f.location.file for f in named.findings} == {".venv/lib/x.py"}


def test_root_is_the_git_checkout(tmp_path: Path, edges) -> None:
    """Paths of findings begin at the top of the checkout, whatever folder was named."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "app.py").write_text(LOUD)
    report = review([tmp_path / "src"], validations=edges)
    assert {f.location.file for f in report.findings} == {"src/app.py"}


def test_one_file(tmp_path: Path, edges) -> None:
    """A single file can be named."""
    (tmp_path / "app.py").write_text(LOUD)
    (tmp_path / "other.py").write_text(LOUD)
    report = review([tmp_path / "app.py"], validations=edges, root=tmp_path)
    assert {f.location.file for f in report.findings} == {"app.py"}


# -------------------------------------------------------------------------------------------- cache


def test_the_cache_changes_nothing(tmp_path: Path, edges) -> None:
    """Cold, warm and after an edit, cached runs say what uncached ones say."""
    source, cache = tmp_path / "source", tmp_path / "cache"
    source.mkdir()
    (source / "app.py").write_text(LOUD)
    (source / "bad.py").write_text("def f(:\n")

    def both() -> tuple[object, object]:
        cached, plain = run(source, edges, cache=cache), run(source, edges)
        assert cached.problems == plain.problems
        return cached.findings, plain.findings

    for _ in range(2):
        cached, plain = both()
        assert cached == plain != []
    (source / "app.py").write_text(LOUD.replace("    for order", "\n\n    for order"))
    cached, plain = both()
    assert cached == plain
    (source / "app.py").write_text("x = 1\n")
    assert both() == ([], [])


@pytest.mark.parametrize("junk", [b"", b"junk", b"[]", b'{"key": 1}'])
def test_a_broken_cache_is_an_empty_one(tmp_path: Path, edges, junk: bytes) -> None:
    """A cache that cannot be read is ignored and replaced."""
    source, cache = tmp_path / "source", tmp_path / "cache"
    source.mkdir()
    cache.mkdir()
    (source / "app.py").write_text(LOUD)
    (cache / "facts").write_bytes(junk)
    (cache / "results.json").write_bytes(junk)
    assert run(source, edges, cache=cache).findings == run(source, edges).findings


# ------------------------------------------------------------------------------------------- tables


def test_own_library_tables(tmp_path: Path, edges) -> None:
    """A project's own table makes a library known."""
    (tmp_path / "app.py").write_text(
        "from ourpay import Provider\nfrom django.db import transaction\n"
        "provider = Provider()\ndef f():\n    with transaction.atomic():\n        provider.charge(3)\n"
    )
    assert run(tmp_path, edges).findings == []
    tables = {
        "ourpay": {
            "types": {"OurPay": {"names": ["ourpay.Provider"], "methods": {"charge": "call +payment"}}}
        }
    }
    (found,) = run(tmp_path, edges, tables=tables).findings
    assert found.edge == "external-call-in-transaction"


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"functions": {"a.b": "cal"}}, "did you mean 'call'"),
        ({"functions": {"a.b": 3}}, "one line of words"),
        ({"types": {"T": {"method": {}}}}, "did you mean 'methods'"),
        ({"types": {"T": {"like": "Nothing"}}}, "Nothing"),
    ],
)
def test_a_table_that_is_not_well_formed(table, said: str) -> None:
    """A mistake in a project's table is said with its place and the nearest word."""
    with pytest.raises(MainstayError, match=r"tool\.mainstay\.libraries\.mine") as error:
        load({"mine": table})
    assert said in str(error.value)
