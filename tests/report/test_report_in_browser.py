"""The HTML report in a real browser: it renders, its controls work, it asks nobody for anything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import samples
from cluster import free_port
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from mainstay.architect.findings import Report
from mainstay.architect.report import render

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
    "--hide-scrollbars",
]

# Text whose contrast with what lies behind it is below 4.5 (WCAG 2.1, 1.4.3), as sentences.
CONTRAST = r"""
const channel = (v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const parse = (text) => (text.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number);
const behind = (item) => {
  for (; item; item = item.parentElement) {
    const color = parse(getComputedStyle(item).backgroundColor);
    if (color.length < 4 || color[3] === 1) return color;
  }
  return [255, 255, 255];
};
const poor = new Set();
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const item = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || item.closest("svg, script, .sr") || !item.checkVisibility()) continue;
  const [a, b] = [light(parse(getComputedStyle(item).color)), light(behind(item))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) poor.add(`${item.tagName}.${item.className}: ${ratio.toFixed(2)}`);
}
return [...poor];
"""


@pytest.fixture(scope="module")
def browser(
    chromium: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = chromium[0]
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(chromium[1], port=free_port()))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    report = samples.report()
    written = folder / "report.html"
    written.write_text(render("html", report, samples.context(folder)), encoding="utf-8")
    return written


def show(
    browser: webdriver.Chrome, file: Path, width: int = 1400, scheme: str = "light", script: bool = True
) -> None:
    """Open the report afresh at `width` CSS pixels, as a system in `scheme` would."""
    size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    preference = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", preference)
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not script})
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(file.as_uri())


def all_of(browser: webdriver.Chrome, selector: str) -> list[WebElement]:
    return browser.find_elements(By.CSS_SELECTOR, selector)


def one(browser: webdriver.Chrome, selector: str) -> WebElement:
    return browser.find_element(By.CSS_SELECTOR, selector)


def shown(browser: webdriver.Chrome) -> list[str]:
    return [item.get_attribute("id") or "" for item in all_of(browser, ".finding") if item.is_displayed()]


def run(browser: webdriver.Chrome, script: str) -> Any:
    return browser.execute_script(script)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1400])
def test_it_renders_without_errors_requests_or_overflow(
    browser: webdriver.Chrome, file: Path, width: int, scheme: str
) -> None:
    """Light and dark, narrow and wide: no console message, no request, nothing wider than the window, AA contrast."""
    show(browser, file, width, scheme)
    run(browser, "document.querySelectorAll('details').forEach((item) => { item.open = true; })")
    assert all_of(browser, "svg.sequence .marked")
    assert run(browser, "return document.documentElement.scrollWidth") == width
    assert run(browser, CONTRAST) == []
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    }
    assert asked <= {file.as_uri(), "data:,"}


def test_diagrams_are_drawn_inside_their_box(browser: webdriver.Chrome, file: Path) -> None:
    """On a narrow screen a diagram scrolls in its own box, which the keyboard reaches."""
    show(browser, file, 360)
    box = one(browser, ".drawing")
    assert run(browser, "const b = document.querySelector('.drawing'); return b.scrollWidth > b.clientWidth")
    assert box.get_attribute("tabindex") == "0"


def test_labels_of_the_diagram_stay_between_their_lanes(browser: webdriver.Chrome, file: Path) -> None:
    """No label runs into the next lane or out of the drawing."""
    show(browser, file)
    outside = run(
        browser,
        """
        return [...document.querySelectorAll("svg.sequence")].flatMap((svg) => {
          const frame = svg.getBoundingClientRect();
          const lanes = [...svg.querySelectorAll(".lane")].map((item) => item.getBoundingClientRect().left);
          return [...svg.querySelectorAll(".label, .said")].filter((item) => {
            const box = item.getBoundingClientRect();
            return box.left < frame.left || box.right > frame.right ||
              lanes.some((x) => x > box.left && x < box.right);
          }).map((item) => item.textContent);
        });
        """,
    )
    assert outside == []


def test_filters_leave_what_is_chosen(browser: webdriver.Chrome, file: Path) -> None:
    """Severity, verdict, edge and words filter together; the count says how many are left; all come back."""
    show(browser, file)
    assert len(shown(browser)) == 5
    one(browser, "input[name=verdict][value=proven]").click()
    assert len(shown(browser)) == 2
    one(browser, "input[name=edge][value=n-plus-one]").click()
    assert len(shown(browser)) == 1
    assert one(browser, "#shown").text == "1 of 5 shown"
    one(browser, "input[name=severity][value=low]").click()
    assert shown(browser) == []
    assert one(browser, "#none").is_displayed()
    one(browser, "#all").click()
    assert len(shown(browser)) == 5
    one(browser, "#search").send_keys("wallet WITHDRAW")
    assert shown(browser) == ["f1"]


def test_a_link_to_a_finding_shows_it_though_it_was_filtered_out(
    browser: webdriver.Chrome, file: Path
) -> None:
    """Following a link to another finding takes the filters off."""
    show(browser, file)
    one(browser, "#search").send_keys("nothing has these words")
    assert shown(browser) == []
    run(browser, "location.hash = '#f2'")
    WebDriverWait(browser, 5).until(lambda driver: "f2" in shown(driver))


def test_the_theme_can_be_turned(browser: webdriver.Chrome, file: Path) -> None:
    """The button turns light to dark and back, whatever the system prefers, and names what it will do."""
    show(browser, file, scheme="dark")
    colour = "return getComputedStyle(document.body).backgroundColor"
    dark = run(browser, colour)
    assert one(browser, "#theme").text == "Light"
    one(browser, "#theme").click()
    light = run(browser, colour)
    assert light != dark
    assert one(browser, "#theme").text == "Dark"
    one(browser, "#theme").click()
    assert run(browser, colour) == dark
    show(browser, file, scheme="light")
    assert run(browser, colour) == light


def test_a_command_can_be_copied(browser: webdriver.Chrome, file: Path) -> None:
    """The button puts the command on the clipboard and says so."""
    show(browser, file)
    grant = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    browser.execute_cdp_cmd("Browser.grantPermissions", grant)
    button = one(browser, "#f1 button.copy")
    button.click()
    WebDriverWait(browser, 5).until(lambda _: button.text == "Copied")
    search = one(browser, "#search")
    search.send_keys(Keys.CONTROL, "v")
    assert search.get_attribute("value") == "mainstay replay .mainstay/witnesses/check-then-act-withdraw.json"


def test_everything_folds_and_unfolds(browser: webdriver.Chrome, file: Path) -> None:
    """One button folds all findings and unfolds them; the table of events opens by itself."""
    show(browser, file)
    fold = one(browser, "#fold")
    assert fold.text == "Fold all"
    fold.click()
    assert not all_of(browser, "details.card[open]")
    assert fold.text == "Unfold all"
    fold.click()
    assert len(all_of(browser, "details.card[open]")) == 5
    table = one(browser, "#f1 .events table")
    assert not table.is_displayed()
    one(browser, "#f1 .events > summary").click()
    assert table.is_displayed()


def test_the_keyboard_walks_through_a_diagram(browser: webdriver.Chrome, file: Path) -> None:
    """A diagram is one tab stop; arrow keys go from event to event, and each is read out in full below."""
    show(browser, file)
    assert len(all_of(browser, "#f1 g.event[tabindex='0']")) == 1
    run(browser, "document.querySelector('#f1 g.event').focus()")
    detail = one(browser, "#f1 .detail")
    assert detail.text.startswith("3.0 ms, alice request: POST /accounts/1/withdraw")
    for _ in range(2):
        browser.switch_to.active_element.send_keys(Keys.ARROW_DOWN)
    assert (
        "SELECT accounts.id, accounts.balance FROM accounts WHERE accounts.id = $1; parameters 1"
        in detail.text
    )


def test_it_can_be_read_without_javascript(browser: webdriver.Chrome, file: Path) -> None:
    """Without scripts the findings, diagrams and tables are there, and the controls are not."""
    show(browser, file, script=False)
    try:
        assert [item.is_displayed() for item in all_of(browser, ".js")] == [False] * len(
            all_of(browser, ".js")
        )
        assert one(browser, "svg.sequence").is_displayed()
        assert len(shown(browser)) == 5
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_on_paper_everything_is_unfolded_and_light(browser: webdriver.Chrome, file: Path) -> None:
    """Printing unfolds what is folded and takes the dark off; afterwards the theme is what it was."""
    show(browser, file, scheme="dark")
    one(browser, "#fold").click()
    background = "return getComputedStyle(document.body).backgroundColor"
    dark = run(browser, background)
    run(browser, "dispatchEvent(new Event('beforeprint'))")
    assert len(all_of(browser, "details:not([open])")) == 0
    assert run(browser, background) != dark
    run(browser, "dispatchEvent(new Event('afterprint'))")
    assert run(browser, background) == dark


def test_five_hundred_findings_stay_usable(browser: webdriver.Chrome, tmp_path: Path) -> None:
    """A long report opens and filters."""
    report = Report("review", [finding for _ in range(100) for finding in samples.findings()])
    file = tmp_path / "long.html"
    file.write_text(render("html", report, samples.context(tmp_path)), encoding="utf-8")
    show(browser, file, 360)
    assert run(browser, "return document.documentElement.scrollWidth") == 360
    one(browser, "input[name=severity][value=critical]").click()
    assert one(browser, "#shown").text == "400 of 500 shown"
