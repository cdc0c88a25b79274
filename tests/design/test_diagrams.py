"""Diagrams say what the blueprint says, and the renderer takes them."""

from __future__ import annotations

import re

import pytest
from blueprint_text import result_of

from mainstay.architect.design.generated import Generated, generate
from mainstay.architect.design.site.drawing import draw, installed, unique

SHOP = """
needs: {region: eu}
actors:
  shopper: {auth: oidc, clients: [web]}
  end: {auth: mtls}
depends:
  stripe: {kind: payment, sends: Captured}
  adyen: {kind: payment}
parts:
  log: kafka
services:
  orders:
    copies: 3
    owns:
      Order:
        {id: uuid, line: Line+, product: Product.sku, mail: email pii, status: pending > paid > sent; pending > lost}
      Line: {sku: text, n: int >0}
    does:
      place:
        {by: shopper, takes: {n: int}, gives: Order | SoldOut, emits: Placed, saga: true,
        calls: [stock.reserve, stock.count else nothing, pay]}
      pay: {calls: stripe within 2s retry 2 else adyen}
      paid: {on: Captured, moves: Order paid}
      tell: {by: shopper, calls: [end, stock.count later], creates: Line}
  stock:
    speaks: [grpc]
    owns:
      Product: {sku: text unique, n: int}
    does:
      reserve: {takes: {n: int}, changes: Product.n, undo: release}
      release: {takes: {n: int}, changes: Product.n}
      count: {gives: Product}
      watch: {on: Placed, reads: Product}
"""


@pytest.fixture(scope="module")
def diagrams() -> dict[str, Generated]:
    return {file.path: file for file in generate(result_of(SHOP)) if file.kind == "mermaid"}


def test_containers_show_what_is_waited_for_and_what_is_not(diagrams: dict[str, Generated]) -> None:
    text = diagrams["diagrams/containers.mmd"].text
    assert 'shopper -->|"HTTP"| orders' in text
    assert 'orders -->|"gRPC"| stock' in text
    assert 'orders -.->|"job"| stock' in text
    assert 'orders -.->|"events"| log' in text
    assert 'log -.->|"Placed"| stock' in text
    assert 'stripe -.->|"webhook"| orders' in text
    assert 'orders -.->|"webhook"| end_' in text, "a word of Mermaid's own is no name of a node"
    assert 'orders -->|"instead"| adyen' in text


def test_a_sequence_shows_the_branches_where_it_fails(diagrams: dict[str, Generated]) -> None:
    text = diagrams["diagrams/sequences/orders.place.mmd"].text
    lines = [line.strip() for line in text.splitlines()]
    assert "orders->>+stock: reserve, within 1s" in lines
    assert "Note over orders: goes on with nothing" in lines
    assert "orders->>+stripe: call, 3 attempts of 2s" in lines
    assert "orders->>adyen: adyen instead" in lines
    (event, *_) = [at for at, line in enumerate(lines) if line.startswith("orders--)")]
    assert event > lines.index("alt it succeeds"), "nothing is told of where it ends with a problem"
    assert "orders->>stock: release, if it took effect" in lines, "who waited too long does not know"
    assert "orders->>stock: release" in lines, "what is done is undone where a later call fails"
    assert lines.index("orders->>stock: release") > lines.index("orders->>adyen: adyen instead")
    assert "else SoldOut" in lines
    assert "orders--)stock: Placed: watch" in lines
    opened = len([line for line in lines if re.match(r"(opt|alt|par|loop)\b", line)])
    assert opened == lines.count("end")


def test_states_name_the_operation_of_each_step_and_the_steps_that_none_takes(
    diagrams: dict[str, Generated],
) -> None:
    lines = [line.strip() for line in diagrams["diagrams/states/orders.Order.mmd"].text.splitlines()]
    assert lines[1] == "[*] --> pending"
    assert "pending --> paid: paid" in lines
    assert "paid --> sent: nothing moves it" in lines
    assert "sent --> [*]" in lines and "lost --> [*]" in lines


def test_entities_tell_references_within_a_database_from_those_across(diagrams: dict[str, Generated]) -> None:
    text = diagrams["diagrams/entities/orders.mmd"].text
    assert 'Order ||--|{ Line : "line"' in text
    assert 'Order }o..|| Product : "product"' in text
    assert 'email mail "pii"' in text


def test_the_context_map_leads_from_whose_words_are_used(diagrams: dict[str, Generated]) -> None:
    text = diagrams["diagrams/context_map.mmd"].text
    assert re.search(r'stock ==>\|"reserve, count, .*"\| orders', text)
    assert 'orders ==>|"Placed"| stock' in text


def test_a_large_system_is_drawn_by_neighbours() -> None:
    services = "".join(
        f"  s{at}:\n    owns: {{E{at}: {{id: uuid}}}}\n    does:\n"
        f"      go: {{gives: E{at}, calls: [s{(at + 1) % 60}.go later]}}\n"
        for at in range(60)
    )
    made = [file for file in generate(result_of(f"services:\n{services}")) if "containers" in file.path]
    assert len(made) == 61
    assert all(file.text.count("\n") < 200 for file in made)


@pytest.mark.skipif(not installed(), reason="mermaidx is not installed (extra validate)")
def test_the_renderer_takes_each_kind(diagrams: dict[str, Generated]) -> None:
    for path in (
        "diagrams/containers.mmd",
        "diagrams/context_map.mmd",
        "diagrams/deployment.mmd",
        "diagrams/sequences/orders.place.mmd",
        "diagrams/states/orders.Order.mmd",
        "diagrams/entities/orders.mmd",
    ):
        svg = unique(draw(diagrams[path].text), "d7", 'a "title"')
        assert svg.startswith("<svg") and 'id="d7"' in svg and "&quot;title&quot;" in svg
        assert "my-svg" not in svg and "<script" not in svg


@pytest.mark.skipif(not installed(), reason="mermaidx is not installed (extra validate)")
def test_what_is_no_diagram_is_refused() -> None:
    with pytest.raises(ValueError):
        draw("flowchart LR\n  a -->|never ended\n")
