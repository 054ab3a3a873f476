"""Places whose copies something removes later: mirrored deletes and lifecycle rules."""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.aws.clients import PROMPT_TRIES, open_client
from jobs.core.model import Attributes, Location, ObjectRef
from jobs.core.run import Side
from jobs.errors import ConfigError, PolicyError, UsageError
from jobs.expire import places
from jobs.expire.places import refuse_replicated_deletes
from jobs.ledger.ledger import Ledger
from jobs.s3.store import UNGUARDED
from tests.doubles.answering import Asked, Reply, answering
from tests.doubles.memory_store import MemoryStore
from tests.doubles.policies import resolved
from tests.doubles.scripted_server import CREDENTIALS, error_body

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
    with pytest.raises(UsageError, match="by deletes: mirror of pair docs"):
        check_mirrors(policy_text("mirror"), ARCHIVES, Location("hot", place))


def test_replica_that_gets_delete_markers_is_refused_and_other_places_are_not() -> None:
    check_mirrors(
        policy_text("mirror"), Location("twin"), Location("hot", "archives/"), Location("hot", "copies/2024/")
    )
    with pytest.raises(UsageError, match=r"by replica\.delete_markers of pair docs"):
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


def check_lifecycle(monkeypatch: pytest.MonkeyPatch, reply: Reply, *copies: Location) -> None:
    """S3 answers so."""

    def answered(asked: Asked) -> Reply:
        assert (asked.path, asked.headers["x-amz-expected-bucket-owner"]) == ("/cold?lifecycle", "123456789012")
        return reply

    def opened(service: str, region: str | None, tries: int, **options: Any) -> Any:
        assert tries <= PROMPT_TRIES  # a silent server ends the command within half a minute
        return open_client(service, REGION, tries, **options)

    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(places, "open_client", opened)
    with answering(answered) as endpoint:
        asyncio.run(places.refuse_lifecycle(copies, Side(copies[0], endpoint, owner="123456789012")))


def xml(**elements: Any) -> str:
    return "".join(f"<{tag}>{xml(**of) if isinstance(of, dict) else of}</{tag}>" for tag, of in elements.items())


def rule(prefix: str = "", status: str = "Enabled", **elements: Any) -> Reply:
    text = xml(Rule={"ID": "clean", "Status": status, "Filter": {"Prefix": prefix}} | elements)
    return Reply(body=f'<LifecycleConfiguration xmlns="http://s3">{text}</LifecycleConfiguration>'.encode())


REMOVES = "the lifecycle rule 'clean' of s3://cold has "
DAY: dict[str, Any] = {"Expiration": {"Days": 1}}
LIFECYCLES: list[tuple[str, Reply]] = [
    *((f"{REMOVES}Expiration/Days, ", rule(prefix, **DAY)) for prefix in ("", "packed", "packed/2026/")),
    (f"{REMOVES}Expiration/Days, ", rule(Filter={"And": {"Prefix": "packed", "ObjectSizeLessThan": 9}}, **DAY)),
    (f"{REMOVES}Expiration/Days, ", rule(Filter="<Tag><Key>a</Key><Value>b</Value></Tag>", **DAY)),
    (f"{REMOVES}Expiration/Days, ", rule(status="Paused", **DAY)),
    (f"{REMOVES}Expiration/Date, ", rule(Expiration={"Date": "2030-01-01T00:00:00Z"})),
    (f"{REMOVES}Rule/NoncurrentVersionExpiration, ", rule(NoncurrentVersionExpiration={"NewerNoncurrentVersions": 1})),
    # MinIO's own elements, which botocore leaves out: originals went, and after a day all versions of their copies
    (f"{REMOVES}Rule/AllVersionsExpiration, ", rule(AllVersionsExpiration={"Days": 1})),
    (f"{REMOVES}Expiration/ExpiredObjectAllVersions, ", rule(Expiration={"ExpiredObjectAllVersions": "true"})),
    (f"{REMOVES}Filter/Not, ", rule(Filter={"Prefix": "other/", "Not": {"Tag": "a"}})),
    (f"{REMOVES}And/Or, ", rule(Filter={"And": {"Prefix": "other/", "Or": {"Prefix": "packed/a/"}}})),
    ("permit s3:GetLifecycleConfiguration", Reply(403, body=error_body("AccessDenied"))),
    ("is not known", Reply(body=b"<ListBucketResult/>")),
    ("", rule("other/", **DAY, AllVersionsExpiration={"Days": 1})),
    ("", rule(Filter={"And": {"Prefix": "other/", "ObjectSizeLessThan": 9}}, **DAY)),
    ("", rule(status="Disabled", **DAY)),
    ("", rule(Expiration={"ExpiredObjectDeleteMarker": "true"})),
    ("", rule(AbortIncompleteMultipartUpload={"DaysAfterInitiation": 7})),
    ("", rule(Transition={"Days": 30, "StorageClass": "GLACIER_IR"})),
    ("", Reply(404, body=error_body("NoSuchLifecycleConfiguration"))),
    ("", Reply(501, body=error_body("NotImplemented"))),
]


@pytest.mark.parametrize(("why", "reply"), LIFECYCLES)
def test_a_lifecycle_that_removes_copies_or_may_do_so_is_refused(
    monkeypatch: pytest.MonkeyPatch, why: str, reply: Reply
) -> None:
    with pytest.raises(ConfigError, match=why) if why else contextlib.nullcontext():
        check_lifecycle(monkeypatch, reply, Location("cold", "none/"), ARCHIVES)


def replication(*, markers: bool, bucket: str = "copies", prefix: str = "", status: str = "Enabled") -> dict[str, Any]:
    return {
        "ID": "both",
        "Status": status,
        "Filter": {"Prefix": prefix},
        "Destination": {"Bucket": f"arn:aws:s3:::{bucket}"},
        "DeleteMarkerReplication": {"Status": "Enabled" if markers else "Disabled"},
    }


CARRIES, MINIO = "may carry deletes", "http://minio.test"
OLD_RULE = {"ID": "1", "Status": "Enabled", "Prefix": "", "Destination": {"Bucket": "arn:aws:s3:::copies"}}  # version 1
REPLICATIONS: list[tuple[str, bool, str | None, list[dict[str, Any]]]] = [
    # The originals' document is at the copies.
    ("", True, None, []),
    ("", True, None, [replication(markers=False)]),
    ("", True, None, [replication(markers=False), replication(markers=True, bucket="elsewhere")]),
    ("", True, None, [replication(markers=True, status="Disabled")]),
    ("", True, None, [replication(markers=True, prefix="out/")]),
    (CARRIES, True, None, [replication(markers=True)]),
    (CARRIES, True, None, [replication(markers=False, prefix="in/a/"), replication(markers=True, prefix="in/b/")]),
    (CARRIES, True, None, [replication(markers=True, bucket="perhaps-an-alias")]),
    (CARRIES, True, None, [OLD_RULE]),
    ("is not AWS", True, MINIO, [replication(markers=False)]),
    # It is not: the rule began after the declaration. MinIO replicates deletes by an element that S3's API does not
    # have, and after a pause what was deleted within it: a paused rule was allowed there as it is at AWS.
    (CARRIES, False, None, [replication(markers=True)]),
    (CARRIES, False, MINIO, [replication(markers=False)]),
    (CARRIES, False, MINIO, [replication(markers=False, status="Disabled")]),
    ("", False, None, [replication(markers=True, bucket="elsewhere")]),
    ("", False, MINIO, [replication(markers=False, bucket="elsewhere")]),
    ("permit s3:GetReplicationConfiguration", False, None, [{}]),  # it cannot be read
]


@pytest.mark.parametrize(("why", "is_replica", "endpoint", "rules"), REPLICATIONS)
def test_replication_that_may_carry_deletes_is_refused(
    monkeypatch: pytest.MonkeyPatch, why: str, is_replica: bool, endpoint: str | None, rules: list[dict[str, Any]]
) -> None:
    answer = {"ReplicationConfiguration": {"Role": "r", "Rules": rules}}
    client = SimpleNamespace(get_bucket_replication=lambda **_: answer, meta=SimpleNamespace(endpoint_url=""))
    monkeypatch.setattr(places, "open_client", lambda *_, **__: client)
    source, copies = Side(Location("docs", "in/"), endpoint), Location("copies", "in/")
    with pytest.raises(ConfigError, match=why) if why else contextlib.nullcontext():
        asyncio.run(refuse_replicated_deletes(source, copies, is_replica=is_replica))
