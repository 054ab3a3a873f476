"""How the demos tell what they do."""

from __future__ import annotations

import sys
from pathlib import Path

PAGES = Path(__file__).resolve().parents[2] / "build" / "demo"
"""Where the pages that people read are put."""


def step(title: str) -> None:
    """Announce what comes next."""
    print(f"\n── {title}", flush=True)


def expect(holds: bool, what: str) -> None:
    """Show a fact, or end the demo when it is none."""
    print(f"  {'✓' if holds else '✗'} {what}", flush=True)
    if not holds:
        sys.exit(1)
