"""`make screenshots`: the pages of a small real world, photographed by headless Chromium.

    python -m tests.demo.screenshots FOLDER

FOLDER gets PAGE-WIDTH-SCHEME.png for each page, width and scheme. Where there is no Chromium it gets none.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, sync_playwright

from tests.demo.pages import make_pages
from tests.doubles.servers import seaweedfs

Scheme = Literal["light", "dark"]
WIDTHS = (1280, 390)
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
HEIGHT = 900
"""Of the window. A photograph has the whole page."""
REQUIRED = "SEALIFT_REQUIRE_CHROMIUM"
NO_CHROMIUM = "THE SITE HAS NO SCREENSHOTS: Chromium is not on this machine (apt-get install chromium)"


def main(arguments: Sequence[str]) -> int:
    """Replace the photographs in a folder. Returns 1 if Chromium is missing and the environment requires it."""
    folder = Path(arguments[0])
    for earlier in folder.glob("*.png"):
        earlier.unlink()
    chromium = shutil.which("chromium")
    if chromium is None:
        print(NO_CHROMIUM)
        return int(os.environ.get(REQUIRED) == "1")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="sealift-pages-") as scratch:
        with seaweedfs() as server:
            pages = make_pages(server, Path(scratch))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            photograph(browser, pages, Path(scratch), folder)
            browser.close()
    print(f"{len(pages)} pages, {len(pages) * len(WIDTHS) * len(SCHEMES)} photographs: {folder}")
    return 0


def photograph(browser: Browser, pages: Mapping[str, str], scratch: Path, folder: Path) -> None:
    """Photograph each page in each width and scheme. Raises RuntimeError for a page that is cut at its side."""
    for name, html in pages.items():
        file = scratch / f"{name}.html"
        file.write_text(html, encoding="utf-8")
        for width in WIDTHS:
            for scheme in SCHEMES:
                _photograph(browser, file, width, scheme, folder / f"{name}-{width}-{scheme}.png")


def _photograph(browser: Browser, file: Path, width: int, scheme: Scheme, image: Path) -> None:
    context = browser.new_context(viewport={"width": width, "height": HEIGHT}, color_scheme=scheme)
    page = context.new_page()
    page.goto(file.as_uri())
    page_width: int = page.evaluate("document.documentElement.scrollWidth")
    if page_width != width:
        raise RuntimeError(f"{file.name} is {page_width} px wide in a window of {width} px")
    page.screenshot(path=image, full_page=True, animations="disabled")
    context.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
