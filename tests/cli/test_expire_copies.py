"""What counts as a copy, by the command line on a real server: what only looks like one saves its original."""

from __future__ import annotations

from tests.cli.conftest import World
from tests.cli.test_expire import DELETE, expire, fill, keys, reasons, replicate
from tests.forgery import with_crc32_of

CONTENT = b"content of the original, as it was written"
OTHER = with_crc32_of(CONTENT, b"content of some object that means to be it")


def test_a_checksum_that_agrees_does_not_outweigh_an_md5_that_differs(world: World) -> None:
    """CRC32s can be forged: such a pair was `verified`, and then expired."""
    world.put("k", CONTENT, ChecksumAlgorithm="CRC32")
    world.client.put_object(Bucket=world.destination, Key="k", Body=OTHER, ChecksumAlgorithm="CRC32")
    report = world.run("verify")
    assert (report["code"], report["outcomes"]) == (3, {"mismatched": 1}), report
    assert "MD5 differs" in report["reasons"][0]["reason"]


def test_a_copy_that_nobody_reads_any_more_saves_its_original(versioned: World) -> None:
    world = versioned
    names = fill(world, 4)
    run_id = replicate(world)
    hidden, written_over, written_again = names[:3]
    world.client.delete_object(Bucket=world.destination, Key=hidden)
    world.client.put_object(Bucket=world.destination, Key=written_over, Body=b"something else")
    world.client.put_object(Bucket=world.destination, Key=written_again, Body=world.copy_of(written_again))
    report = expire(world, run_id, *DELETE)
    assert report["outcomes"] == {"expired": 1, "kept": 3}, report
    assert keys(world) == names[:3]
    for reason in ("nothing is at", "another object now", "the current version of"):
        assert reason in reasons(report)
