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
myst_enable_extensions = ["attrs_block"]
myst_heading_anchors = 4  # as GitHub makes them
suppress_warnings = ["myst.header", "misc.highlighting_failure"]
root_doc = "README"
include_patterns = ["*.md", "docs/*.md", "terraform/README.md", "terraform/modules/*/README.md"]
nitpicky = True

html_theme = "furo"
html_title = f"Sealift {release}"
html_copy_source = False
html_show_sphinx = False

PARTS = {
    "Use": [
        *(f"docs/{name}" for name in ("README", "replicate", "verify", "reconcile", "restore", "expire", "archives")),
        *(f"docs/{name}" for name in ("ledger", "policy", "events-and-nights", "batch", "terraform")),
        "terraform/README",
        "docs/doctor",
        "docs/acceptance",
    ],
    "Know": ["ARCHITECTURE", "DESIGN", "SECURITY", "BENCHMARKS"],
    "Take part": ["CONTRIBUTING", "CHANGELOG"],
}
"""The navigation, part by part. A document that is in none fails the build."""


def setup(app: Any) -> None:
    """Give the first page the navigation, which the README itself does not need."""
    app.connect("source-read", _add_navigation)


def _add_navigation(app: Any, name: str, source: list[str]) -> None:
    if name == root_doc:
        trees = ("\n".join(["", "```{toctree}", ":hidden:", f":caption: {part}", "", *names, "```", ""])
                 for part, names in PARTS.items())  # fmt: skip
        source[0] += "".join(trees)
