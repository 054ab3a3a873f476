"""The site of the documents: `make site` builds it with Sphinx from the Markdown files as they are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

project = "Sealift"
author = "Sealift's authors"
version = release = re.findall(r'__version__ = "(.*)"', (ROOT / "jobs" / "__init__.py").read_text())[0]

extensions = ["myst_parser"]
myst_enable_extensions = ["attrs_block", "attrs_inline"]
myst_heading_anchors = 4  # as GitHub makes them
suppress_warnings = ["myst.header", "misc.highlighting_failure"]
root_doc = "README"
include_patterns = ["*.md", "docs/*.md", "terraform/README.md", "terraform/modules/*/README.md"]
nitpicky = True

html_theme = "furo"
html_title = f"Sealift {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False

PARTS = {
    "Use": [
        *(f"docs/{name}" for name in ("README", "replicate", "verify", "reconcile", "restore", "rollback", "drill", "expire")),
        "docs/archives",
        *(f"docs/{name}" for name in ("ledger", "pages", "policy", "events-and-nights", "batch", "terraform")),
        "terraform/README",
        "docs/archive-format",
        "docs/reasons",
        "docs/doctor",
        "docs/other-servers",
        "docs/acceptance",
    ],
    "Know": ["ARCHITECTURE", "DESIGN", "SECURITY", "BENCHMARKS"],
    "Take part": ["CONTRIBUTING", "CHANGELOG"],
}
"""The navigation, part by part. A document that is in none fails the build."""

SCREENSHOTS = ROOT / "build" / "screenshots"
"""What `make screenshots` makes: PAGE-WIDTH-SCHEME.png, or nothing where Chromium is missing."""
SHOWN_IN = "docs/pages"


def setup(app: Any) -> None:
    """Give the first page the navigation, which the README itself does not need, and the pages their photographs."""
    app.connect("source-read", _add_navigation)
    app.connect("source-read", _add_screenshots)
    app.connect("env-get-outdated", lambda *_: [SHOWN_IN])  # other photographs change no source


def _add_screenshots(app: Any, name: str, source: list[str]) -> None:
    """Put photographs in place of the comments that name them."""
    if name == SHOWN_IN:
        is_photographed = any(SCREENSHOTS.glob("*.png"))
        said = "The photographs were made with this site, from a small real world. Click one for its full size."
        missing = "This site has no photographs of the pages: there was no Chromium where it was built."
        source[0] = source[0].replace("<!-- screenshots -->", said if is_photographed else missing)
        if is_photographed:
            source[0] = re.sub(r"<!-- screenshot: (\w+) -->", lambda mark: _photographs(mark[1]), source[0])


def _photographs(page: str) -> str:
    """A page at both widths, in the scheme of the reader."""
    blocks = []
    for scheme in ("light", "dark"):
        blocks.append(f"```{{container}} screenshots only-{scheme}")
        for width in (1280, 390):
            file = f"../build/screenshots/{page}-{width}-{scheme}.png"
            blocks.append(f'![The page {page}, {width} pixels wide, {scheme}]({file}){{width="100%"}}')
        blocks += ["```", ""]
    return "\n".join(blocks)


def _add_navigation(app: Any, name: str, source: list[str]) -> None:
    if name == root_doc:
        trees = ("\n".join(["", "```{toctree}", ":hidden:", f":caption: {part}", "", *names, "```", ""])
                 for part, names in PARTS.items())  # fmt: skip
        source[0] += "".join(trees)
