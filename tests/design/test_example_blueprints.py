"""The shipped blueprints: what is said of each, and that all of it can be written."""

from __future__ import annotations

import re
from datetime import date, timedelta
from pathlib import Path

import pytest

from mainstay.architect.design.generated import generate
from mainstay.architect.design.study import study_file

FOLDER = Path(__file__).parents[2] / "examples" / "blueprints"
FILES = sorted(FOLDER.glob("*.yaml"))
TODAY = date(2026, 11, 21)

SAID = {
    "api-gateway": [
        "availability-chain:keys.make_key",
        "availability-chain:places.place",
        "availability-chain:places.place_v1",
        "availability-chain:reviews.reviews",
        "availability-chain:reviews.write_review",
        "deprecated-operation:places.place_v1",
        "event-without-consumer:PlaceSuggested",
        "personal-data:reviews",
        "pool-size:places",
        "unguarded-operation:reviews.hide",
    ],
    "backends-for-frontends": [
        "availability-chain:mobile_bff.feed",
        "availability-chain:mobile_bff.trips",
        "availability-chain:web_bff.book",
        "availability-chain:web_bff.home",
        "availability-chain:web_bff.offer_page",
        "chatty-boundary:mobile_bff.feed->pricing",
        "chatty-boundary:web_bff.home->pricing",
        "dependency-limit:maps",
        "dependency-limit:pricing",
        "latency-budget:mobile_bff.feed",
        "latency-budget:web_bff.home",
        "missing-idempotency:bookings.book",
        "missing-rate-limit:accounts.sign_in",
        "missing-rate-limit:maps",
        "missing-rate-limit:pricing",
        "pool-size:accounts",
        "timeout-nesting:mobile_bff.feed",
        "timeout-nesting:web_bff.book",
        "timeout-nesting:web_bff.offer_page",
    ],
    "kafka-orders": [
        "event-without-consumer:Packed",
        "hot-row:stock.Bin",
        "missing-idempotency:packing.pack->warehouse_robots",
        "missing-idempotency:reporting.record",
        "missing-idempotency:stock.reserve",
        "personal-data:OrderPlaced",
        "personal-data:intake",
        "personal-data:intake.Address.street",
        "retry-amplification:acquirer",
        "retry-amplification:warehouse_robots",
        "state-never-reached:intake.Order",
        "state-never-reached:payments.Payment",
        "table-growth:intake",
        "table-growth:packing",
        "table-growth:payments",
        "table-growth:reporting",
        "unbounded-list:reporting.sales",
    ],
    "multi-tenant-saas": [
        "availability-chain:projects.board",
        "availability-chain:projects.list_tasks",
        "availability-chain:tenants.sign_up",
        "chatty-boundary:projects.board->tenants",
        "dual-write:tenants.sign_up->mail",
        "event-without-consumer:TenantCreated",
        "event-without-consumer:TenantSuspended",
        "event-without-emitter:InvoiceOverdue",
        "missing-rate-limit:integration",
        "missing-rate-limit:member",
        "missing-rate-limit:tenants.sign_up",
        "needless-part:bus",
        "pool-size:projects",
        "pool-size:tenants",
        "state-never-reached:billing.Invoice",
        "state-never-reached:tenants.Tenant",
        "table-growth:projects",
        "timeout-nesting:projects.board",
        "unbounded-list:projects.import_tasks:size",
        "unguarded-operation:projects.list_tasks",
    ],
    "observability": [
        "missing-idempotency:storage.keep_lines",
        "personal-data:storage.Line.message",
        "pool-size:storage",
        "table-growth:storage",
        "unbounded-list:collector.take_logs:size",
        "unbounded-list:explorer.fetch_spans",
        "unbounded-list:explorer.search_lines",
    ],
    "order-management": [
        "availability-chain:orders.place_order",
        "missing-idempotency:orders.place_order",
        "missing-idempotency:orders.ship->carrier",
        "missing-idempotency:payments.authorise",
        "missing-rate-limit:stripe",
        "personal-data:carrier",
        "personal-data:carrier:region",
        "personal-data:orders",
        "retry-amplification:carrier",
        "retry-amplification:stripe",
        "shared-data:inventory->orders",
        "stale-cache:orders.get_order",
        "table-growth:orders",
        "table-growth:payments",
        "timeout-nesting:orders.place_order",
        "timeout-nesting:payments.authorise",
        "unbounded-list:orders.list_orders",
    ],
    "realtime-collaboration": [
        "event-without-consumer:Commented",
        "pool-size:documents",
        "stale-cache:documents.document",
        "state-never-reached:documents.Document",
        "table-growth:documents",
        "unbounded-list:documents.documents",
    ],
    "realtime-notifications": [
        "availability-chain:inbox.notify",
        "personal-data:apns",
        "personal-data:apns:region",
        "personal-data:inbox",
        "pool-size:inbox",
        "retry-amplification:apns",
        "retry-amplification:fcm",
        "timeout-nesting:push.send_push",
    ],
    "resilient-calls": [
        "availability-chain:quotes.buy",
        "dependency-limit:weather",
        "latency-budget:quotes.buy",
        "missing-idempotency:quotes.buy->card_network",
        "missing-idempotency:quotes.quote",
        "retry-amplification:exchange",
        "retry-amplification:fares_north",
        "retry-amplification:scoring",
        "table-growth:quotes",
        "timeout-nesting:quotes.buy",
        "timeout-nesting:quotes.quote",
    ],
    "sign-in-across-services": [
        "availability-chain:documents.read_file",
        "availability-chain:sign_in.login",
        "availability-chain:sign_in.send_code",
        "chatty-boundary:documents.list_files->policies",
        "dependency-limit:directory",
        "event-without-consumer:RoleGranted",
        "latency-budget:documents.list_files",
        "latency-budget:sign_in.login",
        "latency-budget:sign_in.send_code",
        "missing-rate-limit:sign_in.login",
        "missing-rate-limit:sign_in.send_code",
        "personal-data:sign_in",
        "pool-size:documents",
        "pool-size:policies",
        "timeout-nesting:documents.list_files",
        "unguarded-operation:documents.remove_file",
    ],
    "stack-overflow-2016": [],
    "strangler": [
        "availability-chain:monolith.customer",
        "call-cycle:monolith",
        "deprecated-operation:monolith.list_invoices",
        "dual-write:billing.collect->bank",
        "saga-missing:monolith.end_contract",
        "shared-data:Invoice",
        "shared-data:billing->monolith",
        "shared-data:billing.final_invoice->monolith.Customer",
        "state-never-reached:monolith.Invoice",
        "timeout-nesting:billing.balance",
    ],
    "webhook-delivery": [
        "missing-idempotency:deliveries.plan",
        "unbounded-list:deliveries.deliveries",
        "unguarded-operation:deliveries.redeliver",
    ],
}
"""What an engineer has read and judged, in docs/design-truth.md. What is new or gone here is to be judged there."""


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_is_said_was_read_and_judged(file: Path) -> None:
    assert [risk.id for risk in study_file(file, TODAY).risks] == SAID[file.stem]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_whatever_is_said_can_be_waived_under_the_same_name_wherever_it_stands(
    file: Path, tmp_path: Path
) -> None:
    text = file.read_text(encoding="utf-8")
    waivers = "".join(
        f"\n  - {{risk: '{risk}', reason: known, owner: us, until: {TODAY}}}" for risk in SAID[file.stem]
    )
    moved = tmp_path / file.name
    moved.write_text(f"# One line more.\n\n{text}\nwaivers:{waivers}\n", encoding="utf-8")
    on, after = (study_file(moved, day).report for day in (TODAY, TODAY + timedelta(days=1)))
    assert not on.findings and len(on.suppressed) == len(SAID[file.stem])
    assert len(after.findings) == len(SAID[file.stem]) and not after.suppressed
    assert all("which is over" in finding.message for finding in after.findings)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_all_of_it_can_be_written_the_same_each_time(file: Path) -> None:
    first, second = (generate(study_file(file, TODAY)) for _ in range(2))
    assert [(each.path, each.text) for each in first] == [(each.path, each.text) for each in second]
    assert {each.kind for each in first} >= {"mermaid", "markdown"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_is_near_forty_lines_and_names_the_schema(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    assert 30 <= len(lines) <= 60
    match = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", lines[0])
    assert match is not None and (file.parent / match[1]).resolve().is_file()


def test_the_readme_lists_them_all() -> None:
    listed = re.findall(
        r"^\| `([a-z0-9-]+\.yaml)`", (FOLDER / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert sorted(listed) == [file.name for file in FILES]


def test_the_blueprint_of_the_readme_can_be_read(tmp_path: Path) -> None:
    readme = (FOLDER.parents[1] / "README.md").read_text(encoding="utf-8")
    block = re.search(r"## Design.*?```yaml\n(.*?)```", readme, re.DOTALL)
    assert block is not None
    (tmp_path / "blueprint.yaml").write_text(block[1], encoding="utf-8")
    result = study_file(tmp_path / "blueprint.yaml", TODAY)
    assert any(risk.id == "retry-amplification:stripe" for risk in result.risks)
