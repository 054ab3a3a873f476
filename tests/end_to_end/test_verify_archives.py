"""Archives read once more through the command line: what is damaged is named, what is intact is proven."""

from __future__ import annotations

import random
from typing import Any

from jobs.core.reasons import Reason
from tests.end_to_end.conftest import World


def compact(world: World, *arguments: str) -> None:
    given = ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}/packed", "--pack-all"]
    result = world.sealift("compact", *given, "--storage-class", "STANDARD", *arguments)
    assert result.code == 0, result.stderr


def verify(world: World, *arguments: str, **extra: str) -> dict[str, Any]:
    result = world.sealift("verify", "--archives", f"s3://{world.destination}/packed", *arguments, "--json", **extra)
    assert result.stdout, result.stderr
    return result.document | {"code": result.code}


def archives(world: World) -> list[str]:
    listed = world.client.list_objects_v2(Bucket=world.destination, Prefix="packed/")
    return [entry["Key"] for entry in listed.get("Contents", [])]


def read(world: World, key: str) -> bytearray:
    return bytearray(world.client.get_object(Bucket=world.destination, Key=key)["Body"].read())


def write(world: World, key: str, data: bytes | bytearray) -> None:
    world.client.put_object(Bucket=world.destination, Key=key, Body=bytes(data))


def fill(world: World, count: int = 24) -> dict[str, bytes]:
    rng = random.Random(2)
    objects = {f"docs/{n:03}.bin": rng.randbytes(6_000 + n) for n in range(count)}
    for key, data in objects.items():
        world.put(key, data)
    return objects


def problems(world: World, report: dict[str, Any]) -> dict[str, tuple[str, str, str]]:
    return {row["key"]: (row["status"], row["reason"], row["detail"]) for row in world.failed_rows(report)}


def test_every_member_is_proven_and_the_damaged_ones_are_named(world: World) -> None:
    objects = fill(world)
    world.put("docs/500.large", random.Random(1).randbytes(9 << 20))
    world.put("docs/600.empty", b"")
    compact(world)
    (key,) = archives(world)
    good = verify(world)
    assert (good["code"], good["outcomes"]) == (0, {"verified": 27})  # 26 members, and the archive
    assert good["bytes"] == sum(map(len, objects.values())) + (9 << 20)
    assert good["evidence"] == {"checksum": 26, "content": 1}
    whole = read(world, key)
    flipped = bytearray(whole)
    place = whole.find(objects["docs/003.bin"][100:140])  # random bytes do not compress: they stand there as they are
    assert place > 0
    flipped[place] ^= 0x10
    write(world, key, flipped)
    report = verify(world)
    found = problems(world, report)
    uri = f"s3://{world.destination}/{key}"
    assert found.pop(uri)[0] == "different"
    assert found == {"docs/003.bin": ("different", Reason.CHECKSUM_DIFFERS, "SHA256")}
    assert report["outcomes"] == {"different": 2, "verified": 25}
    write(world, key, whole[: len(whole) // 2])  # within the large member
    cut = problems(world, verify(world))
    assert set(cut) == {uri, "docs/500.large"}
    assert "cut short" in cut[uri][2]
