"""The report's page in headless Chromium: quiet, safe, filtered, narrow, legible, and readable without script."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from jobs.reports.html.page import render
from tests.reports.samples import HOSTILE_SHOWN, dry_expire, finding, findings, prefix, reconciliation, repaired, run

CHROMIUM = shutil.which("chromium")
NO_CHROMIUM = "NO CHROMIUM ON THIS MACHINE: THE PAGE WAS NOT SHOWN TO A BROWSER (apt-get install chromium)"
if not CHROMIUM and os.environ.get("SEALIFT_REQUIRE_CHROMIUM") != "1":
    pytest.skip(NO_CHROMIUM, allow_module_level=True)

pytestmark = pytest.mark.slow
PHONE: ViewportSize = {"width": 375, "height": 812}
DESK: ViewportSize = {"width": 1280, "height": 900}
LONG_KEY = "deep/" + "x" * 1_019
ODD_KEY = "\n" * 500 + "\u0639" * 250
INK_AND_PAPER = """() => {
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const channels = (text) => text.match(/[\\d.]+/g).map(Number);
  const paper = (element) => {
    for (; element; element = element.parentElement) {
      const colour = channels(getComputedStyle(element).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    throw new Error("no background");
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  for (let node; (node = walker.nextNode());) {
    const element = node.parentElement;
    if (!node.data.trim() || !element.checkVisibility() || element.closest("script, option")) continue;
    const style = getComputedStyle(element);
    const ink = channels(style.color);
    const [low, high] = [luminance(ink), luminance(paper(element))].sort((a, b) => a - b);
    found.push([(high + 0.05) / (low + 0.05), node.data.trim().slice(0, 40)]);
  }
  return found;
}"""


class Visit(NamedTuple):
    """An open page, and all that it said or asked for meanwhile."""

    page: Page
    console: list[str]
    requests: list[str]
    dialogs: list[str]
    refused: list[tuple[str, str | None]]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium. Closed with the module: Playwright's loop would be in the way of asyncio.run elsewhere."""
    assert CHROMIUM, NO_CHROMIUM
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@contextmanager
def visit(browser: Browser, folder: Path, html: str, size: ViewportSize = DESK, **options: Any) -> Iterator[Visit]:
    """Open the page as a person would: from a file."""
    file = folder / "report.html"
    file.write_text(html, encoding="utf-8")
    context = browser.new_context(viewport=size, **options)
    context.set_default_timeout(10_000)
    seen = Visit(context.new_page(), [], [], [], [])
    seen.page.on("console", lambda message: seen.console.append(message.text))
    seen.page.on("pageerror", lambda error: seen.console.append(str(error)))
    seen.page.on("request", lambda request: seen.requests.append(request.url))
    seen.page.on("requestfailed", lambda request: seen.refused.append((request.url, request.failure)))

    def dismiss(dialog: Any) -> None:
        seen.dialogs.append(dialog.message)
        dialog.dismiss()

    seen.page.on("dialog", dismiss)
    seen.page.goto(file.as_uri())
    yield seen
    context.close()


def _of_long_keys() -> dict[str, Any]:
    place, prefixes = f"s3://photos-primary/{LONG_KEY}", [prefix(LONG_KEY, 3, 2048), prefix(ODD_KEY, 1, 1)]
    changes: dict[str, Any] = {
        "next_steps": [f"Look at it: sealift archives find {LONG_KEY}"],
        "report": place,
        "report_html": place,
    }
    return reconciliation(prefixes=prefixes, limits=[f"{ODD_KEY} is not listed"], **changes)


@cache
def pages() -> dict[str, str]:
    """A page of each kind, full and empty."""
    kept = [row | {"category": None, "status": "blocked"} for row in findings(4)]
    failed = [row | {"category": None, "status": "blocked"} for row in findings(4)]
    return {
        "reconcile": render(reconciliation(), findings=[*findings(60), finding(LONG_KEY)]),
        "clean": render(reconciliation(missing=0, unjudged=[]), findings=[]),
        "repaired": render(repaired(), findings=[*findings(20), finding(LONG_KEY)]),
        "long": render(_of_long_keys(), findings=[finding(LONG_KEY), finding(ODD_KEY)]),
        "replicate": render(run(outcome_bytes={"done": 5}), findings=failed),
        "expire": render(dry_expire(), findings=kept),
    }


KINDS = ["reconcile", "clean", "repaired", "replicate", "expire", "long"]


@pytest.mark.parametrize("kind", KINDS)
def test_page_is_quiet_asks_the_network_for_nothing_and_fits_a_phone(browser: Browser, tmp_path: Path, kind: str):
    with visit(browser, tmp_path, pages()[kind], PHONE) as seen:
        assert seen.page.get_by_role("heading", level=1).is_visible()
        assert seen.console == []
        assert seen.requests == [seen.page.url]
        assert seen.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        outside = """() => [...document.querySelectorAll("main *")].filter((e) => e.checkVisibility())
          .filter((e) => e.getBoundingClientRect().right > innerWidth + 0.5).map((e) => e.outerHTML.slice(0, 80))"""
        assert seen.page.evaluate(outside) == []


def test_a_hostile_key_is_text(browser: Browser, tmp_path: Path):
    with visit(browser, tmp_path, pages()["reconcile"]) as seen:
        seen.page.locator("summary", has_text="missing").click()
        key = seen.page.locator(".findings tbody tr:visible").first.locator("code").first
        assert key.inner_text() == HOSTILE_SHOWN
        assert seen.page.locator("script").count() == 1
        assert (seen.dialogs, seen.console) == ([], [])


def test_an_injected_script_would_not_run(browser: Browser, tmp_path: Path):
    attack = '<script>alert(1)</script><img src="http://127.0.0.1:9/x" onerror="alert(2)"></main>'
    with visit(browser, tmp_path, pages()["clean"].replace("</main>", attack)) as seen:
        assert seen.page.locator("img").count() == 1
        assert seen.dialogs == []
        assert seen.refused == [("http://127.0.0.1:9/x", "csp")]
        assert any("Content Security Policy" in message for message in seen.console)


def test_commands_and_addresses_are_copied_by_a_button(browser: Browser, tmp_path: Path):
    with visit(browser, tmp_path, pages()["reconcile"], permissions=["clipboard-read", "clipboard-write"]) as seen:
        copied = seen.page.locator("footer code.copy").first
        copied.locator("xpath=following-sibling::button").click()
        assert seen.page.get_by_text("Copied").count() == 1
        assert seen.page.evaluate("navigator.clipboard.readText()") == copied.inner_text()


@pytest.mark.parametrize(("scheme", "size"), [("light", DESK), ("dark", PHONE)])
def test_all_text_has_contrast(browser: Browser, tmp_path: Path, scheme: str, size: ViewportSize):
    papers = set()
    for html in pages().values():
        with visit(browser, tmp_path, html, size, color_scheme=scheme) as seen:
            found = seen.page.evaluate(INK_AND_PAPER)
            assert len(found) > 60
            assert [each for each in found if each[0] < 4.5] == []
            papers.add(seen.page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert papers == {{"light": "rgb(246, 246, 244)", "dark": "rgb(18, 20, 24)"}[scheme]}


def test_print_leaves_the_controls_out(browser: Browser, tmp_path: Path):
    with visit(browser, tmp_path, pages()["reconcile"], color_scheme="dark") as seen:
        seen.page.emulate_media(media="print")
        seen.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert seen.page.locator("button:visible").count() == 0
        assert seen.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert seen.page.locator(".findings tbody tr:visible").count() == 61
