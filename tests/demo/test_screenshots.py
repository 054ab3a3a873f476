"""The photographs of pages: one for each width and scheme, none cut or blank, and none without Chromium."""

from __future__ import annotations

import base64
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from jobs.reports.html.page import render
from tests.demo.pages import NAMES
from tests.demo.screenshots import NO_CHROMIUM, REQUIRED, SCHEMES, WIDTHS, main, photograph
from tests.reports.samples import findings, reconciliation

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium")
GROUNDS = {"light": (246, 246, 244), "dark": (18, 20, 24)}
COLOURS_MIN = 100
HEIGHT_MIN = 900
COLOURS = """async (url) => {
  const image = new Image();
  image.src = url;
  await image.decode();
  const canvas = new OffscreenCanvas(image.width, image.height), context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const pixels = new Uint32Array(context.getImageData(0, 0, image.width, image.height).data.buffer);
  const first = pixels[0];
  return [image.width, image.height, new Set(pixels).size, first & 255, first >> 8 & 255, first >> 16 & 255];
}"""


@pytest.fixture
def chromium() -> str:
    if CHROMIUM is None:
        assert os.environ.get(REQUIRED) != "1", NO_CHROMIUM
        pytest.skip(NO_CHROMIUM)
    return CHROMIUM


@contextmanager
def running(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


def test_the_document_has_a_place_for_each_photograph() -> None:
    text = (ROOT / "docs" / "pages.md").read_text()
    assert re.findall(r"<!-- screenshot: (\w+) -->", text) == list(NAMES)
    assert text.count("<!-- screenshots -->") == 1


@pytest.mark.parametrize(("required", "code"), [("", 0), ("1", 1)])
def test_without_chromium_there_are_none_and_the_build_says_so(
    required: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "screenshots"
    folder.mkdir()
    (folder / "of-an-earlier-build.png").touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(REQUIRED, required)
    assert main([str(folder)]) == code
    assert capsys.readouterr().out == f"{NO_CHROMIUM}\n"
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_a_page_is_photographed_whole_in_each_width_and_scheme(chromium: str, tmp_path: Path) -> None:
    """All pages are photographed for the site, by `make screenshots`."""
    images = tmp_path / "images"
    images.mkdir()
    with running(chromium) as browser:
        photograph(browser, {"page": render(reconciliation(), findings=findings(60))}, tmp_path, images)
        assert {file.stem for file in images.iterdir()} == {
            f"page-{width}-{each}" for width in WIDTHS for each in SCHEMES
        }
        page = browser.new_page()
        for file in images.iterdir():
            _, width, scheme = file.stem.split("-")
            url = f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"
            found_width, height, colours, *ground = page.evaluate(COLOURS, url)
            assert (found_width, tuple(ground)) == (int(width), GROUNDS[scheme]), file.name
            assert height >= HEIGHT_MIN, file.name
            assert colours >= COLOURS_MIN, file.name
