"""The policy: which buckets are protected, and how.

The command line, the Lambdas and Terraform read one file. `jobs.policy.reader` reads it into these
types, `jobs.policy.rules` finds values that contradict each other, and `jobs.policy.coverage` says
what the policy means for an object.

The names here are the names in the file. Sizes, ages and shares are words (`100 MiB`, `30d`,
`1/30`). Once parsed, `Size` is bytes, `Age` seconds, `OneIn` the N of 1/N, `Share` 0 to 1. Values
that Terraform calculates with are plain numbers with their unit in the name (`days`, `memory_mib`).
The second half of an `Annotated` is the description that the JSON Schema shows.
"""

# ruff: noqa: RUF009  words are immutable: each is a str, int or float

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated

from jobs.core.enums import (
    AnnotationRule,
    ArchiveFormat,
    ArchiveSide,
    Compute,
    Deletes,
    Encryption,
    InventoryFormat,
    LockMode,
    StorageClass,
)
from jobs.policy.words import (
    AccountId,
    Age,
    Bucket,
    Count,
    Dollars,
    Email,
    Folder,
    Hour,
    JobQueue,
    KmsKey,
    OneIn,
    PairName,
    Prefix,
    Region,
    Share,
    Size,
    SystemName,
    TimeZone,
    Topic,
)

POLICY_VERSION = 1
"""The `version` of the format that this program reads."""
_OWNER = "The account that owns it: S3 refuses each request if another one does. Default: the system's."


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """Where runs are recorded."""

    bucket: Annotated[Bucket, "The ledger's bucket."]
    region: Annotated[Region, "The ledger's region; queues, functions and Batch live there too."]
    prefix: Annotated[Folder, "Runs lie below this prefix."] = Folder("")

    @property
    def uri(self) -> str:
        """`s3://bucket/prefix`, as `--ledger` takes it."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Daily S3 Inventory of sources, destinations, replicas. S3 delivers within one region only."""

    buckets: Annotated[Mapping[Region, Bucket], "For each region, the bucket that its reports are delivered to."]
    prefix: Annotated[Folder, "Reports lie below this prefix."] = Folder("inventory/")
    format: Annotated[InventoryFormat, "The format of the reports."] = InventoryFormat.PARQUET


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The bucket whose objects are protected. Sealift never owns it."""

    bucket: Annotated[Bucket, "The protected bucket."]
    region: Annotated[Region, "Its region."]
    account: Annotated[AccountId | None, _OWNER] = None
    prefixes: Annotated[tuple[Prefix, ...], "Keys that begin with one of these are protected. Default: all keys."] = (
        Prefix(""),
    )
    exclude: Annotated[tuple[Prefix, ...], "Keys that begin with one of these are left out."] = ()
    notifications: Annotated[bool, "Terraform sets the bucket's event notifications (and replaces what is set)."] = True
    inventory: Annotated[bool, "Terraform sets a daily inventory of the bucket."] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectLock:
    """The bucket's default retention."""

    mode: Annotated[LockMode, "GOVERNANCE can be lifted by who may; COMPLIANCE by nobody."]
    days: Annotated[Count, "How long each version is locked."]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A lifecycle transition of the hot bucket."""

    days: Annotated[Count, "Days after an object was written."]
    storage_class: Annotated[StorageClass, "The class that it moves to."]


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """The hot bucket: a versioned copy of the source. The copy's key is `prefix` and then the whole
    source key.
    """

    bucket: Annotated[Bucket, "The hot bucket."]
    region: Annotated[Region, "Its region."]
    account: Annotated[AccountId | None, _OWNER] = None
    prefix: Annotated[Folder, "Stands before the source's key."] = Folder("")
    storage_class: Annotated[StorageClass | None, "The class of copies. Default: the source object's."] = None
    encryption: Annotated[Encryption, "How copies are encrypted at rest."] = Encryption.S3
    kms_key: Annotated[KmsKey | None, "create, or a key's ARN. Keys are regional."] = None
    annotations: Annotated[AnnotationRule, "Whether copies get the annotations of their sources."] = AnnotationRule.COPY
    object_lock: Annotated[ObjectLock | None, "Default retention of copies."] = None
    noncurrent_days: Annotated[Count | None, "Noncurrent versions are removed after so many days."] = None
    transitions: Annotated[tuple[Transition, ...], "Lifecycle transitions, the earliest first."] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """The twin that S3's own replication keeps of the hot bucket, with the same keys."""

    bucket: Annotated[Bucket, "The twin bucket."]
    region: Annotated[Region, "Its region."]
    account: Annotated[AccountId | None, _OWNER] = None
    storage_class: Annotated[StorageClass | None, "The class of replicas. Default: the hot object's."] = None
    kms_key: Annotated[KmsKey | None, "create, or a key's ARN in the replica's region."] = None
    replication_time_control: Annotated[bool, "99.99 % within 15 minutes, with metrics, at a price."] = False
    delete_markers: Annotated[bool, "Whether delete markers are replicated."] = False

    @property
    def lag_seconds(self) -> float:
        """How long S3 may take: 15 minutes with replication time control, else up to a day or more.

        https://docs.aws.amazon.com/AmazonS3/latest/userguide/replication-time-control.html
        """
        return 900 if self.replication_time_control else 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """When work leaves the Lambda."""

    lambda_max_size: Annotated[Size, "Larger objects go to the backlog."] = Size(256 * 1024**2)
    backlog_rows: Annotated[Count, "So many rows of backlog start a run."] = Count(10_000)
    backlog_age: Annotated[Age, "A backlog as old as this starts a run."] = Age(3_600)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nightly:
    """Reconcile, repair, verify, report: once a night."""

    enabled: Annotated[bool, "Whether the night runs by itself."] = True
    hour: Annotated[Hour, "When, in the pair's time zone."] = Hour("03:30")
    time_zone: Annotated[TimeZone, "An IANA time zone."] = TimeZone("UTC")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """How much of the pair is proven each night. Slices rotate, so all keys have their turn."""

    rota: Annotated[OneIn, "This slice of the keys is compared by checksums each night."] = OneIn(30)
    deep: Annotated[OneIn | None, "This slice is read on both sides and compared byte by byte."] = OneIn(360)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of a run that starts by itself. A plan above them is refused.

    `max_cost` does not bound the run of a backlog: new objects are copied whatever they cost.
    """

    max_cost: Annotated[Dollars, "US dollars a run, by the plan. Not of a backlog's run."] = Dollars(100)
    max_objects: Annotated[Count, "Rows a run."] = Count(100_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveRule:
    """Which small cold objects are packed. All conditions must hold. The first matching rule
    applies.
    """

    name: Annotated[PairName, "The rule's name, unique in its pair."]
    older_than: Annotated[Age, "Objects written longer ago."]
    prefix: Annotated[Prefix, "Keys at the source that begin with this."] = Prefix("")
    smaller_than: Annotated[Size, "Smaller objects only."] = Size(1024**2)
    tags: Annotated[Mapping[str, str], "Objects with all of these tags."] = field(default_factory=dict)
    storage_class: Annotated[StorageClass, "The class of the archives."] = StorageClass.GLACIER_IR
    format: Annotated[ArchiveFormat, "The format of the archives."] = ArchiveFormat.TAR_ZST
    target_size: Annotated[Size, "About how large an archive becomes."] = Size(1024**3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expire:
    """Lets `sealift expire` delete originals whose archive is proven. Without this nothing is ever
    deleted.
    """

    grace: Annotated[Age, "An original stays at least so long after it was proven."] = Age(30 * 86_400)
    max_share: Annotated[Share, "A run that would delete more of a prefix is refused."] = Share(0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """Where small cold objects of the pair are packed, and which."""

    bucket: Annotated[Bucket, "The archive bucket."]
    region: Annotated[Region, "Its region."]
    rules: Annotated[tuple[ArchiveRule, ...], "Which objects are packed, in the order they are asked."]
    account: Annotated[AccountId | None, _OWNER] = None
    prefix: Annotated[Folder, "Archives lie below this prefix."] = Folder("")
    side: Annotated[ArchiveSide, "Whose objects are packed (and expired)."] = ArchiveSide.SOURCE
    encryption: Annotated[Encryption, "How archives are encrypted at rest."] = Encryption.S3
    kms_key: Annotated[KmsKey | None, "create, or a key's ARN in the archive's region."] = None
    object_lock: Annotated[ObjectLock | None, "Default retention of archives."] = None
    expire: Annotated[Expire | None, "Whether originals may be deleted once packed and proven."] = None

    @property
    def uri(self) -> str:
        """`s3://bucket/prefix`, as `--archives` takes it."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A source and its copy. Fields that a pair does not set come from `defaults`."""

    name: Annotated[PairName, "The pair's name, as --pair takes it."]
    source: Source
    destination: Destination
    replica: Replica | None = None
    archive: Archive | None = None
    deletes: Annotated[Deletes, "What a delete at the source does to the copy."] = Deletes.RETAIN
    thresholds: Thresholds = Thresholds()
    nightly: Nightly = Nightly()
    verify: Verification = Verification()
    limits: Limits = Limits()

    @property
    def is_cross_region(self) -> bool:
        """Whether the copy lies in another region than its source."""
        return self.source.region != self.destination.region

    def copy_key(self, key: str) -> str:
        """The key of the copy of a source key. Two keys never share one."""
        return self.destination.prefix + key


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What all pairs share. A pair overrides single fields."""

    deletes: Annotated[Deletes, "What a delete at the source does to the copy."] = Deletes.RETAIN
    thresholds: Thresholds = Thresholds()
    nightly: Nightly = Nightly()
    verify: Verification = Verification()
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarms:
    """Who hears of it, and when."""

    emails: Annotated[tuple[Email, ...], "Subscribed to the topic; each has to confirm once."] = ()
    topic: Annotated[Topic | None, "An existing SNS topic in the ledger's region. Default: Terraform makes one."] = None
    oldest_event_minutes: Annotated[Count, "An event unhandled for so long is an alarm."] = Count(15)
    night_hours: Annotated[Count, "No successful night for so long is an alarm."] = Count(26)
    monthly_budget: Annotated[Dollars | None, "Above this forecast of the month's cost is an alarm."] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The workers of runs on AWS Batch."""

    compute: Annotated[Compute, "Spot is cheaper and may be taken away: a worker then goes on elsewhere."] = (
        Compute.FARGATE_SPOT
    )
    vcpus: Annotated[Count, "vCPUs of a worker."] = Count(2)
    memory_mib: Annotated[Count, "Memory of a worker."] = Count(4096)
    disk_gib: Annotated[Count, "Scratch space of a worker."] = Count(50)
    max_vcpus: Annotated[Count, "vCPUs of all workers at once."] = Count(128)
    timeout_hours: Annotated[Count, "A worker is stopped after so long."] = Count(12)
    queue: Annotated[JobQueue | None, "An existing job queue. Default: the one that Terraform makes."] = None
    orchestrator_queue: Annotated[
        JobQueue | None, "An existing job queue for nights and backfills, which wait for workers. Default: `queue`."
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The whole file."""

    version: Annotated[Count, "The version of this format: 1."]
    ledger: Ledger
    pairs: Annotated[tuple[Pair, ...], "Each protected source and its copy."]
    name: Annotated[SystemName, "What queues, functions, roles and alarms are called after."] = SystemName("sealift")
    account: Annotated[
        AccountId | None, "The system's account. Every bucket is its own, unless the bucket's section says another one."
    ] = None
    defaults: Defaults = Defaults()
    inventory: Inventory | None = None
    alarms: Alarms = Alarms()
    batch: Batch = Batch()

    def called(self, system: str | None) -> Policy:
        """The policy with the system's whole name: its own after a prefix of Terraform's.

        None, and the name of another system: its own is the whole one.
        """
        return replace(self, name=SystemName(system)) if system and system.endswith(self.name) else self

    def is_foreign(self, side: Source | Destination | Replica | Archive) -> bool:
        """Whether another account than the system's owns the bucket."""
        return side.account not in (None, self.account)

    def pair(self, name: str) -> Pair | None:
        """The pair of this name."""
        return next((pair for pair in self.pairs if pair.name == name), None)
