"""Documents that people write are refused with file, line and column, and never guessed at."""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay.architect.diagnose import scenario as scenario_module
from mainstay.architect.diagnose.scenario import Scenario, load_scenario
from mainstay.architect.document import Document, json_value
from mainstay.architect.errors import MainstayError

SMALL = """\
service:
  command: run me $PORT
requests:
  pay:
    send: POST /pay
    json: {amount: 80, code: "0123", rate: 1.5, ok: true, none: null}
    form_: x
"""


def refused(tmp_path: Path, content: str | bytes) -> str:
    file = tmp_path / "scenario.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(MainstayError) as caught:
        load_scenario(file)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(file), "scenario.yaml")


def load(tmp_path: Path, content: str) -> Scenario:
    file = tmp_path / "scenario.yaml"
    file.write_text(content)
    return load_scenario(file)


def test_the_documented_scenarios_load(tmp_path: Path) -> None:
    """Both examples in the documentation are scenarios, and the second one uses every key there is."""
    text = inspect.getdoc(scenario_module) or ""
    blocks = [textwrap.dedent(block) for block in re.findall(r"::\n\n((?:(?:    .*)?\n)+)", text)]
    short, full = (load(tmp_path, block) for block in blocks)
    assert short.pairs() == [("withdraw", "withdraw")]
    assert full.name == "checkout"
    assert full.requests["sign in"].save["number"].regex == r"order (\d+)"
    assert full.setup[3].request == "place order"
    written = set(re.findall(r"(?m)(?:^|[{, ])(\w+):", "\n".join(blocks)))
    for model in (scenario_module.Scenario, scenario_module.Request, scenario_module.ServiceModel):
        keys = {field.alias or name for name, field in model.model_fields.items() if not field.exclude}
        assert keys <= written, keys - written


def test_an_unknown_key_is_named_with_the_nearest(tmp_path: Path) -> None:
    """Line, column, and what was probably meant."""
    assert refused(tmp_path, SMALL) == "scenario.yaml:7:5: unknown key 'form_' (did you mean 'form'?)"


def test_json_keeps_its_types(tmp_path: Path) -> None:
    """Plain scalars are JSON's, quoted ones are text."""
    request = load(tmp_path, SMALL.replace("form_: x", "expect: 201")).requests["pay"]
    assert request.content == {"amount": 80, "code": "0123", "rate": 1.5, "ok": True, "none": None}
    assert request.expect == [201]


def test_text_stays_text(tmp_path: Path) -> None:
    """A password of digits, `no` and a version are what was written."""
    content = SMALL.replace("form_: x", "headers: {a: 0123, b: no, c: 1.10}").replace("json", "# json")
    assert load(tmp_path, content).requests["pay"].headers == {"a": "0123", "b": "no", "c": "1.10"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "scenario.yaml is empty; write a document in it"),
        ("service: [", ": this is not YAML"),
        ("a: 1\na: 2\n", "scenario.yaml:2:1: the key 'a' appears twice"),
        ("a: &x [1]\nb: *x\n", "scenario.yaml:2:4: aliases (*x) are not read; write the value out"),
        ("[" * 10_000, "scenario.yaml:1:51: this is nested deeper than 50 levels"),
        (b"service:\n  \xff\n", "scenario.yaml:2:3: the byte 0xFF is not UTF-8; save the file as UTF-8"),
        (b"x" * 50_000_000, "scenario.yaml is larger than 1 MB"),
        ("a: \x00", "scenario.yaml"),
        ("? [1]\n: 2\n", "scenario.yaml:1:3: a key must be a plain word"),
        ("requests: {a: GET /}\n", "'service' is missing"),
        ("- 1\n", "scenario.yaml:1:1:"),
        (
            SMALL.replace("form_: x", "before: [pya]"),
            "7:14: there is no request named 'pya' (did you mean 'pay'?)",
        ),
        (SMALL.replace("form_: x", "expect: many"), "expect"),
        (SMALL.replace("form_: x", "body: both"), "a request has one body"),
        (SMALL.replace("form_: x", "save: {a: id}"), "is not a JSON path"),
        (SMALL.replace("form_: x", "save: {a: {regex: '('}}"), "is not a regular expression"),
        (SMALL.replace("form_: x", "save: {a: {css: '[['}}"), "is not a CSS selector"),
        (
            SMALL.replace("POST /pay", "PAY /pay").replace("form_: x", ""),
            "'PAY /pay' is not a method and a path",
        ),
        (SMALL.replace("form_: x", "").replace("run me $PORT", "'run \"me'"), "cannot be split into words"),
    ],
)
def test_what_is_no_scenario_is_refused_in_one_line(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    """With the place where there is one."""
    assert message in refused(tmp_path, content)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    """No traceback."""
    with pytest.raises(MainstayError, match="does not exist"):
        load_scenario(tmp_path / "nothing.yaml")
    with pytest.raises(MainstayError, match="cannot be read"):
        load_scenario(tmp_path)


texts = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=9)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)


@given(json_values)
def test_json_is_yaml(value: object) -> None:
    """Any JSON text is a document, and reads as the same value."""
    assert json_value(Document.parse(json.dumps({"a": value}, ensure_ascii=False), "x").value) == {"a": value}


@given(st.text(max_size=200))
def test_any_text_is_a_document_or_refused(text: str) -> None:
    """Never another error."""
    try:
        Document.parse(text, "x")
    except MainstayError as error:
        assert str(error).startswith("x")
