"""Verification: real validators see every file, and what they refuse is told with their name."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from blueprint_text import result_of

from mainstay.architect.design import validators
from mainstay.architect.design.generated import Example, Generated, generate
from mainstay.architect.design.verify import Mark, node_modules, verify

MODULES = Path(__file__).parent / "node" / "node_modules"
MAINSTAY = Path(sys.executable).parent / "mainstay"
SHOP = """\
blueprint: shop
actors:
  shopper: {auth: oidc, limit: 1/s}
services:
  orders:
    speaks: [http, grpc, graphql]
    owns:
      Order: {id: uuid, total: money, status: pending > paid}
    does:
      place_order: {by: shopper, takes: {total: money}, gives: Order, idempotent: key, emits: OrderPlaced}
      get_order: {by: shopper own, gives: Order}
      pay: {on: OrderPlaced, moves: Order paid}
"""


@pytest.fixture(autouse=True)
def modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The packages of Node.js that CI installs."""
    if MODULES.is_dir() and shutil.which("node"):
        monkeypatch.setenv("MAINSTAY_NODE_MODULES", str(MODULES))
    elif os.environ.get("MAINSTAY_REQUIRE_SERVICES"):
        pytest.fail(f"{MODULES} is missing; run npm ci in {MODULES.parent}")
    else:
        monkeypatch.setenv("MAINSTAY_NODE_MODULES", str(MODULES.parent / "none"))


@cache
def files() -> tuple[Generated, ...]:
    return tuple(generate(result_of(SHOP)))


def only(kind: str) -> list[Generated]:
    return [file for file in files() if file.kind == kind]


def marks(given: list[Generated]) -> dict[str, Mark]:
    return {mark.path: mark for mark in verify(given).marks}


def test_every_kind_of_file_is_seen_by_its_validators() -> None:
    """Each by the ones that are installed, named with their versions."""
    made = marks(list(files()))
    assert all(not mark.refused for mark in made.values()), [m for m in made.values() if m.refused]
    by_kind: dict[str, str] = {}
    for file in files():
        by_kind.setdefault(file.kind, made[file.path].said)
    assert "openapi-spec-validator 0." in by_kind["openapi"]
    assert "examples by jsonschema 4." in by_kind["openapi"]
    assert "graphql-core 3." in by_kind["graphql"] and "graphql-core 3." in by_kind["graphql-examples"]
    assert "protoc 1." in by_kind["protobuf"] and "buf 1." in by_kind["protobuf"]
    assert by_kind["mermaid"].startswith("validated by mermaidx 0.")
    assert "check-jsonschema 0." in by_kind["json-schema"]
    assert by_kind["markdown"] == "checked by us: its links resolve"
    if node_modules() == MODULES:
        assert "@asyncapi/parser 3." in by_kind["asyncapi"] and "spectral 6." in by_kind["asyncapi"]
        assert "spectral 6." in by_kind["openapi"]
    else:
        assert by_kind["asyncapi"].startswith("checked by our schema")


def test_what_spectral_warns_of_is_shown_and_refuses_nothing(tmp_path: Path) -> None:
    """What a blueprint cannot say, and scopes where there are no flows to list them in, are no warnings."""
    if node_modules() != MODULES:
        pytest.skip("Spectral is not installed")
    (file, *_) = only("openapi")
    made = marks(
        [
            file,
            replace(
                file, path="contracts/b.openapi.yaml", text=re.sub(r"  contact:\n    .*\n", "", file.text)
            ),
        ]
    )
    assert "warned" not in made[file.path].said, made[file.path].said
    mark = made["contracts/b.openapi.yaml"]
    assert not mark.refused and mark.warned
    assert "; warned of by spectral: line" in mark.said and "(info-contact)" in mark.said


def test_a_query_that_the_schema_does_not_know_is_refused() -> None:
    """Queries are held against the schema beside them."""
    (queries,) = only("graphql-examples")
    wrong = replace(queries, text=queries.text + "\nquery Lost { lost }\n")
    mark = marks([*only("graphql"), wrong])[queries.path]
    assert mark.refused and mark.refused[0].startswith("graphql-core: Cannot query field 'lost'")


BROKEN = {
    "openapi": ("openapi-spec-validator", "openapi: 3.1.0\ninfo: {title: x}\npaths: {}\n"),
    "graphql": ("graphql-core", "type Query { order: Ordr }\n"),
    "protobuf": ("protoc", 'syntax = "proto3";\npackage orders.v1;\nmessage Order { Ordr id = 1; }\n'),
    "mermaid": ("mermaidx", "flowchart LR\n  a --> --> b\n"),
    "json-schema": (
        "check-jsonschema",
        '{"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "strin"}',
    ),
    "asyncapi": ("", "asyncapi: 3.0.0\ninfo: {title: x, version: '1'}\noperations: {a: {action: sned}}\n"),
    "markdown": ("our check", "[lost](lost.md)\n"),
    "json": ("our check", "{"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_refused_by_name(kind: str) -> None:
    """A validator that accepts anything would be none."""
    tool, text = BROKEN[kind]
    path = "contracts/proto/orders/v1/orders.proto" if kind == "protobuf" else f"contracts/broken.{kind}"
    mark = marks([Generated(path, text, "Broken", kind)])[path]
    assert mark.said == "refused" and mark.refused
    assert mark.refused[0].startswith(tool), mark


def test_asyncapi_is_held_against_our_schema_where_the_parser_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And it is said what to install."""
    monkeypatch.setenv("MAINSTAY_NODE_MODULES", str(tmp_path))
    monkeypatch.setenv("PATH", "/nowhere")
    asyncapi = only("asyncapi")
    for mark in marks(asyncapi).values():
        assert mark.said.startswith("checked by our schema") and "@asyncapi/parser" in mark.said
    lost = replace(asyncapi[0], text=asyncapi[0].text.replace("'#/channels/", "'#/chanels/", 1))
    assert lost.text != asyncapi[0].text
    assert "leads nowhere" in marks([lost])[lost.path].refused[0]


def test_a_validator_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not validated, and why."""

    def missing(*given: object) -> validators.Said:
        raise ModuleNotFoundError("graphql")

    monkeypatch.setattr(validators, "graphql", missing)
    said = {mark.said for mark in marks(only("graphql")).values()}
    assert said == {"not validated: install Mainstay with its extra 'validate'"}


def test_a_wrong_example_is_refused_though_the_document_is_valid() -> None:
    """The usual validators do not look at examples."""
    file = next(file for file in only("openapi") if file.examples)
    wrong = Example("orders.get_order reply", {"id": 7}, {"properties": {"id": {"type": "string"}}})
    mark = marks([replace(file, examples=(*file.examples, wrong))])[file.path]
    assert mark.refused == ("jsonschema: example orders.get_order reply: id: 7 is not of type 'string'",)


def test_the_verb_verifies_and_writes_nothing_that_is_refused(tmp_path: Path) -> None:
    """With the marks in the report and in the manifest."""
    (tmp_path / "shop.yaml").write_text(SHOP)
    done = subprocess.run(
        [MAINSTAY, "design", "shop.yaml", "--verify", "--write", "out", "--quiet"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode in (0, 1), done
    assert "validated by buf" in done.stdout or "validated by protoc" in done.stdout
    assert "out: " in done.stdout and " written" in done.stdout
    manifest = (tmp_path / "out" / ".mainstay-design.json").read_text()
    assert "validated by openapi-spec-validator" in manifest
    assert (tmp_path / "out" / "site" / "index.html").exists()
    again = subprocess.run(
        [MAINSTAY, "design", "shop.yaml", "--check", "out"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert again.returncode == 0, "the question was whether it drifted, not what its risks are"
    assert again.stdout.strip() == "out is as the blueprint says", again


def test_numbers_of_fields_survive_a_new_field(tmp_path: Path) -> None:
    """What was written before is read before it is written over."""

    def written(text: str) -> list[str]:
        (tmp_path / "shop.yaml").write_text(text)
        command = [MAINSTAY, "design", "shop.yaml", "--write", "out", "-q"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False)
        assert " written" in done.stdout, done
        (file,) = (tmp_path / "out").rglob("orders.proto")
        return re.findall(r"Money total = [0-9]+;", file.read_text())

    before = written(SHOP)
    assert before
    assert written(SHOP.replace("{id: uuid, total", "{id: uuid, note: text, total")) == before
