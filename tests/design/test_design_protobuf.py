"""Protocol buffers that protoc compiles and buf finds in order, with numbers that never change."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from blueprint_text import result_of
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from grpc_tools import protoc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_blueprints import linked, sources
from test_design_graphql import BIG, HOSTILE, TWICE

from mainstay.architect.design.contracts import protobuf
from mainstay.architect.design.contracts.naming import exposed
from mainstay.architect.design.reading import Source
from mainstay.architect.design.study import Result, study_file

SHOP = """
version: 2.3.0
actors:
  peer: {auth: mtls}
services:
  stock_keeping:
    speaks: [grpc]
    owns:
      Product:
        {sku: text unique, price: money, seen: timestamp, took: duration, data: json, parts: Part*, hash: text secret,
        size: small | large, status: fresh > sold, note: text?}
      Part: {n: int, product: Product.sku}
    does:
      reserve: {by: peer, takes: {lines: Part+}, gives: nothing | SoldOut, changes: Product, idempotent: key}
      product: {by: peer, gives: Product, deprecated: 2026-01-01}
      products: {by: peer, gives: Product*, page: 50}
      sell: {by: peer, moves: Product sold}
      watch: {by: peer, kind: stream, gives: Product}
"""


def written(result: Result, root: Path) -> list[Path]:
    files = []
    for file in protobuf.generate(result):
        path = root / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text, encoding="utf-8")
        files.append(path)
    return [path for path in files if path.suffix == ".proto"]


def compiled(files: list[Path], root: Path) -> descriptor_pb2.FileDescriptorSet:
    """What protoc makes of some files."""
    out = root / "set.pb"
    well_known = Path(protoc.__file__).parent / "_proto"
    arguments = ["protoc", f"-I{root / 'contracts/proto'}", f"-I{well_known}", "--include_imports"]
    code = protoc.main([*arguments, f"--descriptor_set_out={out}", *map(str, files)])
    assert code == 0
    return descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return written(result_of(SHOP), tmp_path)[0]


def test_protoc_compiles_it_and_a_message_makes_the_round_trip(shop: Path, tmp_path: Path) -> None:
    made = compiled([shop], tmp_path)
    pool = descriptor_pool.DescriptorPool()
    for file in made.file:
        pool.Add(file)
    product = message_factory.GetMessageClass(pool.FindMessageTypeByName("test.stock_keeping.v2.Product"))
    value = {
        "sku": "LAMP-1",
        "price": {"amount": "29.95", "currency": "EUR"},
        "seen": "2026-03-14T09:26:53Z",
        "took": "1.500s",
        "data": {"a": [1, None]},
        "parts": [{"n": "3", "product": "LAMP-1"}],
        "size": "PRODUCT_SIZE_LARGE",
        "status": "PRODUCT_STATUS_SOLD",
    }
    message = json_format.ParseDict(value, product())
    assert json_format.MessageToDict(product.FromString(message.SerializeToString())) == value
    service = next(file for file in made.file if file.service).service[0]
    assert service.name == "StockKeepingService"
    assert {method.name: method.server_streaming for method in service.method}["Watch"] is True
    assert {method.name for method in service.method if method.options.deprecated} == {"Product"}


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(sources())
def test_protoc_compiles_any_blueprint(source: Source) -> None:
    with tempfile.TemporaryDirectory() as folder:
        if files := written(linked(source), Path(folder)):
            compiled(files, Path(folder))


@settings(
    deadline=None, max_examples=8, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(sources(kinds=("bulk", "long"), speaks=("graphql, grpc", "grpc")))
def test_any_bulk_and_any_long_operation_compile_and_are_in_order(source: Source) -> None:
    result = linked(source)
    with tempfile.TemporaryDirectory() as folder:
        files = written(result, Path(folder))
        if not files:
            return
        described = compiled(files, Path(folder))
        test_buf_finds_it_in_order(files[0], Path(folder))
    methods = [method for file in described.file for each in file.service for method in each.method]
    messages = {f".{file.package}.{one.name}": one for file in described.file for one in file.message_type}
    system = result.study.system
    kinds = Counter(op.kind for service in system.services for op in exposed(system, service, "grpc"))
    replies = Counter(field.name for method in methods for field in messages[method.output_type].field)
    speaking = [service for service in system.services if exposed(system, service, "grpc")]
    asking = sum(any(op.kind == "long" for op in exposed(system, service, "grpc")) for service in speaking)
    assert (replies["results"], replies["operation"]) == (kinds["bulk"], kinds["long"] + asking)


def messages_of(text: str, tmp_path: Path) -> dict[str, Any]:
    """The class of each message of a blueprint's one package."""
    described = compiled(written(result_of(text), tmp_path), tmp_path)
    pool = descriptor_pool.DescriptorPool()
    for file in described.file:
        pool.Add(file)
    own = next(file for file in described.file if file.service)
    names = [message.name for message in own.message_type]
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{own.package}.{name}"))
        for name in names
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (
            "PlaceAllResponse",
            {
                "results": [
                    {"value": {"id": "a", "tags": ["b"]}},
                    {
                        "index": 1,
                        "problem": {"code": 9, "message": "There is none left.", "reason": "OutOfStock"},
                    },
                ]
            },
        ),
        ("ForgetResponse", {"results": [{"done": {}}, {"index": 1, "problem": {"code": 5}}]}),
        ("TagsOfResponse", {"results": [{"value": {"values": ["a", "b"]}}]}),
        ("ExportResponse", {"operation": {"id": "a", "progress": 40}}),
        (
            "GetOperationResponse",
            {
                "operation": {
                    "id": "a",
                    "done": True,
                    "progress": 100,
                    "exportResult": {"value": "https://a.example"},
                }
            },
        ),
        ("GetOperationResponse", {"operation": {"id": "a", "done": True, "recountResult": {}}}),
        (
            "GetOperationResponse",
            {"operation": {"id": "a", "done": True, "listAllResult": {"orders": [{"id": "b"}]}}},
        ),
        ("GetOperationResponse", {"operation": {"id": "a", "done": True, "problem": {"reason": "TooMany"}}}),
    ],
)
def test_replies_of_bulk_and_long_operations_make_the_round_trip(
    name: str, value: dict[str, Any], tmp_path: Path
) -> None:
    made = messages_of(BIG, tmp_path)[name]
    message = json_format.ParseDict(value, made())
    assert json_format.MessageToDict(made.FromString(message.SerializeToString())) == value


def test_an_item_either_came_to_something_or_failed(tmp_path: Path) -> None:
    made = messages_of(BIG, tmp_path)
    for name, field in (("PlaceAllResult", "value"), ("Operation", "export_result")):
        assert {
            made[name].DESCRIPTOR.fields_by_name[one].containing_oneof.name for one in (field, "problem")
        } == {"outcome"}
    assert set(made["PlaceAllRequest"].DESCRIPTOR.fields_by_name) == {"orders"}, (
        "there are no pages of results"
    )
    assert set(made["ForgetRequest"].DESCRIPTOR.fields_by_name) == {"orders"}, "it is not about one row"


@pytest.mark.parametrize("text", [BIG, TWICE], ids=["big", "twice"])
def test_buf_finds_bulk_and_long_operations_in_order(text: str, tmp_path: Path) -> None:
    test_buf_finds_it_in_order(compiled_files(text, tmp_path)[0], tmp_path)


def compiled_files(text: str, root: Path) -> list[Path]:
    """The files of a blueprint, which protoc takes."""
    files = written(result_of(text), root)
    compiled(files, root)
    return files


def test_a_long_operation_that_is_gone_keeps_its_number_in_what_others_come_to() -> None:
    first = result_of(BIG)
    before = {file.path: file.text for file in protobuf.generate(first)}
    second = result_of(BIG.replace("      export: {by: shopper, kind: long, gives: file | TooMany}\n", ""))
    second.previous = before
    texts = [next(text for path, text in before.items() if path.endswith(".proto"))]
    texts.append(next(file.text for file in protobuf.generate(second) if file.path.endswith(".proto")))
    numbers = [
        dict(
            re.findall(r"(\w+_result) = (\d+);", text.partition("message Operation {")[2].partition("\n}")[0])
        )
        for text in texts
    ]
    gone = numbers[0].pop("export_result")
    assert numbers[1] == numbers[0]
    assert f'  reserved {gone};\n  reserved "export_result";' in texts[1]


def test_buf_finds_hostile_names_in_order(tmp_path: Path) -> None:
    written(result_of(HOSTILE), tmp_path)
    test_buf_finds_it_in_order(tmp_path, tmp_path)


def test_buf_finds_values_of_an_enum_in_order_whose_name_has_digits_and_single_letters(
    tmp_path: Path,
) -> None:
    text = """
services:
  stock:
    speaks: grpc
    does:
      place_v2: {takes: {a_b: small | large, x: a1b | b2}}
      ship2_box: {takes: {b: small | large}}
"""
    test_buf_finds_it_in_order(compiled_files(text, tmp_path)[0], tmp_path)


def test_buf_finds_it_in_order(shop: Path, tmp_path: Path) -> None:
    buf = Path(sys.executable).with_name("buf")
    root = tmp_path / "contracts/proto"
    (root / "buf.yaml").write_text("version: v2\nlint:\n  use: [STANDARD]\n")
    ran = subprocess.run([buf, "lint", root], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout + ran.stderr) == (0, "")


def test_secrets_do_not_go_over_the_wire(shop: Path) -> None:
    assert "hash" not in shop.read_text()


def numbered(text: str) -> dict[str, int]:
    """The numbers of one message's fields."""
    body = text.partition("message Product {")[2].partition("\n}")[0]
    return {name: int(number) for name, number in re.findall(r"(\w+) = (\d+);", body)}


FIELDS = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), min_size=1, max_size=5, unique=True)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(FIELDS, min_size=2, max_size=4))
def test_a_number_is_kept_for_ever_and_never_used_again(versions: list[list[str]]) -> None:
    previous: dict[str, str] = {}
    ever: dict[str, int] = {}
    for fields in versions:
        owns = ", ".join(f"{name}: text" for name in fields)
        result = result_of(
            f"services: {{s: {{speaks: grpc, owns: {{Product: {{{owns}}}}}, does: {{get: {{gives: Product}}}}}}}}"
        )
        result.previous = previous
        previous = {file.path: file.text for file in protobuf.generate(result)}
        text = next(text for path, text in previous.items() if path.endswith(".proto"))
        now = numbered(text)
        assert set(now) == set(fields)
        for name, number in now.items():
            assert ever.setdefault(name, number) == number
        assert len(set(ever.values())) == len(ever)
        gone = {name: ever[name] for name in ever if name not in fields}
        body = text.partition("message Product {")[2].partition("\n}")[0]
        for name, number in gone.items():
            reserved = "".join(re.findall(r"reserved .*;", body))
            assert f'"{name}"' in reserved and re.search(rf"\b{number}\b", reserved)


def test_numbers_that_somebody_broke_are_made_anew() -> None:
    result = result_of(SHOP)
    result.previous = {protobuf.NUMBERS: '{"a": {"b": -1, "c": "x"}, "d": 3'}
    assert any(file.path == protobuf.NUMBERS for file in protobuf.generate(result))
    assert protobuf.read_numbers('{"a": {"b": -1, "c": "x", "e": 4}, "d": 3}') == {"a": {"e": 4}}


@pytest.mark.parametrize(
    "file", sorted(Path("examples/blueprints").glob("*.yaml")), ids=lambda file: file.stem
)
def test_protoc_compiles_the_examples(file: Path, tmp_path: Path) -> None:
    result = study_file(file)
    if files := written(result, tmp_path):
        compiled(files, tmp_path)
        numbers = json.loads((tmp_path / protobuf.NUMBERS).read_text())
        assert numbers
