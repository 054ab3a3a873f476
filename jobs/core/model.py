"""Model: locations, object versions, what a HEAD says, checksums."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from msgspec import Struct

from jobs.core import bucket_names
from jobs.errors import UsageError

NULL_VERSION = "null"
"""The version id of an object that was written while its bucket's versioning was off or
suspended."""
LATEST_SECONDS = 253_402_300_799.0
"""The last second of the year 9999 in UTC: what is later has no date."""
SIZE_LIMIT = 1 << 50
"""No object has so many bytes: S3 takes up to 50 TB. Sums of smaller ones have room everywhere."""


def is_exact(version_id: str | None) -> bool:
    """Whether a version id names these bytes for ever.

    `null` does not: it is written again where versioning is off.
    """
    return version_id not in (None, NULL_VERSION)


def is_version(asked: str | None, version_id: str | None) -> bool:
    """Whether a version is the one that is asked for. None asks for any.

    A bucket without versioning names no version, or `null`, as one asks: a listing of objects and
    one of versions differ.
    """
    return asked in (None, version_id) or (asked == NULL_VERSION and version_id is None)


def overlap(one: str, other: str) -> bool:
    """True if a key can begin with both prefixes. They are text: `docs` reaches `docs-old/` as well."""
    return one.startswith(other) or other.startswith(one)


class Location(NamedTuple):
    """A bucket and a key or key prefix in it. The prefix may be empty."""

    bucket: str
    key: str = ""

    @classmethod
    def parse(cls, uri: str) -> Location:
        """`s3://bucket/any/prefix` → Location. Nothing in the key is decoded or normalised.

        The bucket may be the alias or the ARN of an access point. Raises UsageError for anything
        that is not an S3 URI with a legal bucket name.
        """
        if not uri.startswith("s3://"):
            raise UsageError(f"{uri!r} is not an S3 URI", advice="write s3://bucket/prefix")
        bucket, key = bucket_names.split(uri[5:])
        if why := bucket_names.refusal(bucket):
            raise UsageError(f"{uri!r}: {why}", advice="write s3://bucket/prefix")
        return cls(bucket, key)

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    def overlaps(self, other: Location) -> bool:
        """True if one key can be in both."""
        return self.bucket == other.bucket and overlap(self.key, other.key)

    def join(self, name: str) -> Location:
        """This location as a folder, with `name` in it."""
        folder = self.key if not self.key or self.key.endswith("/") else self.key + "/"
        return Location(self.bucket, folder + name)


class ObjectVersion(NamedTuple):
    """One manifest row: one immutable (bucket, key, version id), and what the manifest knew of it.

    `row` is its place in the run's manifest, unique in a run. `version_id` is None when the
    manifest names only the key (then the ETag pins it). `size_bytes`, `etag` (no quotes),
    `last_modified` (epoch seconds, UTC) and `storage_class` are None when the manifest does not
    say. `archive` is the URI of the archive that a restore takes it from. None: it is an object of its
    own. `beside` is what the shards of one kind of work have beside each row, in a type of that kind
    (`jobs.runs.kind.Kind.beside`): of an expire run where the copy is (`jobs.expire.rules.CopyAt`),
    of a restore what the journal's event says (`jobs.restore.as_of_journal.Event`), of runs that
    copy or verify what an earlier run found out (`Repair`).
    """

    row: int
    key: str
    version_id: str | None = None
    is_latest: bool = True
    is_delete_marker: bool = False
    size_bytes: int | None = None
    etag: str | None = None
    last_modified: float | None = None
    storage_class: str | None = None
    archive: str | None = None
    beside: object = None

    @property
    def repair(self) -> Repair:
        """What an earlier run found out about the row's objects."""
        return self.beside if isinstance(self.beside, Repair) else Repair()


class Repair(Struct, frozen=True):
    """What an earlier run found out about a row's objects.

    `condemned_etag` is the destination ETag that a verify run proved wrong: the one object that a
    replicate run may overwrite although it is newer. `damaged_etag` is the source ETag that it found
    damaged. `known_checksum` (`ALGORITHM:base64`) is the content's, as a run has proven it.
    """

    condemned_etag: str | None = None
    damaged_etag: str | None = None
    known_checksum: str | None = None


class ObjectRef(NamedTuple):
    """The address of one object version for a request. `version_id` None means the current one."""

    bucket: str
    key: str
    version_id: str | None = None

    def __str__(self) -> str:
        version = f"?versionId={self.version_id}" if self.version_id else ""
        return f"s3://{self.bucket}/{self.key}{version}"


class Checksum(NamedTuple):
    """A checksum that S3 keeps with an object.

    `algorithm` in S3's spelling (`CRC64NVME`, `SHA256`, …). `value` base64, with `-N` for a
    composite one. `is_composite`: a checksum of the parts' checksums, so it depends on them.
    """

    algorithm: str
    value: str
    is_composite: bool = False

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.value}"


class ObjectLock(Struct, frozen=True):
    """Object Lock settings: `mode` (GOVERNANCE, COMPLIANCE) with its date, legal hold, event hold with the
    days or years that it lasts on after its end.
    """

    mode: str | None = None
    retain_until: str | None = None
    legal_hold: bool = False
    event_hold: bool = False
    event_days: int | None = None
    event_years: int | None = None


class Attributes(Struct, frozen=True):
    """What an object carries besides its bytes, as a writer sets it.

    `headers` holds the content headers in lower case (content-type, cache-control,
    content-disposition, content-encoding, content-language, expires,
    x-amz-website-redirect-location). `metadata` the user's metadata without `x-amz-meta-`.
    """

    headers: Mapping[str, str] = {}
    metadata: Mapping[str, str] = {}
    tags: Mapping[str, str] = {}
    storage_class: str | None = None
    sse: str | None = None
    kms_key_id: str | None = None
    lock: ObjectLock | None = None

    def missing_encryption(self, sse: str | None, kms_key_id: str | None) -> str:
        """The name of the encryption that was asked for and that these do not show, else empty.

        S3 names a key by its ARN, however it was asked for. An alias cannot be compared, so it
        counts as shown.
        """
        if sse and sse != self.sse:
            return f"encryption with {sse}"
        is_comparable = kms_key_id is not None and "alias/" not in kms_key_id
        return "the KMS key" if is_comparable and not (self.kms_key_id or "").endswith(kms_key_id or "") else ""


class ObjectInfo(Struct, frozen=True):
    """What HEAD (or GET) says of one object version. `etag` has no quotes.

    `last_modified` is epoch seconds (UTC). `parts_count` is None unless S3 said. `attributes.tags`
    is always empty: tags need a request of their own (`tag_count` says how many). `is_archived`: it
    must be restored before it can be read. `is_restoring`: and that is under way. `expiration`:
    what S3 says of a lifecycle rule that will remove it, if there is one. `archive_tier`: where
    INTELLIGENT_TIERING keeps an archived object, `ARCHIVE_ACCESS` or `DEEP_ARCHIVE_ACCESS`.
    `replication_status`: of S3's own replication. `REPLICA`: S3 has written it. `unsent_metadata`: how
    many entries of the metadata S3 cannot say.
    """

    size_bytes: int
    etag: str
    last_modified: float
    version_id: str | None
    storage_class: str
    checksums: tuple[Checksum, ...] = ()
    attributes: Attributes = Attributes()
    tag_count: int = 0
    parts_count: int | None = None
    is_archived: bool = False
    is_restoring: bool = False
    expiration: str | None = None
    archive_tier: str | None = None
    replication_status: str | None = None
    unsent_metadata: int = 0


class Listed(NamedTuple):
    """One entry of a listing. Delete markers have no size, no ETag and no storage class."""

    key: str
    version_id: str | None
    is_latest: bool
    is_delete_marker: bool
    size_bytes: int | None
    etag: str | None
    last_modified: float
    storage_class: str | None
    checksum_algorithm: str | None = None


def parse_time(text: str) -> float:
    """ISO 8601 as S3 writes it (`2026-11-25T00:33:40.000Z`) → epoch seconds.

    Without an offset a time is UTC, wherever this runs. Raises ValueError.
    """
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def format_time(at_seconds: float) -> str:
    """Epoch seconds → ISO 8601 in UTC, to the millisecond, as `parse_time` reads it."""
    return datetime.fromtimestamp(at_seconds, UTC).isoformat(timespec="milliseconds")


class Route(Struct, frozen=True):
    """From where to where the objects of a run go.

    The destination prefix replaces the source prefix.
    """

    source: Location
    destination: Location

    def source_of(self, row: ObjectVersion) -> ObjectRef:
        """The object version that the row names."""
        return ObjectRef(self.source.bucket, row.key, row.version_id)

    def target_of(self, row: ObjectVersion) -> ObjectRef:
        """Where its copy belongs: the current version of this key."""
        rest = row.key[len(self.source.key) :] if row.key.startswith(self.source.key) else row.key
        return ObjectRef(self.destination.bucket, self.destination.key + rest)
