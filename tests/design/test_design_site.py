"""The site opens from disk, asks nobody for anything, and every link in it leads somewhere."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from blueprint_text import TODAY, result_of
from cluster import free_port
from lxml import html
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from mainstay.architect.design.generated import generate
from mainstay.architect.design.site import PAGES, Turned, write_site
from mainstay.architect.design.site.drawing import drawer, installed
from mainstay.architect.design.study import study_file

SHOP = """
about: "sells <b>things</b> & more"
needs: {availability: 99.99%, p99: 100ms, team: 4}
actors:
  shopper: {auth: oidc, clients: [web]}
depends:
  bank: {kind: payment, limit: 1/s}
services:
  orders:
    owns:
      Order: {id: uuid, total: money, customer: text pii, status: pending > paid}
    does:
      place: {by: shopper, takes: {total: money}, gives: Order, load: 50/s, calls: bank retry 2, emits: Placed}
      get: {by: shopper, gives: Order, load: 100/s, cache: 30s until Placed}
      list: {by: shopper own, gives: Order*}
waivers:
  - {risk: "unbounded-list:orders.list", reason: "nobody has many", owner: ann, until: 2027-01-01}
"""
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    result = result_of(SHOP)
    files = generate(result)
    # Two pictures are enough to see that several stand on one page.
    chosen = [file.text for file in files if file.kind == "mermaid"][:2]
    site = write_site(
        result,
        files,
        draw=drawer(chosen),
        sensitivity=[Turned("bank.limit", "1/s", "retry-amplification:bank moves by 10%")],
        marks={"contracts/orders.openapi.yaml": "validated by somebody 1.2"},
    )
    root = tmp_path_factory.mktemp("package")
    for path, text in {**{file.path: file.text for file in files}, **site}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    return root


def test_every_link_leads_somewhere(folder: Path) -> None:
    seen = 0
    for page, _ in PAGES:
        tree = html.parse(str(folder / "site" / page))
        ids = tree.xpath("//@id")
        assert len(ids) == len(set(ids)), f"an id stands twice on {page}"
        for link in tree.xpath("//a/@href | //link/@href"):
            file, _, place = unquote(link).partition("#")
            assert ":" not in file, f"{page} leads out of the package: {link}"
            target = (folder / "site" / file).resolve() if file else folder / "site" / page
            assert target.is_file(), f"{page}: {link}"
            if place:
                assert place in html.parse(str(target)).xpath("//@id"), f"{page}: {link}"
            seen += 1
    assert seen > 40


def test_a_risk_shows_formula_inputs_places_and_who_answers(folder: Path) -> None:
    tree = html.parse(str(folder / "site" / "risks.html"))
    card = tree.xpath("//article[@id='retry-amplification-bank']")[0]
    text = " ".join(card.text_content().split())
    assert "150/s × 3 (orders.place) = 450/s > 1/s" in text
    assert re.search(r"bank\.limit ?1/s ?line \d+", text)
    assert card.xpath(".//a[@href='#assumed']")
    waived = tree.xpath("//article[@id='unbounded-list-orders-list']")[0].text_content()
    assert "Answered for: nobody has many (ann, until 2027-01-01)" in waived
    assert "bank.limit" in tree.xpath("//h2[@id='sensitivity']/following-sibling::div")[0].text_content()


def test_every_number_that_is_written_leads_to_its_line(folder: Path) -> None:
    """The blueprint is a page, and each of its lines a place on it."""
    lines = html.parse(str(folder / "site" / "blueprint.html"))
    found = 0
    for card in html.parse(str(folder / "site" / "risks.html")).xpath("//article"):
        for row in card.xpath(".//tbody/tr[not(@class='assumed')]"):
            key = row.xpath("string(td[1])")
            link = row.xpath("td[3]/a/@href")
            if not link:
                assert row.xpath("string(td[3])") == "computed, or not written", key
                continue
            line = lines.xpath(f"string(//*[@id='{link[0].partition('#')[2]}'])")
            assert key.split(" ")[0].split(".")[-1] in line or "->" in key, (key, line)
            found += 1
    assert found >= 5


def test_a_site_names_its_blueprint_alike_wherever_it_is_written_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the folder of the blueprint: no path of a machine stands in it, not of an included file either."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "shop.yaml").write_text("blueprint: shop\ninclude: ../b/orders.yaml\n")
    (tmp_path / "b" / "orders.yaml").write_text(SHOP.replace('about: "sells <b>things</b> & more"', ""))
    sites = []
    for stand, name in (
        (tmp_path / "a", "shop.yaml"),
        (tmp_path, "a/shop.yaml"),
        (Path("/"), f"{tmp_path}/a/shop.yaml"),
    ):
        monkeypatch.chdir(stand)
        result = study_file(Path(name), TODAY)
        sites.append(write_site(result, generate(result)))
    assert sites[0] == sites[1] == sites[2]
    assert 'blueprint.html#f1-7">../b/orders.yaml:7</a>' in sites[0]["site/risks.html"]
    assert str(tmp_path) not in "".join(sites[2].values())


def test_what_a_blueprint_says_is_text_and_never_markup(folder: Path) -> None:
    start = (folder / "site" / "index.html").read_text(encoding="utf-8")
    assert "sells &lt;b&gt;things&lt;/b&gt; &amp; more" in start
    assert "<script" not in "".join(
        file.read_text(encoding="utf-8") for file in (folder / "site").glob("*.html")
    )


def test_it_is_the_same_each_time() -> None:
    first, second = (write_site(result, generate(result)) for result in (result_of(SHOP), result_of(SHOP)))
    strip = [re.sub(r"\S*test\.yaml", "", "".join(each.values())) for each in (first, second)]
    assert strip[0] == strip[1]


def test_marks_of_validators_stand_beside_the_files(folder: Path) -> None:
    assert "validated by somebody 1.2" in (folder / "site" / "contracts.html").read_text(encoding="utf-8")


@pytest.mark.skipif(not installed(), reason="no renderer")
def test_a_picture_that_takes_too_long_is_left_as_text_and_the_others_are_kept(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whoever draws is ended; nothing of it reaches the terminal, and what was kept is there the next time."""
    began = time.monotonic()
    found = drawer(["flowchart LR\n  a --> b\n"], tmp_path, seconds=0.05)
    assert time.monotonic() - began < 30
    assert found("flowchart LR\n  a --> b\n") is None
    assert list(tmp_path.iterdir()) == []
    assert "<svg" in (drawer(["flowchart LR\n  a --> b\n"], tmp_path)("flowchart LR\n  a --> b\n") or "")
    assert (
        drawer(["flowchart LR\n  a --> b\n"], tmp_path, seconds=0.0)("flowchart LR\n  a --> b\n") is not None
    )
    assert capfd.readouterr().err == ""


@pytest.fixture(scope="module")
def driver(chromium: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = chromium[0]
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(chromium[1], port=free_port()))
    yield browser
    browser.quit()


def test_in_a_browser_from_disk(driver: webdriver.Chrome, folder: Path) -> None:
    for width in (1200, 390):
        driver.set_window_size(width, 900)
        for page, heading in PAGES:
            driver.get((folder / "site" / page).as_uri())
            assert driver.find_element(By.TAG_NAME, "h1").text in (heading, "Test")
            too_wide = driver.execute_script("return document.documentElement.scrollWidth - innerWidth")
            assert too_wide <= 0, f"{page} is wider than a window of {width}"
            assert driver.execute_script("return getComputedStyle(document.body).margin") == "0px", "no style"
            if page == "diagrams.html" and installed():
                sizes = driver.execute_script(
                    "return [...document.querySelectorAll('.drawing svg')].map(s => s.getBoundingClientRect().width)"
                )
                assert len(sizes) == 2 and min(sizes) > 50
    assert driver.get_log("browser") == []
    asked = [
        json.loads(entry["message"])["message"].get("params", {}).get("request", {}).get("url", "file:")
        for entry in driver.get_log("performance")
        if "Network.requestWillBeSent" in entry["message"]
    ]
    assert all(url.startswith(("file:", "data:", "chrome:")) for url in asked), asked
