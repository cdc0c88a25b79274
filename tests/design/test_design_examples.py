"""Examples: valid against the schemas beside them, in the file, the same every time, and such as people would send."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from blueprint_text import result_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_blueprints import linked, sources

from mainstay.architect.design.contracts import asyncapi, openapi, schema_files
from mainstay.architect.design.contracts.examples import Examples
from mainstay.architect.design.contracts.json_schema import DIALECT, Schemas
from mainstay.architect.design.contracts.payloads import event_schema, reply_schema, request_schema
from mainstay.architect.design.generated import Example, Generated
from mainstay.architect.design.reading import Source
from mainstay.architect.design.shapes import Type
from mainstay.architect.design.study import Result, study_file

BLUEPRINTS = sorted((Path(__file__).parents[2] / "examples" / "blueprints").glob("*.yaml"))
CHECKED = jsonschema.Draft202012Validator.FORMAT_CHECKER


def files(result: Result) -> Iterator[Generated]:
    for module in (openapi, asyncapi, schema_files):
        yield from module.generate(result)


def wrong(examples: list[Example]) -> list[str]:
    """Which examples their schemas refuse, and why."""
    return [
        f"{example.name}: {error.message}"
        for example in examples
        for error in jsonschema.Draft202012Validator(example.schema, format_checker=CHECKED).iter_errors(
            example.value
        )
    ]


@pytest.mark.parametrize("file", BLUEPRINTS, ids=lambda file: file.stem)
def test_every_example_of_every_shipped_blueprint_is_valid_and_in_its_file(file: Path) -> None:
    made = list(files(study_file(file)))
    examples = [example for generated in made for example in generated.examples]
    assert wrong(examples) == []
    for generated in made:
        if generated.kind != "json-schema":
            shown = list(_examples(yaml.safe_load(generated.text)))
            missing = [example.name for example in generated.examples if not _found(example.value, shown)]
            assert not missing, generated.path


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(sources())
def test_examples_of_any_blueprint_are_valid(source: Source) -> None:
    result = linked(source)
    assert wrong([example for generated in files(result) for example in generated.examples]) == []


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(sources())
def test_schemas_of_any_blueprint_are_schemas_and_contain_all_they_refer_to(source: Source) -> None:
    system = linked(source).study.system
    made = [
        schema
        for op in system.ops.values()
        for schema in (request_schema(system, op), reply_schema(system, op))
    ]
    made += [event_schema(system, event) for event in system.events]
    for schema in made:
        assert schema["$schema"] == DIALECT
        jsonschema.Draft202012Validator.check_schema(schema)
        schemas = Schemas(system, "", "#/$defs/", components=schema.get("$defs", {}))
        jsonschema.Draft202012Validator(schema, format_checker=CHECKED).validate(Examples(schemas).of(schema))


def test_every_body_and_parameter_has_an_example() -> None:
    for file in BLUEPRINTS:
        for generated in openapi.generate(study_file(file)):
            for holder in _holders(yaml.safe_load(generated.text)):
                assert "example" in holder or "examples" in holder, (generated.path, holder)


SHOP = """
services:
  shop:
    owns:
      Product: {sku: text unique, name: text, price: money, weight_grams: int >0, tags: text*, stock: int >=0}
      Customer: {id: uuid, name: text pii, email: email pii, phone: phone, born: date, country: iso3166}
      Order: {id: uuid, customer: Customer.id, lines: Line+, total: money >=100, paid_at: timestamp?}
      Line: {product: Product.sku, quantity: int >0 <=1, discount: decimal >=0 <=1}
      Folder: {id: uuid, name: text, inside: Folder, below: Folder*, beside: Folder?}
"""


def example(entity: str, text: str = SHOP) -> Any:
    system = result_of(text).study.system
    schemas = Schemas(system, "shop")
    return Examples(schemas).of(schemas.entity(system.entity(entity, "shop", ())))


def test_names_of_fields_guide_what_stands_in_them() -> None:
    assert example("Product") == {
        "sku": "LAMP-0142",
        "name": "Walnut desk lamp",
        "price": {"amount": "29.95", "currency": "EUR"},
        "weight_grams": 3,
        "tags": ["lighting"],
        "stock": 120,
    }
    customer = example("Customer")
    assert (customer["name"], customer["email"], customer["country"]) == (
        "Ada Lovelace",
        "ada@example.org",
        "NL",
    )


def test_one_row_has_one_id_and_bounds_are_kept() -> None:
    order, customer = example("Order"), example("Customer")
    assert order["customer"] == customer["id"]
    assert order["lines"] == [{"product": "LAMP-0142", "quantity": 1, "discount": "0.5"}]
    assert float(order["total"]["amount"]) >= 100
    assert order["paid_at"] == "2026-03-14T09:26:53Z"


def test_what_holds_itself_ends() -> None:
    folder = example("Folder")
    assert isinstance(folder["inside"], str)  # it must hold one: its key stands there
    assert (folder["below"], folder["beside"]) == ([], None)


def test_an_example_is_the_same_every_time() -> None:
    assert json.dumps(example("Order")) == json.dumps(example("Order"))


NUMBERS = st.integers(-1000, 1000) | st.floats(-1e6, 1e6).map(lambda number: float(f"{number:.6f}"))


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(("int", "float", "decimal", "money", "text")),
    st.sampled_from(("", ">", ">=")),
    st.sampled_from(("", "<", "<=")),
    NUMBERS,
    NUMBERS,
    st.sampled_from(("quantity", "total", "note", "x")),
)
def test_examples_keep_every_bound_that_some_value_can_keep(
    name: str, above: str, below: str, low: float, high: float, field: str
) -> None:
    text = f"{name} {f'{above}{low:f}' if above else ''} {f'{below}{high:f}' if below else ''}".strip()
    try:
        type = Type.parse(text)
    except ValueError:
        return  # nothing is between them
    system = result_of("services: {shop: {}}").study.system
    schemas = Schemas(system, "shop")
    schema = schemas.of(type, "shop")
    value = Examples(schemas).of(schema, field)
    whole = {**schema, "components": {"schemas": schemas.components}}
    jsonschema.Draft202012Validator(whole, format_checker=CHECKED).validate(value)
    number = float(value["amount"]) if name == "money" else len(value) if name == "text" else float(value)
    assert type.least is None or number >= type.least
    assert type.above is None or number > type.above
    assert type.most is None or number <= type.most
    assert type.below is None or number < type.below


def _holders(value: Any) -> Iterator[dict[str, Any]]:
    """Media types with a schema, and parameters and headers that are no reference."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "content":
                yield from (media for media in item.values() if "schema" in media)
            elif key == "parameters" and isinstance(item, list):
                yield from (one for one in item if "$ref" not in one and "content" not in one)
            yield from _holders(item)
    elif isinstance(value, list):
        for item in value:
            yield from _holders(item)


def _examples(value: Any) -> Iterator[Any]:
    """Every value that stands in a document as an example."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "example":
                yield item
            elif key == "examples":
                for one in item.values() if isinstance(item, dict) else item:
                    yield from (one[part] for part in ("value", "payload", "headers") if part in one)
            else:
                yield from _examples(item)
    elif isinstance(value, list):
        for item in value:
            yield from _examples(item)


def _found(value: Any, shown: list[Any]) -> bool:
    """It stands there, or within the data of an event that a stream is shown with."""
    return value in shown or any(
        isinstance(text, str) and f"data: {json.dumps(value, ensure_ascii=False)}\n" in text for text in shown
    )
