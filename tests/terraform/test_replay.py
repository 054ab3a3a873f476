"""A day's real requests, replayed against the policies of a plan: nothing is refused, and no permission is idle.

`tests/terraform/day.py` runs the system with the plan's settings; each request is recorded with the role that sent it.
`requests.py` says what it asks of IAM, `refusals.py` what AWS refuses whatever policies say, `services.py` what AWS's
own services send.
"""

from __future__ import annotations

import contextlib
import copy
import faulthandler
import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.doubles.aws_recorder import Recorded
from tests.end_to_end.scenes import settle as next_second
from tests.terraform.conftest import _terraform
from tests.terraform.day import ACCOUNT, NAME, REGION, Day, day_policy, open_day, two_accounts
from tests.terraform.replay import Replay
from tests.terraform.scenes import SCENES, nights
from tests.terraform.services import sent_by_services
from tests.terraform.world import State

pytestmark = pytest.mark.slow

WITHOUT_REQUEST = {
    # (role, action); `*` is any role
    ("*", "s3:AbortMultipartUpload"): "an upload that fails is given up; none fails in the day",
    ("*", "s3:ListMultipartUploadParts"): "a killed copy goes on with them; none is killed in the day",
    ("*", "batch:TerminateJob"): "of two jobs that started at once, one is ended",
    ("*", "s3:GetObjectVersion"): "rows that name a version are read by it; the day's have no versions there",
    ("*", "s3:ListBucketVersions"): "the day plans with --versions all where S3 keeps deletes alone",
    ("*", "s3:GetBucketVersioning"): "the same",
    ("*", "s3:GetObjectTagging"): "for sources that keep no versions; the tags of a version are another action",
    ("*", "s3:GetObjectAnnotation"): "for sources that keep no versions; those of a version are another action",
    ("*", "s3:ListObjectAnnotations"): "the same",
    (f"{NAME}-job-expire", "s3:GetObjectVersionAnnotation"): "no object of the day has an annotation",
    (f"{NAME}-fn-backup", "s3:GetObjectVersionTagging"): "only what is not current is copied by its version id",
    (f"{NAME}-fn-backup", "s3:GetObjectVersionAnnotation"): "the same",
    (f"{NAME}-fn-backup", "s3:ListBucket"): "without it S3 says 403 of a key that is gone; none is in the day",
    (f"{NAME}-job-verify", "s3:DeleteObject"): "a run's end folds the state where many deltas wait; nights do daily",
    ("*", "s3:ListObjectVersionAnnotations"): "lists are of copies in parts, streams, archives and expiries alone",
    ("*", "s3:PutObjectVersionAnnotation"): "no object of the day has an annotation",
}
"""Permissions that no request of the day used, and why a role has them."""


@dataclass(frozen=True)
class Recording:
    """A day that is over but for what a test adds. `of_the_policy`: requests before people began to start jobs."""

    day: Day
    replay: Replay
    requests: tuple[Recorded, ...]
    of_the_policy: int

    def judged(self, requests: tuple[Recorded, ...], replay: Replay | None = None) -> list[str]:
        return sorted((replay or self.replay).refusals(requests))

    def with_state(self, state: State) -> Replay:
        """A replay against other policies."""
        return Replay(state, ACCOUNT, REGION, self.day.aws.bucket_regions, self.day.owners())


@contextlib.contextmanager
def record(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recording]:
    """A plan applied, and its day."""
    policy, folder = day_policy(), tmp_path_factory.mktemp("day")
    state: State = _terraform(tmp_path_factory, root=two_accounts(folder, policy)).apply_root()
    with open_day(state, policy, folder) as day:
        until = {}
        for scene in SCENES:
            scene(day)
            until[scene] = len(day.aws.requests)
        replay = Replay(state, ACCOUNT, REGION, day.aws.bucket_regions, day.owners())
        yield Recording(day, replay, tuple(day.aws.requests), until[nights])


def nothing_that_the_day_asks_for_is_refused(recording: Recording) -> None:
    assert {request.role for request in recording.requests} >= set(recording.day.roles())
    assert recording.replay.refusals(recording.requests) == {}


def every_permission_is_used_or_has_a_reason(recording: Recording) -> None:
    recording.replay.refusals(recording.requests)
    services = {(each.who, each.action) for each in sent_by_services(recording.day.state, ACCOUNT, REGION)}
    unused = recording.replay.unused() - services
    without = {each for each in unused if each not in WITHOUT_REQUEST and ("*", each[1]) not in WITHOUT_REQUEST}
    stale = {
        (role, action)
        for role, action in WITHOUT_REQUEST
        if not any(action == other and role in ("*", who) for who, other in unused)
    }
    assert without == set()
    assert stale == set()


def it_finds_copies_across_regions_through_an_endpoint(recording: Recording) -> None:
    """A worker in the network without a way out that lets S3 copy, since nobody told it where it is."""
    day, before = recording.day, len(recording.day.aws.requests)
    day.put("example-customs-us", "2026/across.pdf", b"across")
    next_second()
    sides = ("--source", "s3://example-customs-us", "--destination", "s3://example-customs-copies")
    command = ("replicate", *sides, "--executor", "local", "--yes")
    day.command(*command, role=f"{NAME}-job-replicate", SEALIFT_ENDPOINTS_ONLY="")
    found = recording.judged(tuple(day.aws.requests[before:]))
    assert found == [f"{NAME}-job-replicate: copies between regions through a VPC endpoint"]


def requests_name_the_owners_of_buckets(recording: Recording) -> None:
    """Events, nights and backfills: all that the policy starts says whose each bucket has to be."""
    pairs = recording.day.policy["pairs"]
    owners = {pair[side]["bucket"]: ACCOUNT for pair in pairs for side in ("source", "destination")}
    owners |= recording.day.owners()
    roles = {f"{NAME}-fn-backup", f"{NAME}-job-orchestrate"}
    named = [
        (request.bucket, request.headers.get("x-amz-expected-bucket-owner"))
        for request in recording.requests[: recording.of_the_policy]
        if request.service == "s3" and request.role in roles and request.bucket in owners
    ]
    assert {bucket for bucket, _ in named} >= {"example-scans", "example-customs-us", "example-customs-copies"}
    assert {each for each in named if each[1] != owners[each[0]]} == set()


def it_finds_what_the_other_account_does_not_allow(recording: Recording) -> None:
    """Buckets and keys of another account have to let a role in, whatever its own policies say."""
    for kind, sid, expected in (
        ("aws_s3_bucket_policy", "WriteCopy", "s3:PutObject on example-customs-copies: not allowed by the bucket"),
        ("aws_s3_bucket_policy", "ReadArchive", "s3:GetObject on example-archives-fra: not allowed by the bucket"),
        ("aws_s3_bucket_policy", "List", "s3:ListBucket on example-customs-copies: not allowed by the bucket"),
        ("aws_kms_key", "UseThroughS3", "not allowed by the key"),
    ):
        resources = copy.deepcopy(list(recording.day.state.resources))
        for each in resources:
            if each["type"] == kind:
                policy = json.loads(each["values"]["policy"])
                policy["Statement"] = [one for one in policy["Statement"] if one["Sid"] != sid]
                each["values"]["policy"] = json.dumps(policy)
        changed = recording.with_state(State(resources, recording.day.state.outputs))
        found = recording.judged(recording.requests, changed)
        assert any(expected in each for each in found), (sid, found)
        assert all("not allowed by the" in each for each in found)


CHECKS = (
    nothing_that_the_day_asks_for_is_refused,
    every_permission_is_used_or_has_a_reason,
    requests_name_the_owners_of_buckets,
    it_finds_what_the_other_account_does_not_allow,
    it_finds_copies_across_regions_through_an_endpoint,
)


def test_a_day_is_let_through_and_planted_mistakes_are_found(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One test, since tests in several processes would each have a day of their own."""
    faulthandler.cancel_dump_traceback_later()  # it takes minutes, and each thing that it waits for has its own limit
    with record(tmp_path_factory) as recording:
        for check in CHECKS:
            check(recording)
