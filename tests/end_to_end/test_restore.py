"""Restores through the command line on a real server: what was packed comes back, and never over anything."""

from __future__ import annotations

import time

import pytest

from jobs.core.reasons import Reason
from jobs.core.selection import is_sealift_object
from tests.end_to_end.conftest import World
from tests.end_to_end.expiry import DELETE, declare, places
from tests.end_to_end.packed import (
    ALL,
    EVERYTHING,
    archive_keys,
    compact,
    fill,
    keys_of,
    restore,
    restored,
)


def test_what_was_packed_comes_back_and_is_the_same_the_next_time(world: World) -> None:
    objects = fill(world, 60)
    compact(world, ALL, "--target-size", "32KiB")
    report = restore(world, *EVERYTHING)
    assert (report["code"], report["outcomes"]) == (0, {"done": 60}), report["reasons"]
    assert report["evidence"] == {"checksum": 60}
    assert restored(world) == objects
    glued = restore(world, *EVERYTHING, "--destination", f"s3://{world.destination}/back")  # the same folder
    assert (glued["code"], glued["outcomes"]) == (0, {"same": 60})
    assert [key for key in keys_of(world, world.destination, "back") if not key.startswith("back/")] == []
    again = restore(world, *EVERYTHING)
    assert (again["code"], again["outcomes"]) == (0, {"same": 60})


def test_damage_is_named_nothing_is_replaced_and_the_rest_comes_back(world: World) -> None:
    objects = fill(world, 20)
    compact(world, ALL)
    (key,) = archive_keys(world)
    data = bytearray(world.copy_of(key))
    place = bytes(data).index(objects["docs/1/005.json"])
    data[place] ^= 1
    world.client.put_object(Bucket=world.destination, Key=key, Body=bytes(data))
    world.client.put_object(Bucket=world.destination, Key="back/docs/1/001.json", Body=b"newer")
    report = restore(world, *EVERYTHING)
    assert (report["code"], report["outcomes"]) == (3, {"done": 18, "blocked": 2})
    why = {failed["key"]: (failed["reason"], failed["detail"]) for failed in world.failed_rows(report)}
    assert why.pop("docs/1/001.json") == (Reason.DESTINATION_DIFFERS, "")
    assert why == {"docs/1/005.json": (Reason.CHECKSUM_DIFFERS, "SHA256")}
    del objects["docs/1/005.json"]
    assert restored(world) == objects | {"docs/1/001.json": b"newer"}


def now_of(world: World, bucket: str, key: str) -> float:
    """When S3 says that the key's latest version or delete marker was written."""
    return world.history(bucket, key)[-1].last_modified


@pytest.mark.slow
def test_a_bucket_comes_back_as_it_was(versioned: World) -> None:
    world, source = versioned, versioned.source
    expected: dict[float, dict[str, bytes]] = {}
    state: dict[str, bytes] = {}
    for number in range(3):
        for key, data in ((f"only/{number}", b"n"), ("often", f"{number}".encode() * 50)):
            world.put(key, data)
            state[key] = data
        if number == 1:
            world.client.delete_object(Bucket=source, Key="only/0")
            del state["only/0"]
        at = now_of(world, source, "often" if number != 1 else "only/0")
        expected[at] = dict(state)
        next_second = int(at) + 1.05
        time.sleep(max(0.0, next_second - time.time()))  # S3 dates to the second
    compact(world, ALL, "--versions", "all")
    declare(world)
    # Older versions go, current ones are hidden: for the bucket's users nothing of that counts.
    gone = world.sealift("expire", *places(world), *DELETE, "--json")
    assert gone.document["outcomes"] == {"done": 6}, gone.stdout
    assert all(map(is_sealift_object, keys_of(world, source)))
    expected[time.time() + 1] = dict(state)
    for number, (at, objects) in enumerate(expected.items()):
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at + 0.999))
        back = [
            "--source",
            f"s3://{source}",
            "--as-of",
            when,
            "--destination",
            f"s3://{world.destination}/as-of-{number}/",
        ]
        archives = ["--archives", f"s3://{world.destination}/packed"]
        report = restore(world, *back, *archives)
        assert (report["code"], report["outcomes"]) == (0, {"done": len(objects)}), report["reasons"]
        found = keys_of(world, world.destination, f"as-of-{number}/")
        assert {key.partition("/")[2]: world.copy_of(key) for key in found} == objects
    first = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(min(expected) + 0.999))
    here = ["--source", f"s3://{source}", "--as-of", first, "--destination", f"s3://{source}", *archives]
    assert "--in-place" in world.sealift("restore", *here).stderr
    world.put("often", b"newest")
    report = restore(world, *here, "--in-place")
    assert report["outcomes"] == {"done": 1, "blocked": 1}  # what was deleted is back, what is newer stays
    assert world.client.get_object(Bucket=source, Key="only/0")["Body"].read() == b"n"
    assert world.client.get_object(Bucket=source, Key="often")["Body"].read() == b"newest"
