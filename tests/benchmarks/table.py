"""Results as Markdown: medians of each client, and Sealift's ratios to each, paired round by round."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from tests.benchmarks.measure import Sample
from tests.benchmarks.peers import SEALIFT
from tests.benchmarks.workloads import MIB, Workload

DRAWS = 2_000


def ratio(own: Mapping[int, Sample], other: Mapping[int, Sample], of: Callable[[Sample], float]) -> list[float] | None:
    """The median of what one takes of the other in the same round, with the bounds that hold 95 % of its resamples."""
    pairs = [of(own[each]) / of(other[each]) for each in sorted(own.keys() & other.keys())]
    if not pairs:
        return None
    chance = random.Random(0)
    medians = sorted(median(chance.choices(pairs, k=len(pairs))) for _ in range(DRAWS))
    return [median(pairs), medians[DRAWS // 40], medians[-DRAWS // 40]]


def summarize(
    workload: Workload, samples: Mapping[str, Mapping[int, Sample]], failures: Mapping[str, str], title: str
) -> dict[str, Any]:
    """One workload's results, JSON-ready."""
    rows = []
    for client in workload.clients:
        runs = samples.get(client.name, {})
        row: dict[str, Any] = {"client": client.name, "failed": failures.get(client.name)}
        if runs:
            seconds, cpu = (
                median(getattr(run, name) for run in runs.values()) for name in ("wall_seconds", "cpu_seconds")
            )
            own = samples.get(SEALIFT, {})
            row |= {
                "seconds": seconds,
                "objects_per_second": workload.objects / seconds,
                "cpu_seconds": cpu,
                "peak_mib": max(run.peak_bytes for run in runs.values()) / MIB,
                "worker_mib": max(run.children_peak_bytes for run in runs.values()) / MIB,
                "wall": ratio(own, runs, lambda run: run.wall_seconds) if client.name != SEALIFT else None,
                "cpu": ratio(own, runs, lambda run: run.cpu_seconds) if client.name != SEALIFT else None,
                "rounds": {number: [run.wall_seconds, run.cpu_seconds] for number, run in runs.items()},
            }
        rows.append(row)
    return {"title": title, "clients": rows}


def render(results: Mapping[str, Any]) -> str:
    """The whole result as Markdown."""
    facts = results["machine"]
    lines = [
        f"{results['date']}, {facts['cores']} cores shared with SeaweedFS, Python {facts['python']}, "
        f"medians of up to {results['rounds']} rounds in turn, scale {results['scale']:g}. Ratios are Sealift's figure "
        "by the client's, paired by round, with 95 % intervals: below 1 Sealift takes less. Peak: of the largest "
        "process, which plans; worker: of the largest that it starts.",
        "",
        "Others: " + ", ".join(f"{name} {version}" for name, version in facts["others"].items()) + ".",
        "",
        "| workload | client | seconds | a second | CPU s | peak MiB | worker MiB | wall ratio | CPU ratio |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for workload in results["workloads"]:
        for number, row in enumerate(workload["clients"]):
            start = f"| {workload['title'] if number == 0 else ''} | {row['client']} |"
            if "seconds" not in row:
                lines.append(f"{start} failed: {row['failed'] or 'no round ended'} | | | | | | |")
                continue
            lines.append(
                f"{start} {row['seconds']:.2f} | {row['objects_per_second']:,.0f} | {row['cpu_seconds']:.2f} "
                f"| {row['peak_mib']:.0f} | {row['worker_mib']:.0f} | {_ratio(row['wall'])} | {_ratio(row['cpu'])} |"
            )
    return "\n".join(lines) + "\n"


def _ratio(bounds: Sequence[float] | None) -> str:
    return "{:.3f} ({:.3f} to {:.3f})".format(*bounds) if bounds else "–"
