"""Marks: show whether the copies' bucket is the originals' by another name.

The job does so before it deletes anything. Another endpoint of the same service, a gateway in front
of it, an access point: under each of them an original looks like its own copy. Names of access
points are refused. For the rest, what S3 says of an object does not help: S3 replicas have the
version ids, the ETags and even the dates of their originals. A write does. The job leaves a mark
beside an original and looks for it on the copies' side. S3 shows a write at once in every listing
of the same bucket, by any name
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/Welcome.html#ConsistencyModel). The job first
checks that the mark is listed on its own side. A replica of the bucket gets the mark later, or
never. Where it is faster, nothing is deleted.

Where versions are kept, the mark is a delete marker of a key that no object has. No lock holds it,
and it needs no right to write objects. Elsewhere the mark is an empty object.

A claim is a mark that says that a run deletes in this bucket, while it works on a group of rows.
Two runs may delete objects that are each other's copies. Their announcements miss each other where
they have two ledgers, or know a bucket by another name, but both look into the same buckets. Each
run first claims the bucket of its originals, then looks for claims of others in the buckets of the
copies, and then proves the copies. Suppose that both deleted. Then neither saw the other's claim,
so each had ended its deletes before the other one looked (or had not claimed yet, and saw the claim
of the other later). The other one then proved a copy that was gone already, and kept its original.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from jobs.core.bucket_names import is_second_name
from jobs.core.model import NULL_VERSION, Attributes, Listed, Location
from jobs.errors import ConfigError, Denied, Interrupted, NotFound, Redirected, Rejected
from jobs.s3.listing import list_all
from jobs.s3.retries import retry
from jobs.s3.store import UNGUARDED, Store

LONG_KEY = 200
"""From this many characters on, a mark's name replaces the end of the key, so that no name is too
long."""

CLAIM = ".sealift-expiring-"
"""The keys of claims begin so, at the root of the bucket: `.sealift-expiring-<run id>.sealift-<16
hex>`."""

CLAIM_SECONDS = 3600.0
"""A claim that is this much older than another is of a killed worker. A group takes minutes, or
claims its bucket again (`jobs.expire.job.RENEWED_SECONDS`)."""


class Claim(NamedTuple):
    """The claim of another run. `ends_at`: epoch seconds, by S3's clock, from which it no longer
    counts.
    """

    run_id: str
    ends_at: float


class Claimed(NamedTuple):
    """A claim of this run. `at`: epoch seconds by S3's clock.

    `others`: the claims of other runs, by copies' bucket: of each bucket the one that ends last.
    """

    at: float
    others: dict[str, Claim]


_REFUSALS = (Denied, NotFound, Redirected, Rejected)


@dataclass(frozen=True, slots=True)
class Marks:
    """Distinguishes the bucket of the originals from those of their copies, each once.

    `is_one_service`: both sides have the same endpoint, so one name means one bucket.
    """

    source: Store
    bucket: str
    destination: Store
    is_one_service: bool
    _known: set[tuple[str, ...]] = field(default_factory=set)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def require_distinct(self, key: str, copy: Location, *, is_replica: bool = True) -> None:
        """Raise ConfigError unless it is certain that the copy is another object than the original.

        Each pair of buckets is checked once. Keys are checked once for each way in which a copy's
        key is made from an original's, since some servers take `x//k` and `/x/k` for `x/k`. Members
        of archives (not `is_replica`) lie in an object that is no original.
        """
        is_same = copy.bucket == self.bucket and self.is_one_service
        way = (copy.bucket, *_prefixes(key, copy.key)) if is_replica else (copy.bucket,)
        async with self._turn:
            if way in self._known:
                return
            for bucket in (self.bucket, copy.bucket):
                if is_second_name(bucket):  # announcements are looked up by the bucket's own name
                    raise ConfigError(f"{bucket} is the name of an access point: name the bucket itself")
            if is_replica or not is_same:
                await self._compare(key, copy, is_same=is_same)
            self._known.add(way)

    @asynccontextmanager
    async def claim(self, run_id: str, buckets: Iterable[str], *, is_versioned: bool) -> AsyncIterator[Claimed]:
        """Claim the bucket of the originals while the block runs.

        Raises ConfigError where it cannot be found out whether other runs have claims.
        """
        mark = f"{CLAIM}{run_id}{_suffix()}"
        try:
            await self._leave(mark, is_versioned)
            try:
                own = await self._listed(self.source, self.bucket, mark)
                if not own:
                    raise ConfigError(f"s3://{self.bucket} does not list {mark}, written just now: nothing is deleted")
                claimed_at = own[-1].last_modified
                listed = {bucket: await self._listed(self.destination, bucket, CLAIM) for bucket in buckets}
            except BaseException:
                await self._remove(mark, is_versioned)
                raise
        except _REFUSALS as error:
            raise ConfigError(
                f"it cannot be found out whether another expire run deletes where the copies are, and nothing is "
                f"deleted: {error}; permit s3:DeleteObject and s3:DeleteObjectVersion (without versions s3:PutObject) "
                f"of {CLAIM}* in s3://{self.bucket}, and listing the versions on both sides"
            ) from error
        others = {
            bucket: Claim(each.key.removeprefix(CLAIM).partition(".")[0], each.last_modified + CLAIM_SECONDS)
            for bucket, entries in listed.items()
            for each in sorted(entries, key=lambda entry: entry.last_modified)
            if not each.key.startswith(f"{CLAIM}{run_id}.") and each.last_modified > claimed_at - CLAIM_SECONDS
        }
        try:
            yield Claimed(claimed_at, others)
        finally:
            # A worker that has to stop sends no delete: its claim expires.
            with suppress(Interrupted):
                await self._remove(mark, is_versioned)

    async def _listed(self, store: Store, bucket: str, prefix: str) -> list[Listed]:
        """Return all entries, since killed workers may have left more claims than a page holds."""
        versions = await retry(lambda: store.is_versioned(bucket))
        place = Location(bucket, prefix)
        async with aclosing(list_all(store, place, versions=versions, concurrency=1)) as pages:
            return [entry async for page in pages for entry in page]

    async def _compare(self, key: str, copy: Location, *, is_same: bool) -> None:
        try:
            is_versioned = await retry(lambda: self.source.is_versioned(self.bucket))
            mark, *names = _names(key, copy.key)
            if is_same and names == [mark]:
                return  # one key of one bucket: `Copies` refuses that by itself
            await self._leave(mark, is_versioned)
            try:
                if not await self._is_listed(self.source, self.bucket, mark, is_versioned):
                    raise ConfigError(
                        f"s3://{self.bucket} does not list what was written there just now: "
                        "no copy can be distinguished from its original, and nothing is deleted"
                    )
                found = [
                    name
                    for name in dict.fromkeys(names if is_same else (mark, *names))
                    if await self._is_listed(self.destination, copy.bucket, name, is_versioned)
                ]
            finally:
                await self._remove(mark, is_versioned)
        except _REFUSALS as error:
            raise ConfigError(
                f"it cannot be found out whether s3://{copy.bucket} is s3://{self.bucket} by another name, and nothing "
                f"is deleted: {error}; permit it (s3:DeleteObject and s3:DeleteObjectVersion, or without versions "
                "s3:PutObject, beside the originals; s3:ListBucket and s3:ListBucketVersions on both sides)"
            ) from error
        if found:
            raise ConfigError(
                f"{copy} is an original in s3://{self.bucket} by another name: a mark written to {mark} there is "
                f"at {found[0]} here. The copies are the originals themselves, and nothing is deleted"
            )

    async def _leave(self, mark: str, is_versioned: bool) -> None:
        if is_versioned:
            await retry(lambda: self.source.delete(self.bucket, mark))
        else:
            await retry(lambda: self.source.put(self.bucket, mark, b"", Attributes(), guard=UNGUARDED))

    async def _is_listed(self, store: Store, bucket: str, name: str, is_versioned: bool) -> bool:
        listing = store.list_versions if is_versioned else store.list_objects
        return bool((await retry(lambda: listing(bucket, name))).entries)

    async def _remove(self, mark: str, is_versioned: bool) -> None:
        """Remove the mark, and what a repeated request has left of it.

        No other key has such a name.
        """
        if not is_versioned:
            made = await retry(lambda: self.source.delete(self.bucket, mark))
            if made.is_delete_marker:  # versioning is suspended
                version_id = made.version_id or NULL_VERSION
                await retry(lambda: self.source.delete(self.bucket, mark, version_id=version_id))
            return
        for each in (await retry(lambda: self.source.list_versions(self.bucket, mark))).entries:
            await retry(partial(self.source.delete, self.bucket, mark, version_id=each.version_id))


def _prefixes(key: str, copy_key: str) -> tuple[str, str]:
    """Return the parts in which the keys differ: both keys without the end that they share."""
    shared = 0
    while shared < min(len(key), len(copy_key)) and key[-1 - shared] == copy_key[-1 - shared]:
        shared += 1
    return key[: len(key) - shared], copy_key[: len(copy_key) - shared]


def _suffix() -> str:
    """Return a new end of a mark's key. `jobs.core.selection.EXPIRE_MARK` has its form."""
    return f".sealift-{secrets.token_hex(8)}"


def _names(key: str, copy_key: str) -> tuple[str, str]:
    """Return the mark's key beside the original, and the same key with the copy's prefix."""
    suffix = _suffix()
    cut = min(len(suffix), len(key), len(copy_key)) if max(len(key), len(copy_key)) > LONG_KEY else 0
    return key[: len(key) - cut] + suffix, copy_key[: len(copy_key) - cut] + suffix
