"""The page in a real browser: nothing fails, nothing is asked for, it fits, sorts, and is legible in light and dark."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from comparisons import layer_choice, learning_rates, many, rank_and_alpha
from selenium import webdriver
from selenium.webdriver.common.by import By

from lightning_lora.reporting.comparison import Comparison, TaskComparison
from lightning_lora.reporting.page import write_page

pytestmark = pytest.mark.slow

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

# Every element with text of its own, with its contrast (WCAG 2.2) to the nearest ground that is painted behind it.
CONTRASTS = """
const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
const luminance = (colour) => channels(colour).slice(0, 3)
  .map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const ground = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const colour = getComputedStyle(e).backgroundColor;
    if ((channels(colour)[3] ?? 1) > 0) return colour;
  }
  return "rgb(255, 255, 255)";
};
return [...document.querySelectorAll("body *")]
  .filter((e) => !["SCRIPT", "STYLE"].includes(e.tagName))
  .filter((e) => [...e.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.data.trim()))
  .map((e) => {
    const style = getComputedStyle(e);
    const [low, high] = [e.closest("svg") ? style.fill : style.color, ground(e)].map(luminance).sort((a, b) => a - b);
    return [e.tagName, e.textContent.trim(), (high + 0.05) / (low + 0.05)];
  });
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """Chromium with a fresh profile, its console and its requests logged."""
    program, driver = next(filter(None, map(shutil.which, BROWSERS)), None), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.fail("this test drives chromium, and there is none: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    for flag in (*FLAGS, *root, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of a page on which each kind of plot appears."""
    return address_of(tmp_path_factory.mktemp("page"), layer_choice(), learning_rates(), rank_and_alpha())


def address_of(folder: Path, *tasks: TaskComparison) -> str:
    return write_page(Comparison(tasks), folder / "report.html").as_uri()


def show(browser: webdriver.Chrome, address: str, *, width: int = 1280, scheme: str = "light") -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get(address)


def requests(browser: webdriver.Chrome) -> set[str]:
    """What the browser asked for since it was last asked."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}


def column(browser: webdriver.Chrome, table: int, heading: int) -> list[str]:
    script = "return [...document.querySelectorAll('table')[arguments[0]].tBodies[0].rows]"
    cells: list[str] = browser.execute_script(f"{script}.map((r) => r.cells[arguments[1]].innerText)", table, heading)
    return cells


def press(browser: webdriver.Chrome, table: int, heading: int) -> str | None:
    cell = browser.find_elements(By.TAG_NAME, "table")[table].find_elements(By.CSS_SELECTOR, "thead th")[heading]
    cell.find_element(By.TAG_NAME, "button").click()
    return cell.get_attribute("aria-sort")


def test_nothing_fails_and_nothing_leaves_the_page(browser: webdriver.Chrome, page: str) -> None:
    browser.get_log("browser")
    requests(browser)
    show(browser, page)
    assert browser.get_log("browser") == []
    assert {url for url in requests(browser) if not url.startswith("data:")} == {page}
    assert len(browser.find_elements(By.TAG_NAME, "svg")) == 15


def test_a_request_and_a_foreign_script_would_have_been_seen(browser: webdriver.Chrome, tmp_path: Path) -> None:
    """The negative control; and the page's policy stops what it finds in the page."""
    bare = tmp_path / "bare.html"
    bare.write_text("<script>document.title = 'run'</script><img src='http://127.0.0.1:9/x.png'>")
    show(browser, bare.as_uri())
    assert "http://127.0.0.1:9/x.png" in requests(browser)
    assert browser.title == "run"
    address = address_of(tmp_path, layer_choice())
    planted = tmp_path / "report.html"
    planted.write_text(planted.read_text().replace("</main>", f"{bare.read_text()}</main>"))
    show(browser, address)
    assert browser.title == "Comparison of rte"
    assert any("Content Security Policy" in entry["message"] for entry in browser.get_log("browser"))


@pytest.mark.parametrize("width", [320, 400, 800, 1280, 1920])
def test_the_page_does_not_scroll_sideways(browser: webdriver.Chrome, page: str, width: int) -> None:
    show(browser, page, width=width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    inner = "return [...document.querySelectorAll('.box')].filter((b) => b.scrollWidth > b.clientWidth).length"
    assert browser.execute_script(inner) > 0 or width > 400, "what is wide scrolls in its box"


def test_a_long_name_without_a_space_does_not_widen_the_page(browser: webdriver.Chrome, tmp_path: Path) -> None:
    task = replace(layer_choice(), task="x" * 300, base="y" * 300, notes=("z" * 300,))
    labelled = tuple(replace(one, label=one.label + "w" * 300) for one in task.options)
    task = replace(task, options=labelled, contrasts=(), groups={one.label: "a" for one in labelled})
    show(browser, address_of(tmp_path, task), width=400)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 400


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser: webdriver.Chrome, page: str, scheme: str) -> None:
    show(browser, page, scheme=scheme)
    browser.execute_script("document.querySelectorAll('details').forEach((d) => d.open = true)")
    found: list[tuple[str, str, float]] = browser.execute_script(CONTRASTS)
    in_plots = [entry for entry in found if entry[0] == "text"]
    assert len(in_plots) > 100
    assert len(found) - len(in_plots) > 500
    # Numbers in marks and in cells have a ground of their own; tests/reporting/plots looks at those.
    low = [entry for entry in found if entry[2] < 4.5 and not (entry[0] == "text" and _is_number(entry[1]))]
    assert low == []
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(254, 254, 254)", "dark": "rgb(20, 23, 26)"}[scheme]


def _is_number(text: str) -> bool:
    return text.removeprefix("n = ").replace(".", "").isdigit()


def test_a_click_sorts_and_another_turns_it_round(browser: webdriver.Chrome, page: str) -> None:
    show(browser, page)
    task = layer_choice()
    by_size = [one.label for one in sorted(task.options, key=lambda one: one.trainable_percent)]
    assert column(browser, 0, 0) == [one.label for one in task.options]
    assert press(browser, 0, 7) == "ascending"
    assert column(browser, 0, 0) == by_size
    assert press(browser, 0, 7) == "descending"
    assert column(browser, 0, 0) == by_size[::-1]
    assert press(browser, 0, 0) == "ascending"
    assert column(browser, 0, 0) == sorted(by_size)
    sorted_by: list[Any] = browser.find_elements(By.CSS_SELECTOR, "table:first-of-type th[aria-sort]")
    assert [heading.text for heading in sorted_by if heading.text == "option"] == ["option"]


def test_cells_without_a_value_stay_at_the_end(browser: webdriver.Chrome, tmp_path: Path) -> None:
    task = layer_choice()
    unknown = replace(task.options[2], peak_memory_bytes=None)
    options = (*task.options[:2], unknown, *task.options[3:])
    show(browser, address_of(tmp_path, replace(task, options=options)))
    for direction in ("ascending", "descending"):
        assert press(browser, 0, 11) == direction
        assert column(browser, 0, 0)[-1] == unknown.label


def test_two_hundred_rows_stay_usable(browser: webdriver.Chrome, tmp_path: Path) -> None:
    show(browser, address_of(tmp_path, many(200)), width=400)
    assert len(column(browser, 0, 0)) == 200
    assert press(browser, 0, 7) == "ascending"
    sizes = [float(text) for text in column(browser, 0, 7)]
    assert sizes == sorted(sizes)
    box = browser.find_element(By.CSS_SELECTOR, ".box")
    assert box.size["height"] <= 900
    browser.execute_script("arguments[0].scrollTo(300, 4000)", box)
    heading = box.find_element(By.CSS_SELECTOR, "thead th")
    offset = (
        "const [a, b] = [...arguments].map((e) => e.getBoundingClientRect()); return [a.left - b.left, a.top - b.top]"
    )
    assert browser.execute_script(offset, heading, box) == [0, 0], "headings and names stay in sight"


def test_without_scripts_the_table_is_there(browser: webdriver.Chrome, page: str) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        show(browser, page)
        names = browser.find_element(By.TAG_NAME, "table").find_elements(By.CSS_SELECTOR, "tbody th")
        assert [name.text for name in names] == [one.label for one in layer_choice().options]
        assert not browser.find_elements(By.CSS_SELECTOR, "th button")
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_on_paper_nothing_is_cut_off(browser: webdriver.Chrome, tmp_path: Path) -> None:
    show(browser, address_of(tmp_path, many(60)), scheme="dark", width=1100)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    boxes = "return [...document.querySelectorAll('.box')].every((b) => b.scrollHeight <= b.clientHeight + 1)"
    assert browser.execute_script(boxes)
    assert browser.execute_script("return getComputedStyle(document.body).color") == "rgb(22, 25, 29)"
