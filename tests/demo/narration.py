"""How the demos tell what they do."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.doubles.servers import REGION

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


def run(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would."""
    print(f"$ sealift {shlex.join(arguments)}", flush=True)
    command = [sys.executable, "-m", "jobs", *arguments]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


def sealift(environment: Mapping[str, str], *arguments: str, exits: int = 0) -> dict[str, Any]:
    """Run the command with --json. Returns its document."""
    result = run(environment, *arguments, "--json")
    expect(result.returncode == exits, f"exit code {result.returncode}\n{result.stderr}")
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def policy_text(name: str, source: str, copies: str, ledger: str, drills: str, **pair: Any) -> str:
    """A policy of one pair, whose ledger is below `ledger/` and whose copies are below `copy/`."""
    place = {"region": REGION}
    pair |= {"name": name, "source": place | {"bucket": source}}
    pair |= {"destination": place | {"bucket": copies, "prefix": "copy/"}}
    whole = {"version": 1, "name": name, "ledger": place | {"bucket": ledger, "prefix": "ledger/"}, "pairs": [pair]}
    return json.dumps(whole | {"drill": place | {"bucket": drills}})
