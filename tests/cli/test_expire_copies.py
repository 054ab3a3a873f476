"""What counts as a copy, by the command line on a real server: what only looks like one saves its original."""

from __future__ import annotations

from tests.cli.conftest import World
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
