"""Marks: whether the copies' bucket is that of the originals by another name, found out before anything is deleted.

Another endpoint of the same service, a gateway in front of it, an access point: under each of them an original looks
like its own copy. Names that are an access point's are refused. Nothing that S3 says of an object tells the rest apart:
S3 replicas have the version ids, the ETags and even the dates of their originals. A write does: a mark is left beside
an original and looked for on the copies' side. S3 shows what was written at once to whoever lists the same bucket, by
any name (https://docs.aws.amazon.com/AmazonS3/latest/userguide/Welcome.html#ConsistencyModel). That the mark is listed
on its own side is seen first. A replica of the bucket gets the mark later, or never. Where it is faster, nothing is
deleted.

Where versions are kept, the mark is a delete marker of a key that nobody has: no lock holds it, and no right to write
objects is needed. Elsewhere it is an empty object.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from functools import partial

from jobs.core.model import NULL_VERSION, Attributes, Location
from jobs.errors import ConfigError, Denied, NotFound, Redirected, Rejected
from jobs.s3.store import UNGUARDED, Store
from jobs.s3.tries import try_often

LONG_KEY = 200
"""From this many characters on, a mark's name takes the place of the key's end, so that no name is too long."""

SECOND_NAMES = ("-s3alias", "--ol-s3", ".mrap")
"""The aliases of access points, of Object Lambda and of Multi-Region Access Points end so, and no bucket's name may:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html. What is announced to go is looked up by
the bucket's own name. Object Lambda shows what is computed, a Multi-Region Access Point now this bucket, now that."""

_REFUSALS = (Denied, NotFound, Redirected, Rejected)


@dataclass(frozen=True, slots=True)
class Marks:
    """Tells the bucket of the originals from those of their copies, each once.

    `is_one_service`: both are reached alike, so that one name of a bucket means one bucket.
    """

    source: Store
    bucket: str
    destination: Store
    is_one_service: bool
    _known: set[str] = field(default_factory=set)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def tell_apart(self, key: str, copy: Location) -> None:
        """Raises ConfigError unless it is certain that the copy's bucket is another than that of the original."""
        async with self._turn:
            if copy.bucket in self._known:
                return
            for bucket in (self.bucket, copy.bucket):
                if bucket.endswith(SECOND_NAMES):
                    raise ConfigError(f"{bucket} is the alias of an access point: name the bucket itself")
            if copy.bucket != self.bucket or not self.is_one_service:
                await self._compare(key, copy)
            self._known.add(copy.bucket)

    async def _compare(self, key: str, copy: Location) -> None:
        try:
            is_versioned = await try_often(lambda: self.source.is_versioned(self.bucket))
            mark, *names = _names(key, copy.key)
            await self._leave(mark, is_versioned)
            try:
                if not await self._is_listed(self.source, self.bucket, mark, is_versioned):
                    raise ConfigError(
                        f"s3://{self.bucket} does not list what was written there just now: "
                        "no copy can be told from its original, and nothing is deleted"
                    )
                found = [
                    name
                    for name in dict.fromkeys((mark, *names))
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
                f"s3://{copy.bucket} is s3://{self.bucket} by another name: a mark written to {mark} there is at "
                f"{found[0]} here. The copies are the originals themselves, and nothing is deleted"
            )

    async def _leave(self, mark: str, is_versioned: bool) -> None:
        if is_versioned:
            await try_often(lambda: self.source.delete(self.bucket, mark))
        else:
            await try_often(lambda: self.source.put(self.bucket, mark, b"", Attributes(), guard=UNGUARDED))

    async def _is_listed(self, store: Store, bucket: str, name: str, is_versioned: bool) -> bool:
        listing = store.list_versions if is_versioned else store.list_objects
        return bool((await try_often(lambda: listing(bucket, name))).entries)

    async def _remove(self, mark: str, is_versioned: bool) -> None:
        """The mark, and what a repeated request has left of it. Nobody else has such a name."""
        if not is_versioned:
            made = await try_often(lambda: self.source.delete(self.bucket, mark))
            if made.is_delete_marker:  # versioning is suspended
                version_id = made.version_id or NULL_VERSION
                await try_often(lambda: self.source.delete(self.bucket, mark, version_id=version_id))
            return
        for each in (await try_often(lambda: self.source.list_versions(self.bucket, mark))).entries:
            await try_often(partial(self.source.delete, self.bucket, mark, version_id=each.version_id))


def _names(key: str, copy_key: str) -> tuple[str, str]:
    """The mark's key beside the original, and what it would be where a prefix was replaced as the copy's is."""
    suffix = f".sealift-{secrets.token_hex(8)}"
    cut = min(len(suffix), len(key), len(copy_key)) if max(len(key), len(copy_key)) > LONG_KEY else 0
    return key[: len(key) - cut] + suffix, copy_key[: len(copy_key) - cut] + suffix
