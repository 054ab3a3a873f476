"""Places of an expire run: from the command line or the policy, never from the ledger.

A writer to the ledger could otherwise send a deletion to a server that "has" all copies. The
ledger's claims are shown, in a complete command line, for a person to check.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.core.enums import SKIP_ANNOTATIONS
from jobs.core.model import Location
from jobs.core.run import RunSpec, Side

PROVEN_BY = "proven by "
"""The prefix of an expire run's manifest when its rows are those of another run."""

READ_RUNS = "read_runs"
"""The part of a plan that says how much of each run it has read.

Run id → `jobs.expire.runs_with_findings.Seen`."""


@dataclass(frozen=True, slots=True)
class Places:
    """Originals, and where copies may be. All copies are reached in the way of `destination`."""

    source: Side
    copies: tuple[Location, ...]
    destination: Side

    def options(self) -> dict[str, Any]:
        """The places as options of the command line."""
        named: dict[str, Any] = {"--source": str(self.source.location), "--copies": [str(each) for each in self.copies]}
        for name, side in (("source", self.source), ("copies", self.destination)):
            named |= {f"--{name}-{what}": getattr(side, what) for what in ("endpoint", "region", "profile")}
            named[f"--{name}-expected-bucket-owner"] = side.owner
        return named


def claimed_by(runs: Sequence[RunSpec], bucket: str | None = None) -> Places:
    """The ledger's claims from runs. The last run says how to reach both sides.

    `bucket`: that of the rows.
    """
    last = runs[-1]
    source = Side(Location(bucket), *reach(last.source)) if bucket else last.source
    alike = [spec for spec in runs if reach(spec.destination) == reach(last.destination)]
    copies = dict.fromkeys(spec.destination.location for spec in alike)
    return Places(source, tuple(copies), last.destination)


def claimed_by_run(spec: RunSpec) -> Places:
    """The ledger's claims from an expire run."""
    uris = spec.options.get("copies") or [str(spec.destination.location)]
    return Places(spec.source, tuple(Location.parse(uri) for uri in uris), spec.destination)


def reach(side: Side) -> tuple[str | None, ...]:
    """How to reach a side: endpoint, region and profile."""
    return side.endpoint, side.region, side.profile


def command_of(spec: RunSpec) -> str:
    """The command that starts an expire run like this one, by the ledger's claims."""
    is_run = spec.manifest.startswith(PROVEN_BY)
    rows = {"--run": spec.manifest.removeprefix(PROVEN_BY)} if is_run else {"--manifest": spec.manifest}
    limits = {
        "--grace": f"{float(spec.options.get('grace_seconds', 0)):.0f}s",
        "--max-share": f"{float(spec.options.get('max_share', 0)) * 100:g}%",
        "--annotations": SKIP_ANNOTATIONS if spec.options.get("annotations") == SKIP_ANNOTATIONS else None,
        "--yes-delete": bool(spec.options.get("delete")),
    }
    return command_line("expire", rows | claimed_by_run(spec).options() | limits)


def verify_command(spec: RunSpec, *, is_swapped: bool = False) -> str:
    """The command that proves the copies of a run by their bytes, at the places in the ledger.

    `is_swapped`: it compares the copies, as the source, with the originals. A retry of that run
    restores damaged originals.
    """
    named: dict[str, Any] = {"--deep": True}
    sides = (spec.destination, spec.source) if is_swapped else (spec.source, spec.destination)
    for name, side in zip(("source", "destination"), sides, strict=True):
        named[f"--{name}"] = str(side.location)
        named |= {f"--{name}-{what}": getattr(side, what) for what in ("endpoint", "region", "profile")}
        named[f"--{name}-expected-bucket-owner"] = side.owner
    if spec.options.get("all_versions"):
        named["--versions"] = "all"
    return command_line("verify", named)


def command_line(verb: str, named: Mapping[str, object]) -> str:
    """`sealift verb --option value …` for a shell, with any characters in the values."""
    words = ["sealift", verb]
    for name, value in named.items():
        if value is True:
            words.append(name)
            continue
        values = value if isinstance(value, list | tuple) and not isinstance(value, Location) else [value]
        for each in values:
            words += [name, str(each)] if each not in (None, False) else []
    return shlex.join(words)
