"""RestStore and buckets of other regions: S3's directions are followed once, and remembered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from jobs import errors
from jobs.core.model import ObjectRef
from jobs.s3.http.answers import Response
from jobs.s3.rest_store import RestStore
from jobs.s3.sessions import open_store
from tests.doubles.scripted_server import REF, Reply, Script, ask, error_body

REGION = {"x-amz-bucket-region": "eu-west-3"}
DIRECTIONS = [
    Reply(301, REGION),
    Reply(301, REGION, error_body("PermanentRedirect")),
    Reply(301, {}, error_body("PermanentRedirect", "<Region>eu-west-3</Region>")),
    Reply(307, REGION, error_body("TemporaryRedirect")),
    Reply(400, REGION, error_body("IllegalLocationConstraintException")),
    Reply(400, {}, error_body("AuthorizationHeaderMalformed", "<Region>eu-west-3</Region>")),
]


def regions(script: Script) -> list[str]:
    return [seen.headers["authorization"].split("/")[2] for seen in script.seen]


async def get_twice(store: RestStore) -> None:
    await store.get(REF)
    await store.get(REF)


@pytest.mark.parametrize("reply", DIRECTIONS)
def test_a_bucket_in_another_region_is_asked_there_from_then_on(script: Script, reply: Reply) -> None:
    script.first, script.reply = [reply], Reply(headers={"ETag": '"e"'})
    ask(script, get_twice)
    assert regions(script) == ["us-east-1", "eu-west-3", "eu-west-3"]


def test_the_region_of_one_bucket_says_nothing_of_another(script: Script) -> None:
    async def run(store: RestStore) -> None:
        await store.get(REF)
        await store.get(ObjectRef("other", "k"))

    script.first, script.reply = [DIRECTIONS[0]], Reply(headers={"ETag": '"e"'})
    ask(script, run)
    assert regions(script) == ["us-east-1", "eu-west-3", "us-east-1"]


@pytest.mark.parametrize("reply", DIRECTIONS)
def test_directions_that_lead_nowhere_are_told_with_advice(script: Script, reply: Reply) -> None:
    script.reply = reply
    with pytest.raises(errors.Redirected, match=r"eu-west-3.*us-east-1.*AWS_REGION"):
        ask(script, lambda store: store.get(REF))
    assert len(script.seen) == 2


@pytest.mark.parametrize("region", ["", "eu west", "evil.example/", "EU", "x" * 40])
def test_a_region_that_is_no_name_is_not_followed(script: Script, region: str) -> None:
    script.reply = Reply(301, {"x-amz-bucket-region": region})
    with pytest.raises(errors.Redirected):
        ask(script, lambda store: store.get(REF))
    assert len(script.seen) == 1


def to_aws(answer: Callable[[str], Response], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hosts that a GET goes to at AWS's endpoint of us-east-1, where `answer` answers a host."""
    hosts: list[str] = []

    async def exchange(host: str, *_: Any) -> Response:
        hosts.append(host)
        return answer(host)

    async def run() -> None:
        store = open_store(None, None, None)
        monkeypatch.setattr(store.transport._pool, "exchange", exchange)
        await store.get(ObjectRef("bucket", "k"))
        await store.get(ObjectRef("bucket", "k"))

    asyncio.run(run())
    return hosts


HERE, THERE = "bucket.s3.us-east-1.amazonaws.com", "bucket.s3.eu-west-3.amazonaws.com"
DONE = Response(200, {"etag": '"e"'}, b"x")


def test_at_aws_the_host_is_the_other_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    assert to_aws(lambda host: Response(301, REGION, b"") if host == HERE else DONE, monkeypatch) == [
        HERE,
        THERE,
        THERE,
    ]
