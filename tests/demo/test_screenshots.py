"""The photographs of pages: one for each width and scheme, none cut, and none without Chromium."""

from __future__ import annotations

import os
import re
import shutil
import struct
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from jobs.reports.html.page import render
from tests.demo.pages import NAMES
from tests.demo.screenshots import NO_CHROMIUM, REQUIRED, SCHEMES, WIDTHS, main, photograph
from tests.reports.samples import findings, reconciliation

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium")
HEIGHT_MIN = 900


@pytest.fixture
def chromium() -> str:
    if CHROMIUM is None:
        assert os.environ.get(REQUIRED) != "1", NO_CHROMIUM
        pytest.skip(NO_CHROMIUM)
    return CHROMIUM


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
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        photograph(browser, {"page": render(reconciliation(), findings=findings(60))}, tmp_path, images)
        browser.close()
    found = {file.stem: file.read_bytes() for file in images.iterdir()}
    assert found.keys() == {f"page-{width}-{each}" for width in WIDTHS for each in SCHEMES}
    assert len(set(found.values())) == len(found), "the schemes differ"
    for name, image in found.items():
        width, height = struct.unpack(">II", image[16:24])
        assert (str(width), height >= HEIGHT_MIN) == (name.split("-")[1], True), name
