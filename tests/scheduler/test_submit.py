"""The submit function over a Batch of its own: one job for each night, manifest and report, whatever happens."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import threading
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jobs.aws.batch import Batch
from jobs.config import Settings
from jobs.core.model import Location
from jobs.core.prefix_map import PrefixMap
from jobs.policy.reader import read_policy
from jobs.runs.placement import BatchOptions, choose_placement
from scheduler.batch_starts import TIMEOUT_SECONDS, Start, start
from scheduler.runtime import Runtime
from scheduler.settings import FunctionSettings
from tests.doubles.batch.account import Puppets, make_client, register
from tests.doubles.batch.server import BatchServer, batch_server
from tests.doubles.examples import examples
from tests.doubles.memory_store import MemoryStore
from tests.scheduler.conftest import Place
from tests.scheduler.event_samples import eventbridge, notification, record

NIGHT = {"action": "nightly", "pair": "pair", "scheduled_at": "2026-11-25T03:30:00Z"}


@pytest.fixture
def batch(place: Place) -> Iterator[BatchServer]:
    with batch_server(Puppets(), max_running=1) as server:
        server.add_queue("sealift-orchestrators")
        for name in ("nightly", "backfill", "reconcile", "replicate"):
            register(make_client(server), f"sealift-{name}")
        place.more |= {"AWS_ENDPOINT_URL_BATCH": server.endpoint}
        yield server


def test_a_night_is_started_once_whoever_asks_again(place: Place, batch: BatchServer) -> None:
    with place.function("submit") as submit:
        answers = [submit.invoke(NIGHT).payload["started"][0] for _ in range(2)]
    with place.function("submit") as submit:  # another runtime, and Scheduler a little late
        late = submit.invoke(NIGHT | {"scheduled_at": "2026-11-25T03:42:00Z"}).payload["started"][0]
        next_night = submit.invoke(NIGHT | {"scheduled_at": "2026-11-26T03:30:00Z"}).payload["started"][0]
        answers.append(late)
    assert [each["is_new"] for each in answers] == [True, False, False]
    assert len({each["job_id"] for each in answers}) == 1
    assert next_night["is_new"]
    assert batch.names() == ["sealift-pair-nightly-2026-11-25", "sealift-pair-nightly-2026-11-26"]
    job = batch.job("sealift-pair-nightly-2026-11-25")
    assert job.request["jobDefinition"] == "sealift-nightly"
    assert job.request["containerOverrides"]["command"] == ["nightly", "--pair", "pair", "--night", "2026-11-25"]
    environment = {each["name"]: each["value"] for each in job.request["containerOverrides"]["environment"]}
    told = {"SEALIFT_LEDGER": f"s3://{place.ledger}/l", "SEALIFT_EXECUTOR": "batch", "SEALIFT_START": job.name}
    assert environment == told
    assert job.request["timeout"] == {"attemptDurationSeconds": TIMEOUT_SECONDS}  # days, not a worker's hours


def test_jobs_name_their_share_where_queues_share_fairly(place: Place, batch: BatchServer) -> None:
    """Batch refuses a job without one there, or without a priority, and one with a share elsewhere."""
    batch.add_queue("fair", is_fair_share=True)
    place.more |= {"SEALIFT_BATCH_QUEUE": "fair", "SEALIFT_BATCH_SHARE": "sealift"}
    with place.function("submit") as submit:
        (started,) = submit.invoke(NIGHT).payload["started"]
    request = batch.job(started["job_name"]).request
    assert (request["shareIdentifier"], request["schedulingPriorityOverride"]) == ("pair", 0)
    environment = {each["name"]: each["value"] for each in request["containerOverrides"]["environment"]}
    settings = Settings.from_environment(
        environment | {"SEALIFT_BATCH_QUEUE": "q", "SEALIFT_BATCH_JOB_DEFINITION": "d"}
    )
    assert choose_placement(BatchOptions(), settings, "replicate").share == "pair"
    assert choose_placement(BatchOptions(share="mine"), settings, "replicate").share == "mine"


def test_a_night_is_the_one_of_the_pairs_time_zone(place: Place, batch: BatchServer) -> None:
    place.write_policy(nightly={"hour": "22:30", "time_zone": "America/New_York"})
    with place.function("submit") as submit:
        answer = submit.invoke(NIGHT | {"scheduled_at": "2026-11-26T03:30:00Z"})
    assert answer.payload["started"][0]["once"] == "2026-11-25"


def test_a_lost_answer_does_not_start_a_night_twice(place: Place, batch: BatchServer) -> None:
    batch.lose["SubmitJob"] = 1
    with place.function("submit") as submit:
        assert submit.invoke(NIGHT).payload["started"][0]["job_id"]
    assert batch.names() == ["sealift-pair-nightly-2026-11-25"]


def test_a_claim_whose_owner_died_is_taken_over(place: Place, batch: BatchServer) -> None:
    """Before it submitted, and after it did. What the claim wants to have run does not matter: it is a lock."""
    claim = {
        "pair": "pair",
        "job": "replicate",
        "once": "2026-11-25",
        "command": ["replicate", "--source", "s3://evil", "--destination", "s3://hot", "--overwrite", "always"],
        "at": 0,
        "token": "other",
    }
    key = "l/starts/sealift-pair-nightly-2026-11-25"
    place.client.put_object(Bucket=place.ledger, Key=f"{key}.json", Body=json.dumps(claim).encode())
    with place.function("submit") as submit:
        first = submit.invoke(NIGHT).payload["started"][0]
        request = batch.job("sealift-pair-nightly-2026-11-25").request
        assert request["containerOverrides"]["command"] == ["nightly", "--pair", "pair", "--night", "2026-11-25"]
        assert request["jobDefinition"] == "sealift-nightly"
        place.client.delete_object(Bucket=place.ledger, Key=f"{key}.submitted.json")
        assert submit.invoke(NIGHT).payload["started"][0]["job_id"] == first["job_id"]
    assert len(batch.names()) == 1


@pytest.mark.parametrize(
    "forged",
    [
        {"manifest": "s3://{hot}/rows.csv"},
        {"manifest": "s3://{ledger}/l/manifests/pair=other/000001-0123456789ab.csv"},
        {"manifest": "s3://{ledger}/l/manifests/pair=pair/../../x.csv"},
        {"pair": "other"},
        {"number": 2},
        {"prefixes": [1]},
        {"prefixes": None},
    ],
)
def test_a_manifest_that_is_not_its_own_starts_nothing(
    place: Place, batch: BatchServer, forged: dict[str, Any]
) -> None:
    own = f"s3://{place.ledger}/l/manifests/pair=pair/000001-0123456789ab.csv"
    document = {"version": 1, "pair": "pair", "number": 1, "manifest": own, "prefixes": [], "rows": 1, "size_bytes": 0}
    forged = {
        name: value.format(hot=place.hot, ledger=place.ledger) if isinstance(value, str) else value
        for name, value in forged.items()
    }
    name = "l/manifests/pair=pair/000001.json"
    place.client.put_object(Bucket=place.ledger, Key=name, Body=json.dumps(document | forged).encode())
    asked = {"action": "manifest", "pair": "pair", "number": 1}
    with place.function("submit") as submit:
        answer = submit.invoke(asked)
        assert (answer.error_type, "altered" in answer.error_message) == ("LedgerError", True)
        assert batch.names() == []
        place.client.put_object(Bucket=place.ledger, Key=name, Body=json.dumps(document).encode())
        (started,) = submit.invoke(asked).payload["started"]
    command = batch.job(started["job_name"]).request["containerOverrides"]["command"]
    assert command == ["replicate", "--pair", "pair", "--yes", "--manifest", own]


def test_of_many_that_start_at_once_one_job_is_left(
    place: Place, batch: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in place.environment().items():
        monkeypatch.setenv(name, value)
    policy = read_policy(str(place.policy))
    store = MemoryStore()
    store.create_bucket("ledger")

    async def main() -> list[dict[str, Any]]:
        runtimes = [
            Runtime(FunctionSettings(str(place.policy), Location("ledger")), open_region=lambda *_: store)
            for _ in range(8)
        ]
        what = Start("pair", "nightly", "2026-11-25", ("nightly",))
        return await asyncio.gather(*(start(each, policy, what, Batch()) for each in runtimes))

    answers = asyncio.run(main())
    assert len({each["job_id"] for each in answers}) == 1
    with batch.engine.lock:
        alive = [job.id for job in batch.engine.jobs.values() if job.status not in ("SUCCEEDED", "FAILED")]
    assert alive == [answers[0]["job_id"]]


def test_of_two_jobs_submitted_at_the_same_moment_one_is_ended(place: Place) -> None:
    """Neither finds the other's job in Batch: both have looked before either was there."""

    class Twice(Batch):
        def __init__(self) -> None:
            super().__init__()
            self.submitted: list[str] = []
            self.ended: list[str] = []
            self.both = threading.Barrier(2, timeout=20)

        def submit(self, request: Mapping[str, Any], *, is_new: bool) -> str:
            self.both.wait()
            self.submitted.append(f"job-{len(self.submitted)}-{threading.get_ident()}")
            return self.submitted[-1]

        def terminate(self, job_id: str, reason: str) -> None:
            self.ended.append(job_id)

    edge, store = Twice(), MemoryStore()
    store.create_bucket("ledger")
    policy = read_policy(str(place.policy))

    async def main() -> list[dict[str, Any]]:
        runtime = Runtime(FunctionSettings(str(place.policy), Location("ledger")), open_region=lambda *_: store)
        what = Start("pair", "nightly", "2026-11-25", ("nightly",))
        return await asyncio.gather(*(start(runtime, policy, what, edge) for _ in range(2)))

    one, other = asyncio.run(main())
    assert one["job_id"] == other["job_id"]
    assert edge.ended == [job_id for job_id in edge.submitted if job_id != one["job_id"]]
    assert len(edge.ended) == 1


def test_a_backfill_that_is_called_like_a_manifest_does_not_take_its_name(place: Place, batch: BatchServer) -> None:
    """The manifest's rows were never copied: its job was said to be started."""
    own = f"s3://{place.ledger}/l/manifests/pair=pair/000001-0123456789ab.csv"
    document = {"version": 1, "pair": "pair", "number": 1, "manifest": own, "prefixes": [], "rows": 1, "size_bytes": 0}
    name = "l/manifests/pair=pair/000001.json"
    place.client.put_object(Bucket=place.ledger, Key=name, Body=json.dumps(document).encode())
    with place.function("submit") as submit:
        submit.invoke({"action": "backfill", "pair": "pair", "prefix": "in/", "id": "000001"})
        (started,) = submit.invoke({"action": "manifest", "pair": "pair", "number": 1}).payload["started"]
    assert started["is_new"]
    commands = [batch.job(each).request["containerOverrides"]["command"] for each in batch.names()]
    assert [command[-1] for command in commands] == ["in/", own]


PARTS = st.sampled_from(["a", "b", "backfill", "id", "nightly", "a-b", "backfill-id-a"])
STARTS = st.builds(
    lambda pair, job, once: Start(pair, job, once, ()),
    PARTS,
    st.sampled_from(["nightly", "backfill"]),
    st.lists(st.sampled_from(["a", "b", "-", ".", "/", "ü", " ", "backfill", "nightly", "id"]), min_size=1).map(
        "".join
    ),
)


@settings(max_examples=examples(500))
@given(STARTS, STARTS)
@example(Start("a", "backfill", "id-backfill-b", ()), Start("a-backfill-id", "backfill", "b", ()))
def test_two_starts_never_share_a_name(one: Start, other: Start) -> None:
    policy: Any = SimpleNamespace(name="sealift")
    assert (one.name(policy) == other.name(policy)) == (one == other)
    assert re.fullmatch("[A-Za-z0-9_-]{1,128}", one.name(policy))


def test_a_person_may_start_a_backfill(place: Place, batch: BatchServer) -> None:
    asked = {"action": "backfill", "pair": "pair", "prefix": "in/2026 ü/", "newer_than": "30d", "id": "mine"}
    with place.function("submit") as submit:
        for _ in range(2):
            assert submit.invoke(asked).payload["started"][0]["job_name"] == "sealift-pair-backfill-id-mine"
        assert (
            len({submit.invoke({"action": "backfill", "pair": "pair"}).payload["started"][0]["job_id"] for _ in "ab"})
            == 2
        )
    assert len(batch.names()) == 3
    command = batch.job("sealift-pair-backfill-id-mine").request["containerOverrides"]["command"]
    assert command == ["replicate", "--pair", "pair", "--yes", "--prefix", "in/2026 ü/", "--newer-than", "30d"]


@pytest.mark.parametrize(
    ("event", "says"),
    [
        ({"action": "nightly", "pair": "other"}, "no pair 'other' in the policy, only pair"),
        ({"action": "nightly"}, "no pair None"),
        ({"action": "dance", "pair": "pair"}, "no action 'dance'"),
        ({"action": "backfill", "pair": "pair", "prefixes": ["a"]}, "not prefixes"),
        ({"hello": "world"}, "not an S3 event"),
    ],
)
def test_what_makes_no_sense_is_refused(place: Place, event: dict[str, Any], says: str) -> None:
    with place.function("submit") as submit:
        answer = submit.invoke(event)
    assert answer.error_type == "UsageError"
    assert says in answer.error_message


def test_a_queue_that_is_not_there_is_an_error_and_the_night_can_still_begin(place: Place, batch: BatchServer) -> None:
    del batch.queues["sealift-orchestrators"]
    with place.function("submit") as submit:
        assert submit.invoke(NIGHT).error_type == "Rejected"
        batch.add_queue("sealift-orchestrators")
        assert submit.invoke(NIGHT).payload["started"][0]["job_id"]


def deliver(place: Place, bucket: str, stamp: str, *, complete: bool = True, config: str = "daily") -> dict[str, Any]:
    """A report of S3 Inventory, as far as this function looks at it; the event of its last file."""
    folder = f"inventory/{bucket}/{config}/{stamp}/"
    for name in ("manifest.json", "manifest.checksum") if complete else ("manifest.json",):
        place.client.put_object(Bucket=place.ledger, Key=f"{folder}{name}", Body=b"x")
    return eventbridge(place.ledger, f"{folder}manifest.checksum", version_id=None, size=32)


def command_of(place: Place, batch: BatchServer, event: dict[str, Any]) -> list[str]:
    """The command of the one job that the event starts."""
    with place.function("submit") as submit:
        assert len(submit.invoke(event).payload["started"]) == 1
    command: list[str] = batch.job(batch.names()[0]).request["containerOverrides"]["command"]
    return command


def test_a_reconciliation_maps_prefixes_that_overlap_or_have_an_equals_sign(place: Place, batch: BatchServer) -> None:
    text = place.policy.read_text()
    document = yaml.safe_load(text)
    document["pairs"][0]["source"]["prefixes"] = ["dt=2026/", "a/", "a/b/"]
    document["inventory"] = {"buckets": {"us-east-1": place.ledger}}
    place.policy.write_text(yaml.safe_dump(document))
    deliver(place, place.source, "2026-11-25T01-00Z")
    command = command_of(place, batch, deliver(place, place.hot, "2026-11-25T03-00Z"))
    maps = [word for before, word in itertools.pairwise(command) if before == "--map"]
    assert maps == ["a/=copies/a/", r"dt\=2026/=copies/dt\=2026/"]
    assert PrefixMap.parse(tuple(maps)).destination_of("a/b/k") == "copies/a/b/k"


def test_the_latest_report_of_the_same_configuration_counts_on_whatever_page_it_is(
    place: Place, batch: BatchServer
) -> None:
    place.policy.write_text(place.policy.read_text() + f"inventory: {{buckets: {{us-east-1: {place.ledger}}}}}\n")
    for minute in range(1001):  # a page of older reports
        stamp = f"2025-11-01T{minute // 60:02d}-{minute % 60:02d}Z"
        place.client.put_object(Bucket=place.ledger, Key=f"inventory/{place.source}/daily/{stamp}/x", Body=b"")
    deliver(place, place.source, "2026-11-25T01-00Z")
    deliver(place, place.source, "2026-11-25T09-00Z", config="weekly-csv")
    command = command_of(place, batch, deliver(place, place.hot, "2026-11-25T03-00Z"))
    assert command[2] == f"s3://{place.ledger}/inventory/{place.source}/daily/2026-11-25T01-00Z/manifest.json"


def test_a_reconciliation_begins_when_both_sides_have_reports_of_a_day(place: Place, batch: BatchServer) -> None:
    text = place.policy.read_text()
    inventory = f"inventory: {{buckets: {{us-east-1: {place.ledger}}}}}\n"
    place.policy.write_text(text + inventory)
    with place.function("submit") as submit:
        assert submit.invoke(deliver(place, place.source, "2026-11-24T01-00Z")).payload["started"] == []
        assert submit.invoke(deliver(place, place.source, "2026-11-25T01-00Z")).payload["started"] == []
        half = deliver(place, place.hot, "2026-11-25T01-00Z", complete=False)
        assert submit.invoke(half).payload["started"] == []
        other = eventbridge(place.ledger, "elsewhere/manifest.checksum")
        assert submit.invoke(other).payload["started"] == []
        both = deliver(place, place.hot, "2026-11-25T03-00Z")
        for _ in range(2):
            (started,) = submit.invoke(both).payload["started"]
        direct = notification(record(place.ledger, both["detail"]["object"]["key"]))
        assert submit.invoke(direct).payload["started"][0]["job_id"] == started["job_id"]
    assert len(batch.names()) == 1
    folder = f"s3://{place.ledger}/inventory"
    assert batch.job(batch.names()[0]).request["containerOverrides"]["command"] == [
        "reconcile",
        "--source-inventory",
        f"{folder}/{place.source}/daily/2026-11-25T01-00Z/manifest.json",
        "--source-region",
        "us-east-1",
        "--destination-inventory",
        f"{folder}/{place.hot}/daily/2026-11-25T03-00Z/manifest.json",
        "--destination-region",
        "us-east-1",
        "--map",
        "=copies/",
    ]
