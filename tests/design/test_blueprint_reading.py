"""Bad input: each kind is refused in one sentence with file, line and column, and with what is right."""

from __future__ import annotations

import os
import select
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mainstay.architect.design.reading import key_of, read_source, way
from mainstay.architect.design.study import study_file
from mainstay.architect.errors import MainstayError

H = "blueprint: x\n"
EXAMPLE = (Path(__file__).parents[2] / "examples" / "blueprints" / "order-management.yaml").read_bytes()


def refused(content: str | bytes) -> str:
    """The sentence with which a file is refused."""
    file = Path("b.yaml")
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(MainstayError) as error:
        study_file(file)
    said = str(error.value)
    assert "\n" not in said
    return said


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own to stand in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def op(text: str, name: str = "b") -> str:
    """One operation in one service."""
    return f"{H}services:\n  a:\n    does:\n      {name}: {{{text}}}\n"


REFUSED: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "b.yaml is empty"),
    "only a comment": ("# hello\n", "b.yaml is empty"),
    "a list": ("- a\n", "b.yaml:1:1: a blueprint is a mapping that begins with: blueprint: NAME"),
    "no name": ("services: {}\n", "b.yaml:1:1: a blueprint begins with its name: blueprint: NAME"),
    "a key twice": (
        H + "services:\n  a: {}\n  a: {}\n",
        "b.yaml:4:3: the key 'a' appears twice, first in line 3",
    ),
    "a tab": (
        H + "services:\n\ta: {}\n",
        "b.yaml:3:1: this is not YAML: lines are indented by spaces, not tabs",
    ),
    "a NUL": (b"blueprint: x\nabout: a\x00b\n", "b.yaml:2:9: this is not YAML: the control character U+0000"),
    "Latin-1": (b"blueprint: x\nabout: caf\xe9\n", "b.yaml:2:11: the byte 0xE9 is not UTF-8"),
    "UTF-16": (H.encode("utf-16"), "b.yaml:1:1: this is UTF-16; save the file as UTF-8"),
    "UTF-32": (H.encode("utf-32"), "b.yaml:1:1: this is UTF-32"),
    "two documents": (f"---\n{H}---\n{H}", "b.yaml:3:1: this is not YAML: a file holds one document"),
    "a merge key": (H + "services:\n  a:\n    <<: {copies: 2}\n", "b.yaml:4:5: merge keys (<<) are not read"),
    "an alias": (H + "services:\n  a: &a {}\n  b: *a\n", "b.yaml:4:6: aliases (*a) are not read"),
    "aliases that explode": (
        "a: &a [x, x]\n"
        + "".join(f"{c}: &{c} [*{b}, *{b}]\n" for b, c in zip("abcdefgh", "bcdefghi", strict=True)),
        "b.yaml:2:8: aliases (*a) are not read",
    ),
    "a tag that runs": (H + 'about: !!python/object/apply:os.system ["id"]\n', "b.yaml:2:8: tags (!!python/"),
    "a tag that guesses": (H + 'about: !!int "3"\n', "b.yaml:2:8: tags (!!int) are not read"),
    "a thousand levels": (
        H + "a: " + "[" * 1000 + "]" * 1000,
        "b.yaml:2:53: this is nested deeper than 50 levels",
    ),
    "a thousand blocks": (
        H + "".join(" " * n + "a:\n" for n in range(1000)),
        "this is nested deeper than 50 levels",
    ),
    "calls within calls": (op("calls: [[[c]]]"), "b.yaml:5:19: this must be a call such as"),
    "50 MB": (H + "about: " + "x" * 50_000_000, "b.yaml is larger than 1 MB"),
    "a colon": (H + "about: a: b\n", "b.yaml:2:9: this is not YAML: a value with a colon"),
    "a quotation mark": (
        H + 'about: "x\n\n',
        "b.yaml:2:8: this is not YAML: the quotation mark that opens here",
    ),
    "an at sign": (H + "about: @x\n", "b.yaml:2:8: this is not YAML: put '@' in quotes"),
    "an unknown section": (
        H + "servces: {}\n",
        "b.yaml:2:1: unknown key 'servces' (did you mean 'services'?)",
    ),
    "an unknown key": (op("tkes: {}"), "b.yaml:5:11: unknown key 'tkes' (did you mean 'takes'?)"),
    "an unknown operation": (
        H + "services: {a: {does: {b: {calls: cc}, ccc: {}}}}\n",
        "(did you mean 'ccc'?)",
    ),
    "an unknown actor": (
        H + "actors: {shopper: {}}\nservices: {a: {does: {b: {by: shoper}}}}\n",
        "b.yaml:3:27: there is no actor named 'shoper' (did you mean 'shopper'?)",
    ),
    "an undo of itself": (
        op("undo: b"),
        "b.yaml:5:11: a.b cannot undo itself; name the operation that takes it back",
    ),
    "tenants told apart by nothing": (
        H + "tenancy: {isolation: row, by: tenent}\ntypes: {T: {tenant: uuid}}\n",
        "b.yaml:2:27: 'tenent' is neither an entity nor a field of one (did you mean 'tenant'?)",
    ),
    "an unknown type": (op("takes: {n: txt}"), "there is no type 'txt' (did you mean 'text'?)"),
    "an unknown word": (H + "services: {a: {store: postgres}}\n", "(did you mean 'postgresql'?)"),
    "an impossible unit": (
        H + "needs: {p99: 8 fortnights}\n",
        "b.yaml:2:9: '8 fortnights' is not a time such as",
    ),
    "more than all": (H + "needs: {availability: 101%}\n", "b.yaml:2:9: 101% cannot be"),
    "a bare share": (H + "needs: {availability: 0.999}\n", "write 99.9%"),
    "an exponent": (H + "needs: {p99: 1e400}\n", "b.yaml:2:9: '1e400' is not a time"),
    "a rate that cannot be": (
        H + "depends: {s: {limit: 99999999999999999999/s}}\n",
        "is more than there can be",
    ),
    "a number without end": (H + f"depends: {{s: {{limit: {'9' * 400}/s}}}}\n", "is more than there can be"),
    "a negative time": (H + "needs: {p99: -1s}\n", "b.yaml:2:9: '-1s' is not a time"),
    "a time-out of nothing": (op("timeout: 0s"), "b.yaml:5:11: 0s lets nothing through"),
    "nobody": (H + "needs: {team: 0}\n", "b.yaml:2:9: team: this must be at least 1, not '0'"),
    "a team of words": (
        H + "needs: {team: six}\n",
        "b.yaml:2:9: team: this must be a whole number, not 'six'",
    ),
    "not a number": (H + "assume: {tail: nan}\n", "b.yaml:2:10: tail: this must be a number, not 'nan'"),
    "maybe": (op("saga: maybe"), "saga: this must be true or false, not 'maybe'"),
    "a list of services": (H + "services: [a]\n", "b.yaml:2:1: services: this must be a mapping, not a list"),
    "a word for a service": (
        H + "services: {a: hello}\n",
        "b.yaml:2:12: a: this must be a mapping, not 'hello'",
    ),
    "a capital": (H + "services: {Orders: {}}\n", "b.yaml:2:12: 'Orders' is not a name of small letters"),
    "a list for a key": (H + "? [a]\n: b\n", "b.yaml:2:3: a key must be a plain word"),
    "one name twice": (
        H + "services: {a: {}}\ndepends: {a: {}}\n",
        "b.yaml:3:11: 'a' is also written at b.yaml:2:12",
    ),
    "states that nothing reaches": (
        H + "services: {a: {owns: {E: {s: a > b; c > d}}}}\n",
        "b.yaml:2:27: no step leads from 'a', the first state, to 'c'",
    ),
    "a state that leads to itself": (H + "services: {a: {owns: {E: {s: a > a}}}}\n", "leads to itself"),
    "a step that is not there": (
        H + "services: {a: {owns: {E: {s: a > b > c}}, does: {m: {moves: E a > c}}}}\n",
        "no step of E leads from 'a' to 'c'",
    ),
    "a peak below": (op("load: 50/s peak 3/s"), "the peak 3/s is below the usual 50/s"),
    "no schedule": (op("every: banana"), "b.yaml:5:11: 'banana' is neither a cron expression"),
    "no day": (
        H + "waivers: [{risk: a, reason: b, owner: c, until: 2027-13-01}]\n",
        "b.yaml:2:42: '2027-13-01' is not a day such as 2026-12-01",
    ),
    "a waiver without end": (
        H + "waivers: [{risk: a, reason: b, owner: c}]\n",
        "b.yaml:2:11: 'until' is missing",
    ),
    "no list of waivers": (
        H + "waivers: {a: b}\n",
        "b.yaml:2:1: waivers: this must be a list, not a mapping",
    ),
    "a file that is not there": (H + "include: other.yaml\n", "b.yaml:2:1: there is no file 'other.yaml'"),
    "a folder to include": (H + "include: .\n", "b.yaml:2:1: '.' is a folder; include names files"),
    "a device to include": (H + "include: /dev/zero\n", "b.yaml:2:1: '/dev/zero' is a link or a device"),
    "a file with a long name": (H + f"include: {'a' * 5000}\n", "b.yaml:2:1: there is no file 'aaa"),
    "a file with a NUL": (H + 'include: "a\\0b"\n', "b.yaml:2:1: include names files"),
    "a word for one of ours": (op("returns: text"), "unknown key 'returns' (did you mean 'gives'?)"),
    "a key of no kind": (
        H + "needs: {colour: blue}\n",
        "b.yaml:2:9: unknown key 'colour'; what can stand here: ",
    ),
    "a long key": (H + f"? {'k' * 9000}\n: 1\n", f"unknown key '{'k' * 80}'…"),
    "a decimal comma": (
        H + "needs: {availability: 99,9%, p99: 1s}\n",
        "b.yaml:2:26: unknown key '9%'; a comma within { } begins the next key",
    ),
    "a unit of others": (H + "needs: {p99: 2 seconds}\n", "such as 800ms, 2s, 15m or 30d; write 2s"),
    "a capital unit": (H + "needs: {p99: 900MS}\n", "; write 900ms"),
    "requests a second": (
        op("limit: 50 rps"),
        "'50 rps' is not a rate such as 100/s, 50/min or 10/d; write 50/s",
    ),
    "a size of others": (op("size: 2 gb"), "; write 2 GB"),
    "a type of others": (op("takes: {n: string}"), "there is no type 'string' (did you mean 'text'?)"),
    "a type of SQL": (op('takes: {n: "varchar(20)"}'), "'varchar(20)' is not a type such as"),
    "arrows for states": (
        H + "services: {a: {owns: {E: {s: a -> b}}}}\n",
        "b.yaml:2:27: 'a -> b' has no states that can be read; write states as in: pending > paid",
    ),
    "a dash in a name": (H + "services: {my-shop: {}}\n", "such as place_order; write my_shop"),
    "a camel": (op("", "placeOrder"), "; write place_order"),
    "a small entity": (H + "services: {a: {owns: {order_line: {}}}}\n", "; write OrderLine"),
    "a waiver without a reason": (
        H + "waivers: [{risk: a, reason: '', owner: c, until: 2027-12-01}]\n",
        "b.yaml:2:21: reason: this must not be empty",
    ),
    "a page beyond reason": (op(f"page: {'9' * 30}"), "page: this must be at most 1000000"),
    "a brace": (H + "needs: {p99: 1s\n", "a comma or } is missing here, for the { in line 2, column 8"),
    "a bracket in a type": (
        op("gives: list[Order]"),
        "b.yaml:5:22: this is not YAML: put a value with [ in it in quotes",
    ),
    "no colon": (
        H + "services:\n  a\n  b: {}\n",
        "b.yaml:3:3: this is not YAML: a colon is missing after this key",
    ),
    "a value and keys": (
        H + "about: hello\n  services: {}\n",
        "b.yaml:3:11: this is not YAML: this line is indented, and line 2, the key above it, has a value already",
    ),
    "an escape": (H + 'about: "\\q"\n', "this is no escape sequence"),
    "half a character": (
        H + 'about: "\\ud800"\n',
        "b.yaml:2:11: this is not YAML: this is no escape sequence",
    ),
    "more after the end": (H + "...\n" + H, "b.yaml:3:1: this is not YAML: a file holds one document"),
    "a long list": (
        op(f"calls: [{', '.join(['b'] * 1001)}]"),
        "b.yaml:5:11: a list of 1,001 items; more than 1,000 are not read",
    ),
    "many values": (
        H + f"services: {{a: {{does: {{b: {{calls: [{'c,' * 250_000}]}}}}}}}}",
        "more than 200,000 values",
    ),
    "itself": (H + "include: b.yaml\n", "b.yaml:2:1: files include each other in a ring: b.yaml -> b.yaml"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused_in_one_sentence_with_its_place(name: str) -> None:
    """And at once."""
    content, told = REFUSED[name]
    began = time.monotonic()
    assert told in refused(content)
    assert time.monotonic() - began < 10


def test_what_cannot_be_opened_is_said(here: Path) -> None:
    """A folder, nothing, links that go round, a pipe that nobody writes to, and a file that may not be read."""
    with pytest.raises(MainstayError, match=r"Is a directory"):
        study_file(here)
    (here / "nine.yaml").write_text(H)
    with pytest.raises(MainstayError, match=r"none\.yaml does not exist \(did you mean 'nine\.yaml'\?\)"):
        study_file(Path("none.yaml"))
    with pytest.raises(MainstayError, match="File name too long"):
        study_file(Path("a" * 5000))
    (here / "this.yaml").symlink_to("that.yaml")
    (here / "that.yaml").symlink_to("this.yaml")
    with pytest.raises(
        MainstayError, match=r"this\.yaml cannot be read \(Too many levels of symbolic links\)"
    ):
        study_file(Path("this.yaml"))
    (here / "nine.yaml").write_text(H + "include: this.yaml\n")
    with pytest.raises(
        MainstayError, match=r"nine\.yaml:2:1: 'this\.yaml' is a link or a device, and no file"
    ):
        study_file(Path("nine.yaml"))
    os.mkfifo("pipe.yaml")
    with pytest.raises(MainstayError, match=r"pipe\.yaml is empty"):
        study_file(Path("pipe.yaml"))
    secret = here / "secret.yaml"
    secret.write_text(H)
    secret.chmod(0)
    if not os.access(secret, os.R_OK):
        with pytest.raises(MainstayError, match="Permission denied"):
            study_file(secret)


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfblueprint: x\n",
        b"blueprint: x\r\nservices:\r\n  a:\r\n    does:\r\n      b:\r\n",
        b"blueprint: x\nservices:\n",
        b"blueprint: x\nactors:\ndepends:\nparts:\nevents:\ntypes:\nservices:\nneeds:\nassume:\nwaivers:\n",
        b"blueprint: x\nversion: 1.10\nneeds: {region: 7}\n",
        b"blueprint: x\nservices: {a: {}}\n",
        "blueprint: x\nabout: Bücher – 本\n".encode(),
    ],
)
def test_what_is_unusual_but_clear_is_read(content: bytes) -> None:
    """Byte order mark, CRLF, empty sections, a version that looks like a number."""
    Path("b.yaml").write_bytes(content)
    result = study_file(Path("b.yaml"))
    assert result.study.system.name == "x"


def test_files_in_a_ring_are_refused_and_what_two_need_is_read_once(here: Path) -> None:
    """A ring has its files named; two files may include the same third one."""
    (here / "a.yaml").write_text(H + "include: [b.yaml, c.yaml]\n")
    (here / "b.yaml").write_text("include: d.yaml\nservices: {b: {}}\n")
    (here / "c.yaml").write_text("include: d.yaml\nservices: {c: {}}\n")
    (here / "d.yaml").write_text("services: {d: {}}\n")
    assert list(study_file(Path("a.yaml")).study.system.services) == ["b", "d", "c"]
    (here / "d.yaml").write_text("include: b.yaml\n")
    with pytest.raises(MainstayError, match=r"d\.yaml:1:1: .* in a ring: b\.yaml -> d\.yaml -> b\.yaml"):
        study_file(Path("a.yaml"))


def test_a_blueprint_is_read_from_a_pipe() -> None:
    """As ``<(generate)`` hands it over in a shell: all of it, however slowly it is written."""
    os.mkfifo("pipe.yaml")
    text = (H + "services: {a: {}}\n").encode()

    def feed() -> None:
        with Path("pipe.yaml").open("wb", buffering=0) as pipe:  # which waits for a reader
            for at in range(len(text)):
                pipe.write(text[at : at + 1])

    reader = os.open("pipe.yaml", os.O_RDONLY | os.O_NONBLOCK)  # so that there is a writer before it is read
    writer = threading.Thread(target=feed)
    writer.start()
    try:
        while not select.select([reader], [], [], 10)[0]:
            raise AssertionError("nobody writes")
        assert list(study_file(Path("pipe.yaml")).study.system.services) == ["a"]
    finally:
        os.close(reader)
        writer.join()


def test_files_that_include_each_other_are_bounded(here: Path) -> None:
    """In a row and in number; and many of them are read at once."""
    for at in range(60):
        (here / f"{at}.yaml").write_text(f"include: {at + 1}.yaml\n")
    (here / "b.yaml").write_text(H + "include: 0.yaml\n")
    with pytest.raises(MainstayError, match=r"48\.yaml:1:1: files include each other more than 50 deep"):
        study_file(Path("b.yaml"))
    for at in range(1000):
        (here / f"{at}.yaml").write_text(f"services: {{s{at}: {{}}}}\n")
    began = time.process_time()
    (here / "b.yaml").write_text(H + f"include: [{', '.join(f'{at}.yaml' for at in range(500))}]\n")
    assert len(study_file(Path("b.yaml")).study.system.services) == 500
    assert time.process_time() - began < 5
    (here / "b.yaml").write_text(H + f"include: [{', '.join(f'{at}.yaml' for at in range(1000))}]\n")
    with pytest.raises(MainstayError, match=r"b\.yaml includes more than 1000 files"):
        study_file(Path("b.yaml"))


def test_errors_in_an_included_file_name_that_file(here: Path) -> None:
    """And what is written twice names both places."""
    (here / "a.yaml").write_text(H + "include: b.yaml\nservices: {a: {}}\n")
    (here / "b.yaml").write_text("# hello\nservices:\n  a: {}\n")
    with pytest.raises(MainstayError, match=r"b\.yaml:3:3: 'a' is already written at a\.yaml:3:12"):
        study_file(Path("a.yaml"))
    (here / "b.yaml").write_text("services:\n  b:\n    does:\n      c: {timeout: 5}\n")
    with pytest.raises(MainstayError, match=r"b\.yaml:4:11: '5' is not a time"):
        study_file(Path("a.yaml"))
    (here / "b.yaml").write_text("blueprint: y\n")
    with pytest.raises(MainstayError, match=r"b\.yaml:1:1: an included file has no 'blueprint:'"):
        study_file(Path("a.yaml"))


def test_ways_and_keys_undo_each_other(here: Path) -> None:
    """A key that is printed is a key that is understood."""
    Path("b.yaml").write_bytes(EXAMPLE)
    source = read_source(Path("b.yaml"))
    known = {where for where in source.places if len(where) >= 2 and not isinstance(where[-1], int)}
    for where in known:
        if where[0] in ("services", "depends", "actors", "needs", "assume") and where[2:3] != ("owns",):
            key = key_of(where)
            if key.count("."):
                found = way(source.value, key)
                assert found == where or where[2:] == ("does",), key


CHUNKS = st.sampled_from(
    [
        *(
            b"",
            b"\t",
            b"\x00",
            b"\xff",
            b"[",
            b"]",
            b"{",
            b"}",
            b":",
            b": ",
            b"- ",
            b"\n",
            b"\r\n",
            b"&a ",
            b"*a",
        ),
        *(
            b"!!x ",
            b"'",
            b'"',
            b"<<: ",
            b"? ",
            b"| ",
            b"> ",
            b"#",
            b"%",
            b"@",
            b"0",
            b"-1",
            b"9" * 30,
            b"1e400",
            b"s",
        ),
        *(
            b"/s",
            b" peak ",
            b"x0",
            b"else nothing",
            b"later",
            b"\n    ",
            b"\n---\n",
            b"\xef\xbb\xbf",
            b"*",
            b"+",
        ),
        *(b"?", b" | ", b"~", b"null", b"\xc2\x85"),
    ]
)
EDITS = st.lists(
    st.tuples(st.integers(0, len(EXAMPLE)), st.integers(0, 30), st.one_of(CHUNKS, st.binary(max_size=3))),
    min_size=1,
    max_size=4,
)


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(EDITS)
@example([(0, len(EXAMPLE), b"")])
def test_any_edit_of_a_blueprint_is_read_or_refused(edits: list[tuple[int, int, bytes]]) -> None:
    """In one line that begins with the file; never anything else."""
    content = EXAMPLE
    for at, gone, put in edits:
        content = content[:at] + put + content[at + gone :]
    Path("b.yaml").write_bytes(content)
    try:
        study_file(Path("b.yaml"))
    except MainstayError as error:
        assert str(error).startswith("b.yaml"), error
        assert "\n" not in str(error)


LINES = EXAMPLE.decode().split("\n")


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.integers(0, len(LINES) - 1), st.integers(0, len(LINES) - 1)), min_size=1, max_size=3
    )
)
def test_any_lines_moved_about_are_read_or_refused(moves: list[tuple[int, int]]) -> None:
    """Lines are taken out, doubled and put elsewhere."""
    lines = list(LINES)
    for source, target in moves:
        if source < target:
            lines.insert(target, lines[source])
        else:
            del lines[target % len(lines)]
    Path("b.yaml").write_text("\n".join(lines))
    try:
        study_file(Path("b.yaml"))
    except MainstayError as error:
        assert str(error).startswith("b.yaml"), error
