"""Ledgers of released versions, read by today's code, and a newer ledger, which is refused by name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.servers import Server
from tests.end_to_end.conftest import World, discard
from tests.ledger.keep_release import COPIES, LEDGER, LOST, OBJECTS, POLICY, RELEASES, SOURCE, read_release

ROOT = Path(__file__).resolve().parents[2]
RELEASED = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
JOBS = {"replicate": 1, "verify": 3, "reconcile": 2, "compact": 1}
AT = {"SEALIFT_LEDGER": f"s3://{LEDGER}/sealift"}


@pytest.fixture(params=RELEASED)
def kept(seaweed: Server, request: pytest.FixtureRequest) -> Iterator[World]:
    """The buckets as the release's day left them."""
    world = World(seaweed, seaweed.client(), SOURCE, COPIES, LEDGER)
    read_release(world.client, request.param)
    yield world
    discard(world)


def ask(world: World, *arguments: str, code: int = 0) -> dict[str, Any]:
    result = world.sealift(*arguments, "--json", **AT)
    assert result.code == code, result.stderr
    return result.document


def test_the_ledger_of_each_release_is_kept() -> None:
    """`python -m tests.ledger.keep_release CHECKOUT VERSION` keeps it."""
    assert sorted(file.stem for file in RELEASES.glob("*.zip")) == sorted(RELEASED)


def test_today_reads_the_ledger_of_a_release_and_goes_on_with_it(kept: World, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)
    policy = ["--policy", str(tmp_path / "policy.yaml")]
    runs = ask(kept, "runs", "list")["runs"]
    assert {run["state"] for run in runs} == {"complete"}
    by_job = {job: [run for run in runs if run["job"] == job] for job in JOBS}
    assert {job: len(each) for job, each in by_job.items()} == JOBS
    for run in runs:
        code = 3 if run["failures"] else 0
        assert ask(kept, "runs", "show", run["run_id"], code=code)["run_id"] == run["run_id"]
        assert ask(kept, "runs", "show", run["run_id"])["rows"] == run["rows"]
        page = tmp_path / f"{run['run_id']}.html"  # the kept ledger has none
        assert kept.sealift("runs", "show", run["run_id"], "--html", str(page), **AT).code == code
        assert run["run_id"] in page.read_text()
    asked = kept.sealift("query", "SELECT status, count(*) AS n FROM outcomes GROUP BY 1", "--format", "json", **AT)
    assert {row["status"]: row["n"] for row in json.loads(asked.stdout)}["missing"] == 1, asked.stderr
    asked = kept.sealift("query", "SELECT count(*) AS n FROM catalog", "--format", "json", **AT)
    assert json.loads(asked.stdout)[0]["n"] > 0
    assert ask(kept, "status", code=3)["problems"]
    [archive] = ask(kept, "archives", "list")["archives"]
    assert archive["members"] == len(OBJECTS)
    night = ask(kept, "nightly", "--pair", "docs", "--night", "2026-11-24", *policy)
    assert night["ran_before"]

    damaged = next(run for run in by_job["verify"] if run["failures"])
    retried = ask(kept, "runs", "retry", damaged["run_id"], "--yes")
    assert retried["outcomes"] == {"copied": 1}
    assert kept.copy_of(LOST) == OBJECTS[LOST]
    restored = ask(
        kept, "restore", "--archives", f"s3://{COPIES}/archives", "--key", LOST, "--destination", f"s3://{COPIES}/back"
    )
    assert restored["outcomes"] == {"restored": 1}
    assert kept.copy_of(f"back/{LOST}") == OBJECTS[LOST]


@pytest.mark.parametrize(
    ("document", "version", "command"),
    [
        ("runs/{run}/spec.json", "spec_version", ["runs", "show", "{run}"]),
        ("runs/{run}/plan.json", "spec_version", ["runs", "show", "{run}"]),
        ("runs/{run}/report.json", "spec_version", ["runs", "show", "{run}"]),
        ("nights/docs/2026-11-24.json", "night_version", ["nightly", "--pair", "docs", "--night", "2026-11-24"]),
    ],
)
def test_a_newer_ledger_is_refused_by_name(
    kept: World, tmp_path: Path, document: str, version: str, command: list[str]
) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)
    run_id = ask(kept, "runs", "list", "--job", "replicate")["runs"][0]["run_id"]
    key = f"sealift/{document.format(run=run_id)}"
    newer = json.loads(kept.client.get_object(Bucket=LEDGER, Key=key)["Body"].read()) | {version: 99}
    kept.client.put_object(Bucket=LEDGER, Key=key, Body=json.dumps(newer).encode())
    options = ["--policy", str(tmp_path / "policy.yaml")] if "nightly" in command else []
    refused = kept.sealift(*(word.format(run=run_id) for word in command), *options, **AT)
    assert (refused.code, refused.stdout) == (10, "")
    assert f"s3://{LEDGER}/{key} is of version 99, this Sealift reads version 1" in refused.stderr
    others = ask(kept, "runs", "list")["runs"]
    assert [run["state"] for run in others].count("complete") >= len(others) - 1
