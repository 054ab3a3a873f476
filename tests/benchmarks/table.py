"""Results as JSON-ready data and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from tests.benchmarks.measure import Sample
from tests.benchmarks.peers import SEALIFT
from tests.benchmarks.workloads import MIB, Workload


def summarize(
    workload: Workload,
    samples: Mapping[str, list[Sample]],
    failures: Mapping[str, str],
    requests: Mapping[str, Mapping[str, int]],
) -> dict[str, Any]:
    """One workload's results: every sample, medians, ratios, targets, and each client's requests by kind."""
    own = samples.get(SEALIFT)
    own_seconds = median(s.wall_seconds for s in own) if own else None
    rows = []
    for client in workload.clients:
        runs = samples.get(client.name, [])
        row: dict[str, Any] = {"client": client.name, "failed": failures.get(client.name)}
        if runs:
            objects = client.objects or workload.objects
            seconds, cpu = median(s.wall_seconds for s in runs), median(s.cpu_seconds for s in runs)
            row |= {
                "rounds": [
                    {
                        "seconds": s.wall_seconds,
                        "cpu_seconds": s.cpu_seconds,
                        "peak_bytes": s.peak_bytes,
                        "children_peak_bytes": s.children_peak_bytes,
                        "children_files": s.children_files,
                    }
                    for s in runs
                ],
                "seconds": seconds,
                "objects_per_second": objects / seconds,
                "mib_per_second": objects * workload.size_bytes / MIB / seconds,
                "sealift_is_times_as_fast": seconds / own_seconds if own_seconds else None,
                "cpu_seconds": cpu,
                "cpu_ms_per_object": cpu / objects * 1000,
                "peak_mib": max(s.peak_bytes for s in runs) / MIB,
                "children_peak_mib": max(s.children_peak_bytes for s in runs) / MIB,
                "children_files": max(s.children_files for s in runs),
            }
        if counted := requests.get(client.name):
            objects = client.objects or workload.objects
            row["requests_per_object"] = {kind: count / objects for kind, count in sorted(counted.items())}
        rows.append(row)
    targets = []
    for target in workload.targets:
        value = target.value(samples)
        targets.append(
            {
                "text": target.text,
                "at_least": target.at_least,
                "at_most": target.at_most,
                "value": value,
                "met": None if value is None else target.is_met(value),
            }
        )
    return {"name": workload.name, "title": workload.title, "clients": rows, "targets": targets}


def render(results: Mapping[str, Any]) -> str:
    """The whole result as Markdown."""
    facts = results["machine"]
    lines = [
        "# Benchmark",
        "",
        f"{results['date']}, Sealift {results['sealift']}, {facts['cores']} cores, Python {facts['python']}, "
        f"SeaweedFS on the same machine; medians of up to {results['rounds']} rounds in turn, "
        f"scale {results['scale']:g}. "
        "Whole commands: start, listing, ledger and report included. CPU is the client's, user and system; peak is its "
        "largest process, then the largest that the command started (Sealift's workers), and the most files that "
        "one of these had open. "
        "× is how many times as fast as that client Sealift is.",
        "",
        "Peers: " + ", ".join(f"{name} {version}" for name, version in facts["peers"].items()) + ".",
    ]
    for workload in results["workloads"]:
        lines += ["", f"## {workload['title']}", ""]
        if "skipped" in workload:
            lines.append(f"**Not run:** {workload['skipped']}")
            continue
        lines += [*_clients(workload), *_requests(workload), "", f"Load average before: {workload['load_before']:.1f}."]
        if workload["targets"]:
            lines += ["", "| must reach | wanted | got | |", "|---|---|---|---|"]
        for target in workload["targets"]:
            wanted = f"≥ {target['at_least']:g}" if target["at_least"] is not None else f"≤ {target['at_most']:g}"
            got = "–" if target["value"] is None else f"{target['value']:.2f}"
            verdict = {None: "not measured", True: "met", False: "**missed**"}[target["met"]]
            lines.append(f"| {target['text']} | {wanted} | {got} | {verdict} |")
    return "\n".join(lines) + "\n"


def _clients(workload: Mapping[str, Any]) -> list[str]:
    by_bytes = any(row.get("mib_per_second", 0) > 100 for row in workload["clients"])
    unit = "MiB/s" if by_bytes else "objects/s"
    lines = [
        f"| client | seconds | {unit} | × | CPU s | CPU ms/object | peak MiB | its children | open files |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in workload["clients"]:
        if "seconds" not in row:
            lines.append(f"| {row['client']} | failed: {row['failed'] or 'no round ended'} | | | | | | | |")
            continue
        rate = row["mib_per_second"] if by_bytes else row["objects_per_second"]
        times = "–" if row["sealift_is_times_as_fast"] is None else f"{row['sealift_is_times_as_fast']:.2f}"
        failed = f" (a round failed: {row['failed']})" if row["failed"] else ""
        lines.append(
            f"| {row['client']}{failed} | {row['seconds']:.2f} | {rate:,.0f} | {times} | {row['cpu_seconds']:.2f} "
            f"| {row['cpu_ms_per_object']:.2f} | {row['peak_mib']:.0f} | {row['children_peak_mib']:.0f} "
            f"| {row['children_files']} |"
        )
    return lines


def _requests(workload: Mapping[str, Any]) -> list[str]:
    """The requests an object of each client, by kind, the most frequent first."""
    lines = []
    for row in workload["clients"]:
        if found := row.get("requests_per_object"):
            each = sorted(found.items(), key=lambda item: -item[1])
            lines.append(f"| {row['client']} | {', '.join(f'{kind} {count:.4g}' for kind, count in each)} |")
    return ["", "| client | requests per object |", "|---|---|", *lines] if lines else []
