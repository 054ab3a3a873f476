"""Restores through the command line on a real server: what was packed comes back, and never over anything."""

from __future__ import annotations

from jobs.core.reasons import Reason
from tests.end_to_end.conftest import World
from tests.end_to_end.packed import (
    ALL,
    EVERYTHING,
    archive_keys,
    compact,
    fill,
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
    assert [key for key in world.keys(world.destination, "back") if not key.startswith("back/")] == []
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
