"""The package: all or nothing, and never over what a person changed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstay.architect.design import package
from mainstay.architect.design.package import JOURNAL, MANIFEST, STAGE
from mainstay.architect.errors import MainstayError

OLD = {"contracts/a.yaml": "a: 1\n", "contracts/b.yaml": "b: 1\n", "diagrams/deep/er.mmd": "c\n"}
NEW = {"contracts/a.yaml": "a: 2\n", "contracts/b.yaml": "b: 1\n", "documents/d.md": "# d\n"}


def write(folder: Path, files: dict[str, str]) -> package.Outcome:
    return package.write(folder, files, "digest", {})


def there(folder: Path) -> dict[str, str]:
    """Every file but those of the package's own bookkeeping."""
    return {
        file.relative_to(folder).as_posix(): file.read_text()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not file.relative_to(folder).as_posix().startswith((MANIFEST, JOURNAL, STAGE))
    }


def test_a_package_is_written_and_then_holds_only_what_is_generated(tmp_path: Path) -> None:
    """What is no longer generated goes, with the folders that are empty then."""
    folder = tmp_path / "deep" / "design"
    assert write(folder, OLD).written == sorted(OLD)
    assert package.check(folder, OLD, "digest") == {}
    outcome = write(folder, NEW)
    assert (outcome.written, outcome.same) == (["contracts/a.yaml", "documents/d.md"], ["contracts/b.yaml"])
    assert outcome.removed == ["diagrams/deep/er.mmd"]
    assert there(folder) == NEW
    assert not (folder / "diagrams").exists()
    assert sorted(file.name for file in folder.glob(".*")) == [MANIFEST]


@pytest.mark.parametrize("path", ["contracts/a.yaml", "documents/d.md"])
def test_what_a_person_wrote_is_never_overwritten(tmp_path: Path, path: str) -> None:
    """Neither a generated file that was changed, nor one that was there before; nothing else is touched either."""
    write(tmp_path, OLD)
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text("mine\n")
    before = there(tmp_path)
    with pytest.raises(MainstayError, match=path):
        write(tmp_path, NEW)
    assert there(tmp_path) == before


def test_a_changed_file_that_is_no_longer_generated_is_kept(tmp_path: Path) -> None:
    """It is the person's from then on."""
    write(tmp_path, OLD)
    (tmp_path / "diagrams/deep/er.mmd").write_text("mine\n")
    outcome = write(tmp_path, NEW)
    assert (outcome.kept, outcome.removed) == (["diagrams/deep/er.mmd"], [])
    assert there(tmp_path) == {**NEW, "diagrams/deep/er.mmd": "mine\n"}
    assert write(tmp_path, NEW).kept == []


def test_check_names_what_drifted_and_how(tmp_path: Path) -> None:
    """By hand, by the blueprint, by going missing."""
    write(tmp_path, OLD)
    (tmp_path / "contracts/b.yaml").write_text("mine\n")
    drifted = package.check(tmp_path, NEW, "other")
    assert drifted == {
        "contracts/a.yaml": "the blueprint says otherwise now",
        "contracts/b.yaml": "changed by another than Mainstay",
        "diagrams/deep/er.mmd": "no longer generated",
        "documents/d.md": "missing",
    }
    with pytest.raises(MainstayError, match="holds no package"):
        package.check(tmp_path / "nowhere", NEW, "other")


def test_pages_of_the_site_drift_with_the_blueprint(tmp_path: Path) -> None:
    """They are not drawn anew to be compared."""
    write(tmp_path, {**OLD, "site/index.html": "<p>"})
    assert package.check(tmp_path, OLD, "digest") == {}
    assert package.check(tmp_path, OLD, "other") == {"site/index.html": "the blueprint says otherwise now"}
    (tmp_path / "site/index.html").write_text("mine")
    assert package.check(tmp_path, OLD, "digest") == {"site/index.html": "changed by another than Mainstay"}


def test_links_and_files_in_the_way_are_refused(tmp_path: Path) -> None:
    """Nothing is written through a link that leads elsewhere."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder = tmp_path / "design"
    folder.mkdir()
    (folder / "contracts").symlink_to(elsewhere)
    with pytest.raises(MainstayError, match="contracts is no folder that Mainstay made"):
        write(folder, OLD)
    assert list(elsewhere.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(MainstayError, match="is a file; name a folder"):
        write(tmp_path / "file", OLD)


def test_a_manifest_cannot_lead_out_of_the_package(tmp_path: Path) -> None:
    """What stands in it is removed when it is no longer generated."""
    folder = tmp_path / "design"
    write(folder, OLD)
    victim = tmp_path / "victim"
    victim.write_text("a: 1\n")
    body = json.loads((folder / MANIFEST).read_text())
    body["files"]["../victim"] = {"sha256": package.digest("a: 1\n")}
    (folder / MANIFEST).write_text(json.dumps(body))
    with pytest.raises(MainstayError, match="is not the manifest of a package"):
        write(folder, NEW)
    assert victim.exists()


@pytest.mark.parametrize("broken", ["", "{", "[]", '{"format": 2, "mainstay": "9"}', '{"format": 1}'])
def test_a_broken_manifest_is_refused(tmp_path: Path, broken: str) -> None:
    """In one sentence."""
    write(tmp_path, OLD)
    (tmp_path / MANIFEST).write_text(broken)
    with pytest.raises(MainstayError, match=r"\.mainstay-design\.json"):
        write(tmp_path, NEW)
    assert there(tmp_path) == OLD


def test_an_error_on_the_way_puts_everything_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it happens."""
    real = os.replace
    for failing in range(1, 5):
        folder = tmp_path / str(failing)
        write(folder, OLD)
        calls = 0

        def replace(source: Path, target: Path, failing: int = failing) -> None:
            nonlocal calls
            calls += 1
            if calls == failing:
                raise OSError(28, "No space left on device", str(target))
            real(source, target)

        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", replace)
            with pytest.raises(MainstayError, match="No space left on device"):
                write(folder, NEW)
        assert there(folder) == OLD, failing
        assert write(folder, NEW).kept == []
        assert there(folder) == NEW


PROGRAM = """
import os, signal, sys
from pathlib import Path
from mainstay.architect.design import package

left = int(sys.argv[2])


def mortal(function):
    def called(*arguments, **named):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **named)
    return called


for name in ("replace", "fsync", "unlink", "link", "mkdir", "rmdir"):
    setattr(os, name, mortal(getattr(os, name)))
package.write(Path(sys.argv[1]), {new!r}, "digest", {{}})
"""


def test_a_process_killed_anywhere_leaves_the_old_or_the_new_or_a_mix_that_is_told(tmp_path: Path) -> None:
    """Real SIGKILL before every call that changes the disk; the next write makes the package whole."""
    mixes = 0
    for step in range(1, 200):
        folder = tmp_path / str(step)
        write(folder, OLD)
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(new=NEW), str(folder), str(step)],
            capture_output=True,
            timeout=60,
            check=False,
        )
        now = there(folder)
        if done.returncode == 0:
            assert now == NEW
            break
        assert done.returncode == -signal.SIGKILL, done
        is_new = now == NEW and package.check(folder, NEW, "digest") == {}
        if now != OLD and not is_new:
            mixes += 1
            assert JOURNAL in package.check(folder, NEW, "digest"), step
            assert JOURNAL in package.check(folder, OLD, "digest"), step
        write(folder, NEW)
        assert there(folder) == NEW
        assert package.check(folder, NEW, "digest") == {}
        assert sorted(file.name for file in folder.glob(".*")) == [MANIFEST], step
    else:
        raise AssertionError("the write never ended")
    assert step > 10 and mixes >= 3, "kills in the middle were tried"


def test_two_writes_at_once_do_not_meet(tmp_path: Path) -> None:
    """The second is told to wait; a lock that was left by a dead process is none."""
    with package._alone(tmp_path), pytest.raises(MainstayError, match="another process is writing"):
        write(tmp_path, OLD)
    write(tmp_path, OLD)


PATHS = st.sampled_from(["a", "b/c", "b/d", "e/f/g"])
FILES = st.dictionaries(PATHS, st.sampled_from(["1", "2"]))


@settings(deadline=None, max_examples=60)
@given(st.lists(FILES, min_size=1, max_size=4), st.dictionaries(PATHS, st.just("mine"), max_size=1))
def test_any_writes_after_each_other_end_in_the_last_or_in_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, writes: list[dict[str, str]], mine: dict[str, str]
) -> None:
    """And a person's file is there after all of them, as it was."""
    folder = tmp_path_factory.mktemp("package")
    for path, text in mine.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    for files in writes:
        if any(path in files for path in mine):
            before = there(folder)
            with pytest.raises(MainstayError):
                write(folder, files)
            assert there(folder) == before
        else:
            write(folder, files)
            assert there(folder) == {**files, **mine}
