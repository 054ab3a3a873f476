"""`sealift doctor` beside `sealift local`: it sees what is there, and never calls the rest good."""

from __future__ import annotations

from typing import Any

from tests.end_to_end.scenes import settle
from tests.end_to_end.test_local import running


def test_it_looks_at_what_a_local_system_has_and_says_what_it_has_not() -> None:
    with running("--retry", "1") as local:
        before = local.client.list_object_versions(Bucket="freight-ledger").get("Versions", [])
        code, document = local.sealift("doctor")
        lines: list[dict[str, Any]] = document["lines"]
        found = {(line["check"], line["subject"]): line["status"] for line in lines}
        for check, subject in (
            ("clock", "the account"),
            ("versioning", "freight-in"),
            ("versioning", "freight-hot"),
            ("versioning", "freight-ledger"),
            ("queue", "local-objects"),
            ("dead-letters", "local-objects-dead"),
            ("dead-letters", "local-undelivered"),
            ("conditional-writes", "s3://freight-ledger/sealift"),
        ):
            assert found[check, subject] == "ok", (check, subject)
        [unchecked] = [line for line in lines if line["says"].startswith("not checked")]
        absent = ("sts", "lambda", "events", "scheduler", "batch", "servicequotas", "cloudwatch")
        assert (unchecked["status"], [each for each in absent if f" {each}:" not in unchecked["says"]]) == (
            "unchecked",
            [],
        )
        assert [line["check"] for line in lines if line["status"] == "warning"] == ["last-night"]
        assert not [
            line for line in lines if line["status"] == "ok" and line["check"] in ("role", "image", "job-queue")
        ]
        assert (code, document["counts"]["failure"]) == (3, 0), [line for line in lines if line["status"] == "failure"]
        assert local.client.list_object_versions(Bucket="freight-ledger").get("Versions", []) == before

        local.client.put_object(Bucket="freight-in", Key="a", Body=b"a")
        settle()
        assert local.sealift("nightly", "--pair", "freight", "--margin", "0s")[0] == 0
        assert local.sealift("doctor")[0] == 0  # all that can be looked at is as it should be

        queue = local.queues.get_queue_url(QueueName="local-objects-dead")["QueueUrl"]
        local.queues.send_message(QueueUrl=queue, MessageBody="{poison")
        local.client.put_bucket_versioning(Bucket="freight-hot", VersioningConfiguration={"Status": "Suspended"})
        code, document = local.sealift("doctor")
        failures = [(line["check"], line["subject"]) for line in document["lines"] if line["status"] == "failure"]
        assert sorted(failures) == [("dead-letters", "local-objects-dead"), ("versioning", "freight-hot")]
        assert code == 10
