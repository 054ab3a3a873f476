"""A rolling upgrade: functions of one release, workers of another, one ledger and one policy.json.

The other release is played by what it leaves: documents with keys that this one does not know.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from jobs.config import Settings
from scheduler.follow import handle
from scheduler.runtime import Runtime
from tests.doubles.lambda_invoke import LambdaApi
from tests.scheduler.conftest import Place
from tests.scheduler.event_samples import batch

LATER = {"of_another_release": {"since": "2.0"}}
ODD_KEYS = ("plain", 'a,b"c', "a b+c", "ünïcode/日本", "100%25", "line\nbreak")
LARGE = b"more than ten bytes"


def as_another_release(place: Place, *folders: str) -> int:
    """Write all documents of the folders again as another release does, a line each. Returns how many there are."""
    names = [name for folder in folders for name in place.names(folder) if name.endswith((".json", ".jsonl"))]
    for name in names:
        lines = [json.loads(line) | LATER for line in place.read(name).splitlines()]
        body = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
        place.client.put_object(Bucket=place.ledger, Key=f"l/{name}", Body=body)
    return len(names)


@pytest.mark.slow
def test_functions_of_one_release_and_workers_of_another_share_a_ledger(
    place: Place, api: LambdaApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write_policy(thresholds={"lambda_max_size": "10 B", "backlog_rows": 1})
    document = json.loads(place.policy.read_text())
    document["policy"]["pairs"][0]["source"] |= LATER
    place.policy.write_text(json.dumps(document | LATER))
    with place.function("backup") as backup:
        told = [place.event(key, LARGE) for key in ODD_KEYS]
        assert backup.invoke(batch(*told, *told, place.event("small"))).failed == []
    assert as_another_release(place, "backlog/", "journal/") >= 2
    with place.function("enqueue") as enqueue:
        (published,) = enqueue.invoke({"action": "backlog"}).payload["manifests"]
    assert (published["number"], published["rows"]) == (1, len(ODD_KEYS))
    assert api.calls == [("sealift-submit", {"action": "manifest", "pair": "pair", "number": 1})]
    assert as_another_release(place, "manifests/") == 1
    command = [sys.executable, "-m", "jobs", "replicate", "--pair", "pair", "--manifest", published["manifest"]]
    done = subprocess.run([*command, "--json"], env=place.environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["outcomes"] == {"done": len(ODD_KEYS)}
    assert [place.copy_of(key) for key in ODD_KEYS] == [LARGE] * len(ODD_KEYS)

    name = f"runs/{report['run_id']}/report.json"
    body = json.dumps(json.loads(place.read(name)) | LATER).encode()
    place.client.put_object(Bucket=place.ledger, Key=f"l/{name}", Body=body)
    for variable, value in place.environment().items():
        monkeypatch.setenv(variable, value)
    mails: list[str] = []
    monkeypatch.setattr("scheduler.follow.publish", lambda topic, subject, text: mails.append(subject))
    runtime = Runtime(Settings.from_environment(place.environment() | {"SEALIFT_TOPIC": "topic"}))
    job = {"jobName": f"{report['run_id']}-000-report", "jobId": "1", "status": "SUCCEEDED"}
    ended = {"detail-type": "Batch Job State Change", "detail": job}
    assert runtime.run(handle(runtime, ended))["action"] == "told"
    assert [subject.startswith("Sealift replicate:") for subject in mails] == [True]
