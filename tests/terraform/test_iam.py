"""What each role may and may not do, asked of the policies that Terraform made, by IAM's own rules."""

from __future__ import annotations

import json

import msgspec
import pytest

from jobs.aws.batch_arrays import SYSTEM_TAG, WORK, make_submission, payload
from jobs.config import Settings
from jobs.expire.places import PlaceDocument
from jobs.ledger.files import REPLACED_ALWAYS, REPLACED_BY_ETAG
from jobs.runs import batch_executor
from tests.doubles.ledgers import LEDGER_FILES
from tests.terraform.iam import Answer, decide

pytestmark = pytest.mark.slow

NAME = "parcels"
REGION, ACCOUNT = "eu-central-1", "123456789012"
JOBS = ("replicate", "verify", "nightly", "backfill", "compact", "restore", "expire")
ROLES = {name: f"{NAME}-fn-{name}" for name in ("backup", "control")}
ROLES |= {name: f"{NAME}-job-{name}" for name in ("replicate", "verify", "orchestrate", "compact", "restore", "expire")}

S3 = "arn:aws:s3:::"
SCAN = f"{S3}example-scans/scans/2026/11/1Z.jpg"
OTHER_SCAN = f"{S3}example-scans/invoices/1.pdf"  # in the bucket, in no pair
COPY = f"{S3}example-hot-fra/delivery/scans/2026/11/1Z.jpg"
OTHER_COPY = f"{S3}example-hot-fra/somebody/else.txt"
CUSTOMS = f"{S3}example-customs-us/2026/c.pdf"  # `deletes: mirror`
CUSTOMS_COPY = f"{S3}example-customs-copies/2026/c.pdf"
TRACKING_COPY = f"{S3}example-hot-fra/tracking/events/1"
REPLICA = f"{S3}example-hot-dub/delivery/scans/2026/11/1Z.jpg"
ARCHIVE = f"{S3}example-archives-fra/delivery/2026/0001.tar"
OUTCOME = f"{S3}example-ledger/sealift/runs/20261125T000000Z-verify-1f3a/outcomes/00000/1.parquet"
STATE = f"{S3}example-ledger/sealift/state/deltas/20261125T000000Z-verify-1f3a.parquet"
FOLDING = {"replicate", "verify", "orchestrate"}
"""Roles that make generations of the state."""
DOCUMENT = f".sealift/place-{'0a' * 16}.json"
POLICY_FILE = f"{S3}example-ledger/sealift/policy.json"
REPORT = f"{S3}example-inventory-fra/inventory/example-scans/parcels/2026-11-25T01-00Z/manifest.json"
UNRELATED = f"{S3}somebodys-bucket/key"
EVERYWHERE = (
    *(SCAN, OTHER_SCAN, COPY, OTHER_COPY, CUSTOMS, CUSTOMS_COPY, TRACKING_COPY, REPLICA, ARCHIVE),
    *(OUTCOME, STATE, POLICY_FILE, REPORT, UNRELATED),
)

QUEUE = f"arn:aws:batch:{REGION}:{ACCOUNT}:job-queue/{NAME}-workers"
ORCHESTRATORS = QUEUE.replace("-workers", "-orchestrators")
TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:{NAME}-alarms"
EVENTS = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{NAME}-objects"
CUSTOMS_KEY = "arn:aws:kms:eu-west-1:111122223333:key/0a1b2c3d-4e5f-6789-abcd-ef0123456789"
BY_S3 = {"kms:ViaService": "s3.eu-west-1.amazonaws.com"}

WRITES = (
    *("s3:PutObject", "s3:PutObjectTagging", "s3:PutObjectRetention", "s3:PutObjectLegalHold", "s3:PutObjectAcl"),
    *("s3:DeleteObject", "s3:DeleteObjectVersion", "s3:DeleteObjectTagging", "s3:AbortMultipartUpload"),
    *("s3:RestoreObject", "s3:ReplicateObject", "s3:ReplicateDelete", "s3:BypassGovernanceRetention"),
)
BUCKET_SETTINGS = (
    *("s3:PutBucketPolicy", "s3:DeleteBucketPolicy", "s3:PutBucketVersioning", "s3:PutLifecycleConfiguration"),
    *("s3:PutBucketObjectLockConfiguration", "s3:DeleteBucket", "s3:PutReplicationConfiguration"),
    *("s3:PutBucketNotification", "s3:PutInventoryConfiguration", "s3:PutEncryptionConfiguration"),
)


def definition(job: str) -> str:
    return f"arn:aws:batch:{REGION}:{ACCOUNT}:job-definition/{NAME}-{job}:3"


# role, action, resource, condition keys
MUST_BE_REFUSED = [
    # outside the pairs' prefixes
    *((role, "s3:GetObject", place, {}) for role in ROLES for place in (OTHER_SCAN, UNRELATED)),
    *((role, "s3:PutObject", place, {}) for role in ROLES for place in (
        OTHER_COPY, SCAN, REPORT, POLICY_FILE, REPLICA)),
    *((role, action, f"{S3}{bucket}", {}) for role in ROLES for action in BUCKET_SETTINGS for bucket in (
        "example-scans", "example-hot-fra", "example-archives-fra", "example-ledger")),
    *((role, action, "*", {}) for role in ROLES for action in (
        "iam:PassRole", "sts:AssumeRole", "batch:RegisterJobDefinition", "batch:UpdateJobQueue", "batch:CancelJob")),
    ("backup", "s3:ListBucket", f"{S3}example-scans", {"s3:prefix": "invoices/"}),
    ("verify", "s3:ListBucketVersions", f"{S3}example-hot-fra", {"s3:prefix": "somebody/"}),
    # a LIST of versions without a prefix would show the whole bucket
    *((role, "s3:ListBucketVersions", f"{S3}{bucket}", {}) for role in ROLES for bucket in (
        "example-scans", "example-hot-fra", "example-hot-dub", "example-inventory-fra", "example-ledger")
        if (role, bucket) != ("expire", "example-scans")),  # the place of the pair's originals
    ("expire", "s3:PutObject", COPY, {}),
    *(("expire", "s3:GetObject", place, {}) for place in (COPY, CUSTOMS, CUSTOMS_COPY, REPLICA)),
    ("compact", "s3:PutObject", COPY, {}),
    ("restore", "s3:PutObject", COPY, {}),  # nobody said restore_to
    # no function and no other job starts a deletion
    *((role, "batch:SubmitJob", definition("expire"), {}) for role in ROLES),
    ("verify", "batch:SubmitJob", definition("replicate"), {}),
    ("backup", "batch:SubmitJob", QUEUE, {}),
    ("orchestrate", "batch:SubmitJob", ORCHESTRATORS, {}),
    ("control", "batch:SubmitJob", QUEUE, {}),
    ("control", "s3:GetObject", SCAN, {}),
    ("backup", "sns:Publish", TOPIC, {}),
    ("verify", "kms:GenerateDataKey", CUSTOMS_KEY, BY_S3),
    ("verify", "kms:Decrypt", CUSTOMS_KEY, {"kms:ViaService": "ec2.eu-west-1.amazonaws.com"}),
]  # fmt: skip


NOT_IN_THE_DAY = [
    ("replicate", "s3:AbortMultipartUpload", COPY, {}),
    ("replicate", "s3:ListMultipartUploadParts", CUSTOMS_COPY, {}),
    ("orchestrate", "s3:ListBucketVersions", f"{S3}example-scans", {"s3:prefix": "scans/1.png"}),
    ("control", "batch:ListJobs", "*", {}),
    ("verify", "kms:Decrypt", CUSTOMS_KEY, BY_S3),
    ("restore", "s3:GetObjectVersion", REPLICA, {}),
    ("restore", "s3:ListBucketVersions", f"{S3}example-hot-dub", {"s3:prefix": "delivery/scans/"}),
    # the other place's document, which must not be there, and documents of places within and above
    ("expire", "s3:GetObject", f"{S3}example-archives-fra/{DOCUMENT}", {}),
    ("expire", "s3:GetObject", f"{S3}example-scans/delivery/{DOCUMENT}", {}),
    ("expire", "s3:ListBucket", f"{S3}example-archives-fra", {"s3:prefix": ".sealift/place-"}),
    ("expire", "s3:GetObjectVersionTagging", SCAN, {}),
]
"""What roles may, and no request of the day in test_replay.py asks for."""


def test_roles_may_what_the_day_does_not_ask_for(example):
    found = [each for each in NOT_IN_THE_DAY if ask(example, *each) is not Answer.ALLOWED]
    assert found == []


def test_roles_may_not_what_they_must_not(example):
    """Without their Denies either, but for the policy file, which lies among the ledger's objects."""
    found = []
    for role, name in ROLES.items():
        statements = example.statements(name)
        allows = [each for each in statements if each["Effect"] == "Allow"]
        for who, action, resource, context in MUST_BE_REFUSED:
            asked = statements if resource == POLICY_FILE else allows
            if who == role and decide(asked, action, resource, context) is Answer.ALLOWED:
                found.append((role, action, resource))
    assert found == []


IN_THE_STATE = {(role, STATE) for role in FOLDING}
DELETERS = {
    "s3:DeleteObject": {("backup", CUSTOMS_COPY), ("replicate", CUSTOMS_COPY), ("expire", SCAN)} | IN_THE_STATE,
    "s3:DeleteObjectVersion": {("expire", SCAN)},
}
"""Delete markers are put where the policy mirrors deletes, and into the state."""


@pytest.mark.parametrize("action", DELETERS)
def test_nobody_else_deletes(example, action):
    """Without their Denies either."""
    allowed = set()
    for role, name in ROLES.items():
        allows = [each for each in example.statements(name) if each["Effect"] == "Allow"]
        allowed |= {(role, place) for place in EVERYWHERE if decide(allows, action, place) is Answer.ALLOWED}
    assert allowed == DELETERS[action]


def test_verify_writes_nothing_but_the_ledger(example):
    for role in ("verify", "orchestrate", "control"):
        allowed = {(action, place) for action in WRITES for place in EVERYWHERE if may(example, role, action, place)}
        writes = {
            (action, place) for action in ("s3:PutObject", "s3:AbortMultipartUpload") for place in (OUTCOME, STATE)
        }
        assert allowed == writes | ({("s3:DeleteObject", STATE)} if role in FOLDING else set()), role


def test_who_may_abort_an_upload_may_list_its_parts(elsewhere):
    """Else a killed copy could never go on with its parts, and nobody would see that an abort left some."""
    for role in ROLES:
        for place in EVERYWHERE:
            aborts = may(elsewhere, role, "s3:AbortMultipartUpload", place)
            assert may(elsewhere, role, "s3:ListMultipartUploadParts", place) == aborts, (role, place)


@pytest.mark.parametrize("role", ROLES)
def test_what_is_denied_stays_denied_to_an_administrator_in_the_role(example, role):
    """Even with `s3:*` and `batch:*` on everything attached beside it."""
    everything = [{"Effect": "Allow", "Action": ["s3:*", "batch:*"], "Resource": "*"}]
    statements = [*example.statements(ROLES[role]), *everything]
    assert decide(statements, "batch:SubmitJob", definition("replicate")) is Answer.ALLOWED
    assert decide(statements, "batch:SubmitJob", definition("expire")) is Answer.DENIED
    assert decide(statements, "batch:SubmitJob", definition("expire").rpartition(":")[0]) is Answer.DENIED
    assert decide(statements, "s3:GetObject", UNRELATED) is Answer.ALLOWED
    for place in EVERYWHERE:
        assert decide(statements, "s3:BypassGovernanceRetention", place) is Answer.DENIED
        destroyed = decide(statements, "s3:DeleteObjectVersion", place)
        assert destroyed is (Answer.ALLOWED if (role, place) == ("expire", SCAN) else Answer.DENIED)
    assert decide(statements, "s3:PutObject", POLICY_FILE) is Answer.DENIED
    for action in ("s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion"):
        for folder in ("example-scans/", "example-archives-fra/delivery/", "somebodys-bucket/a/b/"):
            assert decide(statements, action, f"{S3}{folder}{DOCUMENT}") is Answer.DENIED
    assert decide(statements, "s3:PutObject", f"{UNRELATED}/.sealift/place-names.txt") is Answer.ALLOWED


def test_places_of_an_expiry_are_declared_and_copies_have_the_higher_rank(example):
    places = {}
    for values in example.all("aws_s3_object", "place").values():
        document = msgspec.json.decode(values["content"], type=PlaceDocument)
        prefix = values["key"].partition(".sealift/")[0]
        assert document.key(prefix) == values["key"]
        places[values["bucket"], prefix] = (document.rank, document.deletes)
    assert places == {("example-scans", ""): (0, "keep"), ("example-archives-fra", "delivery/"): (2, "keep")}


def test_without_mirrored_deletes_and_archives_nobody_deletes_anything(minimal):
    roles = {values["role"] for values in minimal.all_values("aws_iam_role_policy")}
    assert len(roles) == 7
    deletes = ("s3:DeleteObject", "s3:DeleteObjectVersion", "s3:ReplicateDelete", "s3:BypassGovernanceRetention")
    places = [f"{S3}example-{name}/2026/x" for name in ("documents", "documents-hot", "ledger")]
    found = [
        (role, action, place)
        for role in roles
        for action in deletes
        for place in places
        if decide(minimal.statements(role), action, place) is Answer.ALLOWED
    ]
    assert found == []
    assert decide(minimal.statements("backup-job-replicate"), "s3:PutObject", places[1]) is Answer.ALLOWED


def test_a_drill_reads_what_restores_read_and_writes_and_removes_in_its_place_alone(elsewhere):
    drilled, beside = f"{S3}example-drills/drills/scans/2026-11-25/hot/x", f"{S3}example-drills/else"
    place = {"s3:prefix": "drills/scans/"}
    statements = elsewhere.statements(f"{NAME}-job-drill")

    def answers(action, resource, context=None):
        return decide(statements, action, resource, context)

    for action in (
        "s3:GetObject",
        "s3:GetObjectVersion",
        "s3:GetObjectVersionTagging",
        "s3:GetObjectVersionAnnotation",
    ):
        assert {answers(action, each) for each in (SCAN, COPY, REPLICA, ARCHIVE, drilled)} == {Answer.ALLOWED}
        assert answers(action, UNRELATED) is answers(action, beside) is Answer.SILENT
    places = (*EVERYWHERE, drilled, beside)
    found = {(action, each) for action in WRITES for each in places if answers(action, each) is Answer.ALLOWED}
    written = {"s3:PutObject", "s3:AbortMultipartUpload"}
    here = {(each, drilled) for each in written | {"s3:PutObjectTagging", "s3:DeleteObjectVersion"}}
    in_ledger = {(action, each) for action in written for each in (OUTCOME, STATE)} | {("s3:DeleteObject", STATE)}
    assert found == here | in_ledger
    assert answers("s3:ListBucketVersions", f"{S3}example-drills", place) is Answer.ALLOWED
    everything = [*statements, {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]
    removable = {each for each in places if decide(everything, "s3:DeleteObjectVersion", each) is Answer.ALLOWED}
    assert removable == {drilled}
    for job in (*JOBS, "drill"):
        assert answers("batch:SubmitJob", definition(job)) is not Answer.ALLOWED
        assert may(elsewhere, "control", "batch:SubmitJob", definition("drill"))


def test_buckets_refuse_bypass_and_plain_http_to_everyone(example):
    policies = example.all("aws_s3_bucket_policy", "this")
    assert set(policies) >= {"example-hot-fra", "example-customs-copies", "example-archives-fra", "example-ledger"}
    for bucket, values in policies.items():
        statements = json.loads(values["policy"])["Statement"]
        key, whole = f"{S3}{bucket}/any/key", f"{S3}{bucket}"
        root = f"arn:aws:iam::{ACCOUNT}:root"
        safe, plain = {"aws:SecureTransport": "true"}, {"aws:SecureTransport": "false"}
        assert decide(statements, "s3:BypassGovernanceRetention", key, safe, root) is Answer.DENIED
        assert decide(statements, "s3:GetObject", key, plain, root) is Answer.DENIED
        assert decide(statements, "s3:ListBucket", whole, plain, root) is Answer.DENIED
        assert decide(statements, "s3:GetObject", key, safe, root) is Answer.SILENT


@pytest.mark.parametrize("pattern", LEDGER_FILES)
def test_the_ledgers_bucket_lets_change_what_the_table_lets_change(example, pattern):
    statements = json.loads(example.all("aws_s3_bucket_policy", "this")["example-ledger"]["policy"])["Statement"]
    role = f"arn:aws:iam::{ACCOUNT}:role/{NAME}-job-verify"
    write = {"aws:SecureTransport": "true", "s3:ObjectCreationOperation": "true"}
    part = write | {"s3:ObjectCreationOperation": "false"}  # CreateMultipartUpload and UploadPart take no condition
    for name in (pattern.replace("*", "a"), pattern.replace("*", "a/b.csv"), pattern.replace("*", "20261125T0Z/c/d e")):
        place = f"{S3}example-ledger/sealift/{name}"

        def ask(context, place=place):
            return decide(statements, "s3:PutObject", place, context, role)

        assert ask(part) is Answer.SILENT
        assert ask(write | {"s3:if-none-match": "*"}) is Answer.SILENT
        is_free, may_change = pattern in REPLACED_ALWAYS, pattern in (REPLACED_BY_ETAG, *REPLACED_ALWAYS)
        assert ask(write) is (Answer.SILENT if is_free else Answer.DENIED)
        assert ask(write | {"s3:if-match": "e"}) is (Answer.SILENT if may_change else Answer.DENIED)


@pytest.mark.parametrize("role", ROLES)
def test_no_role_deletes_from_the_ledger_and_so_writes_again(example, role):
    """But from its state, where what was deleted can be brought back."""
    for pattern in LEDGER_FILES:
        place = f"{S3}example-ledger/sealift/{pattern.replace('*', 'a/b')}"
        for action in ("s3:DeleteObject", "s3:DeleteObjectVersion"):
            is_folded = pattern == "state/*" and action == "s3:DeleteObject" and role in FOLDING
            answer = decide(example.statements(ROLES[role]), action, place)
            assert answer is (Answer.ALLOWED if is_folded else Answer.DENIED)


def test_roles_end_only_jobs_of_this_system(example):
    """By the tag that every submission brings; a job of another system, or without a tag, is not ended."""
    job = f"arn:aws:batch:{REGION}:{ACCOUNT}:job/0b1c2d3e"
    tag = f"aws:ResourceTag/{SYSTEM_TAG}"
    ending = set()
    for role in ROLES:
        assert ask(example, role, "batch:TerminateJob", job, {}) is Answer.SILENT
        assert ask(example, role, "batch:TerminateJob", job, {tag: "another"}) is Answer.SILENT
        assert ask(example, role, "batch:CancelJob", job, {tag: NAME}) is Answer.SILENT
        if ask(example, role, "batch:TerminateJob", job, {tag: NAME}) is Answer.ALLOWED:
            ending.add(role)
    assert ending == {role for role in ROLES if submitted(example, role)}


def test_jobs_bear_the_tag_by_which_they_are_ended(example):
    """With the environment that Terraform gives the command line."""
    settings = Settings.from_environment(example.output("environment"))
    placed = batch_executor.choose_placement(settings, "replicate")
    request = payload(make_submission("20261125T000000Z-replicate-1f3a", 0, placed, [0], "s3://l/p"), WORK)
    assert request["tags"][SYSTEM_TAG] == NAME


def submitted(example, role) -> set[str]:
    """The jobs whose definition a role may submit."""
    return {job for job in JOBS if ask(example, role, "batch:SubmitJob", definition(job), {}) is Answer.ALLOWED}


def test_each_definition_has_few_submitters_and_expire_none(example):
    """Who may submit a job runs commands of Sealift under the job's role."""
    submitters = {job: {role for role in ROLES if job in submitted(example, role)} for job in JOBS}
    assert submitters == {
        "replicate": {"control", "replicate", "orchestrate"},
        "verify": {"replicate", "verify", "orchestrate", "compact", "restore"},
        "nightly": {"control"},
        "backfill": {"control"},
        "compact": {"compact"},
        "restore": {"control", "restore"},
        "expire": set(),
    }
    for role in ROLES:  # in another queue, of another system, or another account: nobody
        for foreign in (QUEUE.replace(NAME, "another"), definition("verify").replace(ACCOUNT, "9" * 12)):
            assert ask(example, role, "batch:SubmitJob", foreign, {}) is Answer.SILENT


def ask(example, role, action, resource, context):
    return decide(example.statements(ROLES[role]), action, resource, context)


def may(example, role, action, resource):
    return ask(example, role, action, resource, {}) is Answer.ALLOWED
