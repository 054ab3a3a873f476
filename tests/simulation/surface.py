"""What users write for the world's one pair: its policy file, its places, their settings and command lines.

All of it is public: it changes when Sealift's users have to change theirs.
"""

from __future__ import annotations

import json
from typing import Any

from tests.simulation.schedule import ARCHIVES, BACK, COPIES, DESTINATION, LEDGER, SOURCE, Schedule, Verb

PAIR = "pair"
S3 = {"region": "us-east-1"}
PACKING = {"name": "all", "older_than": "0d", "smaller_than": "1MiB", "storage_class": "GLACIER_IR", "format": "tar"}
POLICY_PAIR: dict[str, Any] = {
    "name": PAIR, "source": S3 | {"bucket": SOURCE}, "thresholds": {"lambda_max_size": "24B"},
    "destination": S3 | {"bucket": DESTINATION, "prefix": COPIES},
    "archive": S3 | {"bucket": DESTINATION, "prefix": ARCHIVES, "rules": [PACKING]},
}  # fmt: skip
POLICY: dict[str, Any] = {"version": 1, "name": "sealift", "ledger": S3 | {"bucket": LEDGER, "prefix": "l/"}}


def policy_of(schedule: Schedule) -> str:
    """The file's text."""
    pair = POLICY_PAIR | {"deletes": "mirror" if schedule.mirrors_deletes else "retain"}
    return json.dumps(POLICY | {"pairs": [pair]})


PLACE = ".sealift/place-"
PLACES = [
    (bucket, f"{prefix}{PLACE}{rank:032x}.json", b'{"format":1,"id":"%032x","rank":%d}' % (rank, rank))
    for rank, (bucket, prefix) in enumerate(((SOURCE, ""), (DESTINATION, COPIES), (DESTINATION, ARCHIVES)))
]
"""Bucket, key and data of each place's document."""


def environment_of(schedule: Schedule, policy_json: str) -> dict[str, str]:
    """The variables of a command, a worker or a function. `policy_json`: the name of the policy's file."""
    return {
        "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
        "SEALIFT_LEDGER": f"s3://{LEDGER}/l", "SEALIFT_POLICY": policy_json,
        "SEALIFT_TUNING": f"processes=2 rows_per_shard={schedule.rows_per_shard} in_flight={schedule.in_flight} "
        f"checkpoint_rows={schedule.checkpoint_rows} checkpoint_seconds=2",
    }  # fmt: skip


def command_line(schedule: Schedule, verb: Verb, run_id: str) -> list[str]:
    """The words for a verb. `run_id`: of the run that it is about."""
    source, copies, archives = f"s3://{SOURCE}/", f"s3://{DESTINATION}/{COPIES}", f"s3://{DESTINATION}/{ARCHIVES}"
    back = source if schedule.in_place else f"s3://{DESTINATION}/{BACK}"
    route = f"--source {source} --destination {copies} --versions {'all' if schedule.all_versions else 'current'}"
    packed = f"--source {source} --destination {archives} --storage-class GLACIER_IR"
    if schedule.archive_format == "tar":
        packed = f"--pair {PAIR} --rule all"
    restored = f"--archives {archives} --destination {back} --in-place --yes"
    near = archives if "-compact-" in run_id else copies
    lines = {
        Verb.REPLICATE: f"replicate {route} --overwrite {schedule.overwrite} --yes {'--stream' * schedule.streamed}",
        Verb.VERIFY: f"verify {route} {'--deep' * schedule.deep} --yes",
        Verb.RETRY: f"runs retry {run_id} --yes",
        Verb.COMPACT: f"compact {packed} --pack-all --yes",
        Verb.VERIFY_ARCHIVES: f"verify --archives {archives} --yes",
        Verb.RESTORE: f"restore --include * {restored}",
        Verb.RESTORE_AS_OF: f"restore --source {source} --as-of 1s {restored}",
        Verb.EXPIRE: f"expire --source {source} --destination {near} --grace {schedule.grace} "
        "--max-share 100% --yes-delete",
        Verb.UNDO: f"expire --undo {run_id} --source {source}",
    }
    return [*lines[verb].split(), "--json"]
