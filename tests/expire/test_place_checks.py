"""Places whose copies something removes later: mirrored deletes and lifecycle rules."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from jobs.aws.clients import PROMPT_TRIES
from jobs.core.model import Attributes, Location, ObjectRef
from jobs.core.run import Side
from jobs.errors import ConfigError, PolicyError, UsageError
from jobs.expire import places
from jobs.expire.places import refuse_replicated_deletes
from jobs.ledger.ledger import Ledger
from jobs.s3.store import UNGUARDED
from tests.doubles.memory_store import MemoryStore
from tests.doubles.policies import resolved

ARCHIVES = Location("cold", "packed/")
REGION = "eu-central-1"


def policy_text(deletes: str = "retain", *, delete_markers: bool = False) -> bytes:
    pair = {
        "name": "docs",
        "source": {"bucket": "docs", "region": REGION, "prefixes": ["2025/", "2026/"]},
        "destination": {"bucket": "hot", "region": REGION, "prefix": "copies/"},
        "replica": {"bucket": "twin", "region": "eu-west-1", "delete_markers": delete_markers},
        "deletes": deletes,
    }
    return resolved({"version": 1, "ledger": {"bucket": "ledger", "region": REGION}, "pairs": [pair]})


def check_mirrors(text: bytes, *copies: Location) -> None:
    """As the command does with the policy that Terraform keeps in the ledger."""

    async def check() -> None:
        store = MemoryStore()
        store.create_bucket("ledger")
        ledger = Ledger(store, Location("ledger", "runs/"))
        assert await places.find_policy(ledger) is None
        await store.put(ObjectRef("ledger", "runs/policy.json"), text, Attributes(), guard=UNGUARDED)
        policy = await places.find_policy(ledger)
        assert policy is not None
        places.refuse_mirrors(policy, copies)

    asyncio.run(check())


@pytest.mark.parametrize("place", ["", "copies/", "copies/2026/", "copies/2025/a/"])
def test_destination_of_a_pair_that_mirrors_deletes_is_refused(place: str) -> None:
    check_mirrors(policy_text(), ARCHIVES, Location("hot", place))
    with pytest.raises(UsageError, match="the pair docs of the policy has deletes: mirror"):
        check_mirrors(policy_text("mirror"), ARCHIVES, Location("hot", place))


def test_replica_that_gets_delete_markers_is_refused_and_other_places_are_not() -> None:
    check_mirrors(
        policy_text("mirror"), Location("twin"), Location("hot", "archives/"), Location("hot", "copies/2024/")
    )
    with pytest.raises(UsageError, match=r"has replica\.delete_markers"):
        check_mirrors(policy_text(delete_markers=True), Location("twin"))


def test_policy_in_the_ledger_that_cannot_be_read_refuses() -> None:
    with pytest.raises(PolicyError):
        check_mirrors(b"version: 99")


def test_policy_of_an_earlier_release_refuses_unless_one_is_given() -> None:
    """Its functions still mirror deletes, until `terraform apply` puts policy.json there."""

    async def check() -> None:
        store = MemoryStore()
        store.create_bucket("ledger")
        ledger = Ledger(store, Location("ledger", "runs/"))
        await store.put(ObjectRef("ledger", "runs/policy.yaml"), b"version: 1", Attributes(), guard=UNGUARDED)
        with pytest.raises(ConfigError, match=r"s3://ledger/runs/policy\.yaml"):
            await places.find_policy(ledger)
        assert await places.find_policy(ledger, is_given=True) is None

    asyncio.run(check())


def check_lifecycle(monkeypatch: pytest.MonkeyPatch, answer: Any, *copies: Location) -> list[str]:
    """What is said, where S3 answers with these rules or with this error (code, HTTP status)."""

    def answered(**request: str) -> Any:
        assert request == {"Bucket": copies[0].bucket, "ExpectedBucketOwner": "123456789012"}
        if isinstance(answer, tuple):
            code, status = answer
            told: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
            raise ClientError(told, "GetBucketLifecycleConfiguration")
        return answer

    def opened(service: str, region: str | None, tries: int, **_: Any) -> Any:
        assert tries <= PROMPT_TRIES  # a silent server ends the command within half a minute
        return SimpleNamespace(get_bucket_lifecycle_configuration=answered, meta=SimpleNamespace(endpoint_url=""))

    monkeypatch.setattr(places, "open_client", opened)
    said: list[str] = []
    side = Side(copies[0], owner="123456789012")
    asyncio.run(places.refuse_lifecycle(copies, side, said.append))
    return said


def rule(prefix: str = "", status: str = "Enabled", **actions: Any) -> dict[str, Any]:
    return {"Rules": [{"ID": "clean", "Status": status, "Filter": {"Prefix": prefix}} | actions]}


REMOVING: list[dict[str, Any]] = [
    {"Expiration": {"Days": 1}},
    {"Expiration": {"Date": datetime(2030, 1, 1, tzinfo=UTC)}},
    {"NoncurrentVersionExpiration": {"NoncurrentDays": 30}},
    {"NoncurrentVersionExpiration": {"NewerNoncurrentVersions": 1}},  # SeaweedFS and MinIO take it without days
]


@pytest.mark.parametrize("actions", REMOVING, ids=["days", "date", "noncurrent", "newer noncurrent"])
@pytest.mark.parametrize("prefix", ["", "packed", "packed/2026/"])
def test_lifecycle_rule_that_removes_copies_is_refused(
    monkeypatch: pytest.MonkeyPatch, actions: dict[str, Any], prefix: str
) -> None:
    with pytest.raises(ConfigError, match="lifecycle rule 'clean'"):
        check_lifecycle(monkeypatch, rule(prefix, **actions), Location("cold", "other/"), ARCHIVES)
    tagged = rule(**actions)
    tagged["Rules"][0]["Filter"] = {"And": {"Prefix": prefix, "Tags": [{"Key": "a", "Value": "b"}]}}
    with pytest.raises(ConfigError, match="lifecycle rule 'clean'"):
        check_lifecycle(monkeypatch, tagged, ARCHIVES)


@pytest.mark.parametrize(
    "answer",
    [
        rule("other/", Expiration={"Days": 1}),
        rule(status="Disabled", Expiration={"Days": 1}),
        rule(Expiration={"ExpiredObjectDeleteMarker": True}, AbortIncompleteMultipartUpload={"DaysAfterInitiation": 7}),
        rule(Transitions=[{"Days": 30, "StorageClass": "GLACIER_IR"}]),
        ("NoSuchLifecycleConfiguration", 404),
    ],
)
def test_lifecycle_configuration_that_removes_no_copy_is_allowed(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    assert check_lifecycle(monkeypatch, answer, ARCHIVES) == []


def test_lifecycle_configuration_that_cannot_be_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="permit s3:GetLifecycleConfiguration"):
        check_lifecycle(monkeypatch, ("AccessDenied", 403), ARCHIVES)
    with pytest.raises(ConfigError, match="is not known"):
        check_lifecycle(monkeypatch, {"Contents": []}, ARCHIVES)


def test_server_without_lifecycle_rules_is_allowed_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    [said] = check_lifecycle(monkeypatch, ("NotImplemented", 501), ARCHIVES)
    assert said.startswith("s3://cold: ")


def check_replication(
    monkeypatch: pytest.MonkeyPatch, endpoint: str | None = None, *, is_replica: bool = True, **answer: Any
) -> None:
    client = SimpleNamespace(get_bucket_replication=lambda **_: answer, meta=SimpleNamespace(endpoint_url=""))
    monkeypatch.setattr(places, "open_client", lambda *_, **__: client)
    source, copies = Side(Location("docs", "in/"), endpoint), Location("copies", "in/")
    asyncio.run(refuse_replicated_deletes(source, copies, is_replica=is_replica))


def replication(*, markers: bool, bucket: str = "copies", prefix: str = "", status: str = "Enabled") -> dict[str, Any]:
    return {
        "ID": "both",
        "Status": status,
        "Filter": {"Prefix": prefix},
        "Destination": {"Bucket": f"arn:aws:s3:::{bucket}"},
        "DeleteMarkerReplication": {"Status": "Enabled" if markers else "Disabled"},
    }


@pytest.mark.parametrize(
    "rules",
    [
        [replication(markers=False)],
        [replication(markers=False), replication(markers=True, bucket="elsewhere")],
        [replication(markers=True, status="Disabled")],
        [replication(markers=True, prefix="out/")],
        [],
    ],
)
def test_replication_that_carries_no_deletes_is_allowed(monkeypatch: pytest.MonkeyPatch, rules: list[Any]) -> None:
    check_replication(monkeypatch, ReplicationConfiguration={"Role": "r", "Rules": rules})


@pytest.mark.parametrize(
    "rules",
    [
        [replication(markers=True)],
        [replication(markers=False, prefix="in/a/"), replication(markers=True, prefix="in/b/")],
        [replication(markers=True, bucket="perhaps-an-alias")],
        [{"ID": "1", "Status": "Enabled", "Prefix": "", "Destination": {"Bucket": "arn:aws:s3:::copies"}}],  # version 1
    ],
)
def test_replication_that_carries_deletes_is_refused(monkeypatch: pytest.MonkeyPatch, rules: list[Any]) -> None:
    with pytest.raises(ConfigError, match="may carry deletes"):
        check_replication(monkeypatch, ReplicationConfiguration={"Role": "r", "Rules": rules})


@pytest.mark.parametrize("is_elsewhere", [False, True])
def test_replication_that_began_after_the_declaration_is_refused(
    monkeypatch: pytest.MonkeyPatch, is_elsewhere: bool
) -> None:
    """It carried no document. MinIO replicates deletes by an element that S3's API does not have, and after a pause
    what was deleted within it: a paused rule was allowed there as it is at AWS.
    """
    bucket, minio = "elsewhere" if is_elsewhere else "copies", "http://minio.test"
    for endpoint, markers, status in ((None, True, "Enabled"), (minio, False, "Enabled"), (minio, False, "Disabled")):
        rules = {"Role": "r", "Rules": [replication(markers=markers, bucket=bucket, status=status)]}
        with contextlib.nullcontext() if is_elsewhere else pytest.raises(ConfigError, match="may carry deletes"):
            check_replication(monkeypatch, endpoint, is_replica=False, ReplicationConfiguration=rules)


def test_replication_that_cannot_be_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = {"Role": "r", "Rules": [replication(markers=False)]}
    with pytest.raises(ConfigError, match="is not AWS"):
        check_replication(monkeypatch, "http://minio.test", ReplicationConfiguration=rules)
    with pytest.raises(ConfigError, match="permit s3:GetReplicationConfiguration"):
        check_replication(monkeypatch, Contents=[])
