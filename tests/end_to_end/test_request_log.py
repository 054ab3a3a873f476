"""`-v` and `--debug`: which requests are on stderr, and that nothing secret is."""

from __future__ import annotations

import re

import pytest

from tests.end_to_end.conftest import World

LINE = re.compile(
    r"sealift\[(\d+)\]: \d\d:\d\d:\d\d\.\d{3}Z (\w+) (\S+): (\d+|no answer)(?: (\w+))? in \d+ ms, id (\S+)"
)
HEADERS = re.compile(r"AWS4-HMAC|Signature|Credential=|authorization|x-amz-security-token", re.IGNORECASE)
TOKEN = "FwoGZXIvYXdzEPn-a-session-token"


def lines(stderr: str) -> list[re.Match[str]]:
    return [*LINE.finditer(stderr)]


def secrets(world: World, stderr: str, *others: str) -> list[str]:
    """What of the secrets, and of the headers that carry them, is in the log."""
    log = "\n".join(match[0].replace("SignatureDoesNotMatch", "") for match in lines(stderr))
    return [each for each in (world.server.secret_key, TOKEN, *others) if each in log] + HEADERS.findall(log)


@pytest.mark.parametrize("is_before_the_verb", [True, False])
def test_debug_logs_each_request_of_command_and_workers(world: World, is_before_the_verb: bool) -> None:
    for number in range(5):
        world.put(f"doc-{number}", b"text")
    verb = ["replicate", *world.sides, "--json"]
    arguments = ["--debug", *verb] if is_before_the_verb else [*verb, "--debug"]
    # Two shards, so that workers are processes of their own.
    done = world.sealift(*arguments, rows_per_shard="3")
    assert done.code == 0, done.stderr
    assert done.document["outcomes"] == {"done": 5}  # stdout is one document
    logged = lines(done.stderr)
    names = {f"{world.destination}/doc-{number}" for number in range(5)}
    copies = [match for match in logged if match[2] == "CopyObject" and "/".join(match[3].split("/")[-2:]) in names]
    assert len(copies) == 5, done.stderr
    assert {match[4] for match in copies} == {"200"}  # beside those that try whether the server heeds conditions
    assert "unknown" not in {match[6] for match in copies}
    assert {"ListObjectsV2", "PutObject"} <= {match[2] for match in logged}
    assert len({match[1] for match in logged}) >= 2  # the command and a worker
    assert secrets(world, done.stderr) == []


def test_debug_logs_refused_requests_and_no_secret(world: World) -> None:
    wrong = {"AWS_ACCESS_KEY_ID": "AKIAWRONG", "AWS_SECRET_ACCESS_KEY": "a-wrong-secret", "AWS_SESSION_TOKEN": TOKEN}
    done = world.sealift("runs", "list", "--debug", **wrong)
    assert done.code == 10, done.stderr
    refused = lines(done.stderr)
    assert {match[4] for match in refused} == {"403"}
    assert {match[5] for match in refused} & {"SignatureDoesNotMatch", "InvalidAccessKeyId", "AccessDenied"}
    assert "a-wrong-secret" not in done.stderr
    assert secrets(world, done.stderr, "AKIAWRONG") == []
