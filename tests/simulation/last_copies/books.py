"""Where each content that users had can still be read: the buckets' own word, which knows nothing of Sealift.

A content is readable as the current object of a bucket that no lifecycle rule will remove, or as a member of such an
archive, which the standard library's tar reads. A version below others is not readable, nor is one below a marker.
A bucket with two names is one place. After each delete of Sealift's, what was deleted must be readable elsewhere.

A copy that others took away is excused if it was readable when the process took up the row that it deletes: no program
can look at the moment at which a delete takes effect. These are counted among the known limits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tests.doubles.memory_buckets import Bucket, Version
from tests.simulation.archives.contents import at_its_place, entries
from tests.simulation.archives.schedule import ARCHIVES
from tests.simulation.archives.tables import read_index
from tests.simulation.copies.schedule import LEDGER, PREFIX
from tests.simulation.engine.peculiar_memory import PeculiarMemory

if TYPE_CHECKING:
    from tests.simulation.copies.facts import Judge

ROGUE = "rogue"
"""A bucket of somebody else's server: what is there is no copy."""
SIDES = (PREFIX, "x/", "y/", "z/")
"""The prefixes below which a key is an object's name."""


def name_of(key: str) -> str:
    """The object's name, whichever side its key is on."""
    return next((key.removeprefix(side) for side in SIDES if key.startswith(side)), key)


class LastCopies:
    """Keeps what users had."""

    def __init__(self, judge: Judge):
        self.judge = judge
        self.contents: defaultdict[str, set[bytes]] = defaultdict(set)
        """By name, all contents that were ever current at a place of users."""
        self._ends: defaultdict[tuple[str, bytes], list[float]] = defaultdict(list)
        """When others took a readable one away."""
        self._flips: set[tuple[str, bytes]] = set()
        self._damaged: set[int] = set()
        """Archives (their versions' ids in memory) in which a bit flipped."""

    # What is there.

    def readable(self, name: str, content: bytes) -> bool:
        """Whether a user can read the content now."""
        return any(
            content in _contents_in(key, top, name) for home in self._homes() for key, top in self._current(home)
        )

    def _homes(self) -> list[Bucket]:
        """The buckets, each once."""
        named = self.judge.world.memory._buckets.named
        return list({id(home): home for name, home in named.items() if name not in (LEDGER, ROGUE)}.values())

    def _current(self, home: Bucket) -> Iterator[tuple[str, Version]]:
        memory = self.judge.world.memory
        expiring = memory.expiring if isinstance(memory, PeculiarMemory) else {}
        for key, versions in home.versions.items():
            if not versions[-1].is_delete_marker and id(versions[-1]) not in expiring:
                yield key, versions[-1]

    # What others do.

    def written(self, key: str, content: bytes) -> None:
        """A user's object is current."""
        self.contents[name_of(key)].add(content)

    def taking(self, bucket: str, key: str) -> None:
        """Others are about to hide or remove what is current there."""
        now = self.judge.world.loop.time()
        versions = self.judge.world.versions(bucket, key)
        top = versions[-1] if versions else None
        for name, contents in self.contents.items():
            for content in contents:
                if top is None or top.is_delete_marker:
                    continue
                if content in _contents_in(key, top, name) or content in self._at_places(bucket, key, top, name):
                    self._ends[name, content].append(now)

    def flipped(self, key: str, version: Version, before: bytes) -> None:
        """A bit flipped, while S3 says of the object what it said before."""
        self._flips.add((name_of(key), before))
        self._damaged.add(id(version))

    # What Sealift does.

    def deleted(self, key: str, version: Version, since: float, who: str) -> None:
        """Sealift has hidden or removed a version. `since`: when the process took up its row."""
        name, content, limits = name_of(key), version.data, self.judge.known_limits
        if content not in self.contents[name] or self.readable(name, content):
            return
        if any(time >= since for time in self._ends[name, content]):
            limits["others took a last copy away after it was looked at"] += 1
        elif (name, content) in self._flips:
            limits["replicas with comparable checksums are not read: a flipped bit was not seen"] += 1
        elif self._is_in_damaged(name, content):
            limits["a header or a frame's sum was damaged, what the index names was not"] += 1
        else:
            self.judge.violate("the last good copy stays", f"{who}: {key} {version.version_id} was the last one")

    def _is_in_damaged(self, name: str, content: bytes) -> bool:
        """Whether an archive that tar cannot read any more has the content where its index says."""
        named = self.judge.world.memory._buckets.named
        places = ((bucket, *each) for bucket, home in named.items() for each in self._current(home))
        return any(content in self._at_places(*place, name) for place in places)

    def _at_places(self, bucket: str, key: str, top: Version, name: str) -> set[bytes]:
        """What a damaged archive has where its index says, under a name."""
        named = self.judge.world.memory._buckets.named
        indexes = named[LEDGER].versions.get(f"x/archives/{bucket}/{key}.parquet", [])
        if id(top) not in self._damaged or not indexes:
            return set()
        _, members = read_index(indexes[-1].data)
        return {
            data for each in members if name_of(each.key) == name and (data := at_its_place(top.data, each)) is not None
        }


def _contents_in(key: str, top: Version, name: str) -> list[bytes]:
    """The contents of that name that the object there is or, being an archive, holds."""
    if key.startswith(ARCHIVES):
        return [each.data for each in entries(top.data) if name_of(each.key) == name]
    return [top.data] if name_of(key) == name else []
