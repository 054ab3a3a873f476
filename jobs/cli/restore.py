"""`sealift restore`: plan what to thaw and read, then run like any other job."""

from __future__ import annotations

from jobs.cli.command import SidesAccess, Work
from jobs.cli.options import Place, Text, When, choice, flag, option, rare, shared
from jobs.cli.run_command import StartOptions, WriteOptions
from jobs.core.enums import StorageClass
from jobs.core.model import Location
from jobs.core.selection import Selection
from jobs.errors import UsageError
from jobs.restore.thawing import Tier
from jobs.runs.request import Request
from jobs.s3.copying import KEEP


class Restore(SidesAccess, StartOptions, WriteOptions):
    """Bring back objects from archives, or a versioned bucket as it was at a time.

    Each byte is proven before it is written, and no object is ever overwritten. Keys keep their
    names below the destination. With --source the destination replaces its prefix. Cold archives
    are thawed by --tier. Their rows are blocked, and `sealift runs retry` continues once S3 has
    thawed them. Rows end as restored, same, missing or blocked, with the reason.

    The copies of a backup come back as their source was: the ledger's journal says when each event
    happened there. Copies without an event count by their own dates, and the plan says how many.

    \b
    sealift restore --archives s3://cold/docs --key 2024/a.json --destination s3://back
    sealift restore --archives s3://cold/docs --prefix 2024/ --destination s3://back/docs/ --tier Standard --dry-run
    sealift restore --source s3://docs/2026/ --as-of 2026-11-01 --archives s3://cold/docs --destination s3://back
    """

    archives: Location | None = option("Where the archives are.", type=Place)
    source: Location | None = shared("source", "With --as-of: the versioned bucket, or a prefix in it.")
    at: float | None = option("As it was at: 30d (ago), 2026-11-01, 2026-11-01T06:00:00Z.", name="--as-of", type=When)
    destination: Location = shared("destination", "Where the objects go.", required=True)
    keys: tuple[str, ...] = option("This key. May be repeated.", name="--key", type=Text, multiple=True, metavar="KEY")
    prefix: str | None = option("Only keys that begin with this.")
    include: tuple[str, ...] = shared("include", is_rare=True)
    exclude: tuple[str, ...] = shared("exclude", is_rare=True)
    manifest: str | None = shared("manifest", is_rare=True)
    bucket: str | None = rare("Only what was in this bucket, where archives are of several.", metavar="NAME")
    skip_damaged: bool = flag(
        "Also restore keys of which an archive with a damaged index may hold a newer version. The exit code stays 3.",
        is_rare=True,
    )
    in_place: bool = flag("Allow the original bucket as destination. Nothing is overwritten there.", is_rare=True)
    tier: str = option("How fast to thaw archived objects, for a week.", type=choice(*Tier), default=Tier.BULK.value)
    storage_class: str = rare(
        "Class of the restored objects. keep: the class that they had.",
        type=choice(KEEP, *StorageClass),
        default="STANDARD",
    )

    def run(self) -> Work:
        """Restore what the options choose."""
        self._check()
        archives = self.source_side(self.archives) if self.archives else None
        source = self.source_side(self.source) if self.source else archives
        prefix = self.source.key if self.source else ""
        # A folder, with or without its `/`, but where it replaces a prefix that ends within a name: `20` by `19`.
        place = self.destination.join("") if not prefix or prefix.endswith("/") else self.destination
        request = Request(
            job="restore",
            source=source,
            destination=self.destination_side(place),
            manifest=self.manifest,
            selection=Selection(prefix + (self.prefix or ""), self.include, self.exclude, versions="all"),
            options={
                **self.values("at", "bucket", "in_place", "tier", "storage_class"),
                "archives": archives.to_dict() if archives else None,
                "is_history": self.source is not None,
                "source_prefix": prefix,
                **self.written(),
                **({"skip_damaged": True} if self.skip_damaged else {}),
            },
            keys=tuple(dict.fromkeys(self.keys)),
        )
        return self.launch(request, self.open_ledger())

    def _check(self) -> None:
        """Raises UsageError for options that contradict each other."""
        if self.source is None and self.archives is None:
            raise UsageError(
                "nothing to restore from", advice="give --archives s3://bucket/prefix, or --source and --as-of TIME"
            )
        if self.source is not None and self.at is None:
            as_it_is = "to copy it as it is: sealift replicate"
            raise UsageError("--source needs --as-of TIME: as it was when?", advice=as_it_is)
        asked = self.keys or self.prefix or self.include or self.manifest
        if self.source is None and self.at is None and not asked:
            raise UsageError(
                "restore what?", advice="give --key, --prefix, --include or --manifest (everything: --include '*')"
            )
        if self.at is not None and (self.keys or self.manifest):
            raise UsageError("--as-of goes with --prefix, --include and --exclude: --key and --manifest name versions")
        if self.keys and (self.manifest or self.prefix or self.include):
            raise UsageError("--key names all that is restored", advice="leave out --manifest, --prefix and --include")
