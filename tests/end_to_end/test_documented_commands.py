"""Documented commands, run in order on a real server, end as the documents say."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from tests.documents import PAGES, ROOT, Block, blocks, commands
from tests.doubles.servers import Server
from tests.end_to_end.conftest import Result, World
from tests.end_to_end.test_reconcile import settle

BUCKETS = ("documents", "copies", "cold", "back", "inventories", "ledger")
"""The buckets of the examples."""
VERSIONED = BUCKETS[:2]
KEYS = [f"{folder}/{number:04d}.json" for folder in ("2024/07", "2026/11") for number in range(1, 7)]
REPLICATE = ("replicate", "--source", "s3://documents/2026/", "--destination", "s3://copies/2026/")


@dataclass
class Scene:
    """The buckets that the examples name, under names of this test's own."""

    world: World
    names: dict[str, str] = field(default_factory=dict)

    def sealift(self, *words: str) -> Result:
        """Run a documented command line, with this test's buckets and runs in it."""
        return self.world.sealift(*map(self._replaced, words), SEALIFT_PROCESSES="1")

    def _replaced(self, word: str) -> str:
        word = re.sub(r"s3://([a-z]+)(?![\w-])", lambda uri: f"s3://{self.names.get(uri[1], uri[1])}", word)
        return re.sub(r"\b([A-Z]+)_RUN\b", lambda run: self._latest(run[1].lower()), word)

    def _latest(self, job: str) -> str:
        """The id of the latest run of a job."""
        client, bucket = self.world.client, self.world.ledger
        listed = client.list_objects_v2(Bucket=bucket, Prefix="runs/runs/", Delimiter="/")
        runs = [each["Prefix"].split("/")[-2] for each in listed.get("CommonPrefixes", [])]
        return max(run for run in runs if f"-{job}-" in run)


def _replicated(scene: Scene) -> None:
    assert scene.sealift(*REPLICATE).code == 0


def _copied(scene: Scene, *left_out: str) -> None:
    """Copies that no run has made."""
    documents, copies = scene.names["documents"], scene.names["copies"]
    for key in KEYS:
        if key.startswith("2026/") and key not in left_out:
            scene.world.client.copy_object(Bucket=copies, Key=key, CopySource={"Bucket": documents, "Key": key})


def _damaged(scene: Scene) -> None:
    _copied(scene, "2026/11/0002.json")
    scene.world.client.put_object(Bucket=scene.names["copies"], Key="2026/11/0001.json", Body=b"damaged")


def _one_lost(scene: Scene) -> None:
    _copied(scene, "2026/11/0002.json")
    settle()


def _packed(scene: Scene) -> None:
    packing = ("--source", "s3://documents/2024/", "--archives", "s3://cold/documents", "--pack-all")
    assert scene.sealift("compact", *packing).code == 0


def _nothing(_: Scene) -> None:
    """The objects alone."""


BEFORE: dict[str, Callable[[Scene], None]] = {
    "README.md": _nothing,
    "docs/replicate.md": _nothing,
    "docs/verify.md": _damaged,
    "docs/reconcile.md": _one_lost,
    "docs/archives.md": _nothing,
    "docs/restore.md": _packed,
    "docs/expire.md": _replicated,
    "docs/ledger.md": _replicated,
    "docs/policy.md": _nothing,
}
"""What has happened before a page's first command."""


@pytest.fixture
def scene(seaweed: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """The objects of the examples in buckets of this test."""
    monkeypatch.chdir(ROOT)  # where the documents name files
    client, suffix = seaweed.client(), uuid.uuid4().hex[:10]
    names = {bucket: f"{bucket}-{suffix}" for bucket in BUCKETS}
    for bucket in BUCKETS:
        client.create_bucket(Bucket=names[bucket])
        if bucket in VERSIONED:
            client.put_bucket_versioning(Bucket=names[bucket], VersioningConfiguration={"Status": "Enabled"})
    for key in KEYS:
        client.put_object(Bucket=names["documents"], Key=key, Body=f"content of {key}".encode())
    yield Scene(World(seaweed, client, names["documents"], names["copies"], names["ledger"]), names)
    for bucket in names.values():
        client.delete_bucket(Bucket=bucket)


def _run(scene: Scene, block: Block) -> None:
    """Run the commands of a block. Each has to end with the documented exit code."""
    lines = commands(block, "sealift")
    assert lines, "a block to be run has a command"
    for words in lines:
        result = scene.sealift(*words[1:])
        assert result.code == block.exits, f"line {block.number}: {' '.join(words)}\n{result.stdout}{result.stderr}"


@pytest.mark.parametrize("page", BEFORE)
def test_documented_commands_end_as_documented(page: str, scene: Scene) -> None:
    BEFORE[page](scene)
    marked = [block for block in blocks(ROOT / page) if block.exits is not None]
    assert marked
    for block in marked:
        _run(scene, block)


def test_every_page_with_commands_to_run_has_a_scene() -> None:
    marked = {str(page.relative_to(ROOT)) for page in PAGES if any(block.exits is not None for block in blocks(page))}
    assert marked == set(BEFORE)
