"""`sealift archives`: shows the index, and rebuilds it from the archives."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from jobs import interrupts
from jobs.archives.model import Member
from jobs.cli.console import emit, table
from jobs.cli.options import AccessOptions, Group, Place, argument, command_options, group, shared, takes
from jobs.cli.policy_and_ledger import ledger_location
from jobs.config import Settings
from jobs.core.display import shown, shown_key
from jobs.core.model import Location
from jobs.errors import (
    ArchivedObject,
    ConfigError,
    DamagedArchive,
    Denied,
    ExitCode,
    IrreplaceableIndex,
    LaterArchive,
    LedgerError,
    NotFound,
    Redirected,
    Rejected,
    UsageError,
)
from jobs.reports.document import iso_time
from jobs.reports.figures import human_bytes, plural
from jobs.s3.retries import gather_bounded
from jobs.s3.sessions import open_side, open_store
from jobs.s3.store import Store

if TYPE_CHECKING:
    from jobs.archives.index import ArchiveIndex, Damage, DamagedIndex
    from jobs.archives.model import ArchiveRecord
    from jobs.core.run import Side

_SOURCE = "Only archives below this. Default: all in the buckets that the index knows."
REINDEXED_AT_ONCE = 8
LOOKS_AT_ONCE = 64


@command_options
class ListArchivesCommand:
    """`sealift archives list`, as it was typed."""

    archive: Location | None = argument(type=Place, required=False)
    source: Location | None = shared("source", _SOURCE)
    prefix: str | None = shared("prefix", "Of an archive: only members whose keys begin with this.")
    limit: int = shared("limit", "Of an archive: only the first N members.")
    access: AccessOptions = group(AccessOptions, "source")
    as_json: bool = shared("json")
    ledger: str | None = shared("ledger")


@command_options
class FindMemberCommand:
    """`sealift archives find`, as it was typed."""

    key: str = argument()
    source: Location | None = shared("source", _SOURCE)
    access: AccessOptions = group(AccessOptions, "source")
    as_json: bool = shared("json")
    ledger: str | None = shared("ledger")


@command_options
class ReindexCommand:
    """`sealift archives reindex`, as it was typed."""

    source: Location = shared("source", "Where the archives are.", required=True)
    access: AccessOptions = group(AccessOptions, "source")
    as_json: bool = shared("json")
    ledger: str | None = shared("ledger")


class _Unsearched(NamedTuple):
    """What the index cannot say: archives whose index is damaged or missing, and places that nobody
    may list.

    `lost`: archives that it has, and that are gone, or have another object in their place.
    """

    archives: Damage
    places: list[Location]
    lost: list[Location]

    def document(self) -> dict[str, Any]:
        """JSON-ready."""
        damaged = [{"archive": str(each.archive), "problem": each.reason} for each in self.archives]
        unlisted, lost = ([str(each) for each in locations] for locations in (self.places, self.lost))
        return {"damaged": damaged, "unlisted": unlisted, "lost": lost}

    def lines(self) -> list[str]:
        """The same for people, with what to do."""
        lines = [f"not searched: {shown(str(each.archive))}: {each.reason}" for each in self.archives]
        lines += [
            f"nobody may list {each}, so an archive without an index is not noticed there: check the name, or allow "
            "s3:ListBucket"
            for each in self.places
        ]
        lines += [f"lost: {shown(str(each))}: it is gone, or another object is in its place" for each in self.lost]
        buckets = sorted({each.archive.bucket for each in self.archives})
        return [*lines, *(f"rebuild these with: sealift archives reindex --source s3://{each}" for each in buckets)]

    def __bool__(self) -> bool:
        """True if not all archives are known."""
        return bool(self.archives or self.places)


class _Renewed(NamedTuple):
    """One archive after `reindex`."""

    archive: Location
    is_new: bool = False
    problem: str = ""


@click.group(cls=Group)
def archives() -> None:
    """List archives or members of one, find a key among all of them, rebuild a lost index."""


@archives.command("list")
@takes(ListArchivesCommand)
def list_archives(options: ListArchivesCommand) -> int:
    """The archives that the index knows, or the members of ARCHIVE.

    ARCHIVE is the URI of an archive, or of its index in the ledger. Without it all archives are
    listed. Exit code 3 if the index of an archive is damaged or missing, or its archive is gone or was
    replaced. So that such an archive is noticed, the places of the archives are listed.
    """
    if options.archive is None and options.prefix:
        raise UsageError("--prefix chooses members of one archive", advice="name the archive, or give --source")
    if options.archive is not None and options.source is not None:
        raise UsageError("name one archive, or give --source")
    index = _index(options.ledger)
    return interrupts.run(
        _list(index, options) if options.archive is None else _members(index, options, options.archive)
    )


@archives.command()
@takes(FindMemberCommand)
def find(options: FindMemberCommand) -> int:
    """Every archived version of a key, the newest first.

    KEY is a whole key, without its bucket. `archives list ARCHIVE` lists keys.

    Exit code 3 if no archive has the key, or only archives that are gone or were replaced. Where
    the index of an archive that may have it is damaged or missing, the exit code is 3 if another
    archive has the key, and 10 if none is known to have it. So that such an archive is noticed,
    the places of the archives are listed.
    """
    return interrupts.run(_find(_index(options.ledger), options))


@archives.command()
@takes(ReindexCommand)
def reindex(options: ReindexCommand) -> int:
    """Rebuild what is missing in the index, from the archives.

    Lists the archives. If the index of one is missing or unreadable, reads the index inside the
    archive (three requests). If that is damaged or cut off, reads the whole archive and indexes the
    members that are whole, as a checksum in their headers proves. Exit code 3 if an archive is
    damaged, or must be thawed first.
    """
    return interrupts.run(_reindex(_index(options.ledger), options.access.open(options.source), options))


def _index(ledger: str | None) -> ArchiveIndex:
    from jobs.archives.index import ArchiveIndex

    location = ledger_location(ledger, Settings.from_environment())
    return ArchiveIndex(open_store(None, None, None, max_in_flight=64), location)


async def _list(index: ArchiveIndex, options: ListArchivesCommand) -> int:
    records, unsearched = await _records(index, options.source, options.access)
    rows = [
        [
            str(each.location),
            f"{each.members:,}",
            human_bytes(each.member_bytes),
            human_bytes(each.size_bytes),
            each.storage_class,
            iso_time(each.created_at),
        ]
        for each in records
    ]
    headings = ["archive", "members", "content", "size", "class", "written"]
    below = f" below {options.source}" if options.source else ""
    text = table(headings, rows) if rows else f"no archives{below} in the index of {index.location}"
    document = {"archives": [each.to_dict() for each in records], **unsearched.document()}
    emit(document, as_json=options.as_json, text="\n".join([text, *unsearched.lines()]))
    return int(ExitCode.FINDINGS) if unsearched or unsearched.lost else 0


async def _records(
    index: ArchiveIndex, archives: Location | None, access: AccessOptions
) -> tuple[list[ArchiveRecord], _Unsearched]:
    """The records of the index, and what it cannot say. `archives`: only below this."""
    from jobs.archives.unindexed import etags_of_archives, find_unindexed

    places = [Location(bucket) for bucket in await index.buckets()] if archives is None else [archives]
    sides = [access.side(place) for place in places]
    # First: what is indexed meanwhile has a name in both lists, or in that of the index alone.
    listed = [await etags_of_archives(side) for side in sides]
    damage: Damage = []
    records = await index.records(archives, damage)
    indexed = {each.location for each in records} | {each.archive for each in damage}
    lost: list[Location] = []
    for side, etags in zip(sides, listed, strict=True):
        damage += await find_unindexed(side, index, [each for each in etags or () if each not in indexed], None)
        lost += [] if etags is None else await _find_lost(side, records, etags)
    unlisted = [place for place, etags in zip(places, listed, strict=True) if etags is None]
    return records, _Unsearched(damage, unlisted, lost)


async def _find_lost(side: Side, records: Sequence[ArchiveRecord], etags: Mapping[Location, str]) -> list[Location]:
    """The archives of a bucket that are gone, or have another object in their place.

    `etags`: those of a listing. An older version of an object can be an archive, so what is not
    listed is looked at.
    """
    from jobs.archives.files import find_archive

    here = [each for each in records if each.location.bucket == side.location.bucket]
    unlike = [each for each in here if etags.get(each.location) != each.etag]
    if not unlike:
        return []
    store = open_side(side, max_in_flight=LOOKS_AT_ONCE)

    async def is_lost(record: ArchiveRecord) -> bool:
        try:
            return await find_archive(store, record) is None
        except (Denied, Redirected, Rejected):  # nobody knows
            return False

    try:
        found = await gather_bounded(is_lost, unlike, LOOKS_AT_ONCE)
    finally:
        await store.close()
    return [each.location for each, gone in zip(unlike, found, strict=True) if gone]


async def _members(index: ArchiveIndex, options: ListArchivesCommand, named: Location) -> int:
    archive = index.archive_at(named) or named
    record = await index.record(archive)
    if record is None:
        raise LedgerError(
            f"the index of {index.location} does not know {archive}",
            advice="see `sealift archives list`, or run `sealift archives reindex`",
        )
    members: list[Member] = []
    async with aclosing(index.members(archive, options.prefix or "")) as parts:
        async for part in parts:
            members += part[: options.limit - len(members)]
            if len(members) >= options.limit:
                break
    lines = [
        f"{record.location}: {record.members:,} members of {record.source_bucket}, {human_bytes(record.member_bytes)} "
        f"in {human_bytes(record.size_bytes)}, {record.storage_class}, written {iso_time(record.created_at)}",
        table(["key", "version", "size", "modified"], [_row(each) for each in members]),
    ]
    document = record.to_dict() | {"shown": [_document(each) for each in members]}
    emit(document, as_json=options.as_json, text="\n".join(lines))
    return 0


async def _find(index: ArchiveIndex, options: FindMemberCommand) -> int:
    records, unsearched = await _records(index, options.source, options.access)
    if not records and not unsearched and options.source is None:
        raise LedgerError(f"the index of {index.location} has no archives", advice="name their place with --source")
    members = await index.find(options.key, records, unsearched.archives)
    holders = {each.record.location for each in members}
    unsearched = unsearched._replace(
        archives=[each for each in unsearched.archives if _may_hold(each, options.key)],
        lost=[each for each in unsearched.lost if each in holders],
    )
    is_found = bool(holders.difference(unsearched.lost))
    rows = [[str(each.record.location), *_row(each.member)[1:], str(each.member.sha256)] for each in members]
    headings = ["archive", "version", "size", "modified", "sha256"]
    nowhere = "nobody knows whether an archive has the key" if unsearched else "no archive has the key"
    text = table(headings, rows) if rows else f"{nowhere} '{shown_key(options.key)}'"
    document = [_document(each.member) | {"archive": str(each.record.location)} for each in members]
    if not rows and options.key.startswith("s3://"):
        text += ": give the key alone, without s3:// and bucket"
    text = "\n".join([text, *unsearched.lines()])
    emit({"key": options.key, "found": document, **unsearched.document()}, as_json=options.as_json, text=text)
    if unsearched and not is_found:
        return int(ExitCode.CONFIG)
    return 0 if is_found and not unsearched else int(ExitCode.FINDINGS)


def _may_hold(archive: DamagedIndex, key: str) -> bool:
    """True unless the index inside an archive, which was just read, shows that the key is not in it."""
    record = archive.record if archive.is_missing else None
    return record is None or record.first_key <= key <= record.last_key


async def _reindex(index: ArchiveIndex, store: Store, options: ReindexCommand) -> int:
    from jobs.archives.files import list_archives

    locations = [location async for location, _ in list_archives(store, options.source)]
    if not locations:
        raise ConfigError(f"no archive is below {options.source}", advice="check bucket and prefix (--source)")
    renewed = await gather_bounded(partial(_renew, index, store), locations, REINDEXED_AT_ONCE)
    indexed = [str(each.archive) for each in renewed if each.is_new]
    problems = [{"archive": str(each.archive), "problem": each.problem} for each in renewed if each.problem]
    failed = sum(bool(each.problem) and not each.is_new for each in renewed)
    indexed_before = len(renewed) - len(indexed) - failed
    lines = [f"{indexed_before:,} archives were indexed already, {len(indexed):,} are now, {failed:,} cannot be."]
    lines += [f"  {each['problem']}" for each in problems]
    document = {"known": indexed_before, "indexed": indexed, "problems": problems}
    emit(document, as_json=options.as_json, text="\n".join(lines))
    return int(ExitCode.FINDINGS) if problems else 0


async def _renew(index: ArchiveIndex, store: Store, location: Location) -> _Renewed:
    """Index one archive by the index inside it, or by its headers, unless it is indexed.

    The damaged index of a cold archive stays: nobody knows its members, and readers must see that.
    So does the index of a later version of the format, and that of an archive in whose place is
    another object. An archive that was copied over itself is a new version, which the index does
    not name.
    """
    from jobs.archives.files import find_archive, read_own_index
    from jobs.archives.index import completed

    etag = await index.etag(location)
    earlier: ArchiveRecord | None = None
    try:
        earlier = None if etag is None else await _whole_record(index, location)
        if earlier is not None and await find_archive(store, earlier) is not None:
            return _Renewed(location)
        try:
            record, own_index = await read_own_index(store, location)
            if earlier is not None:  # a copy may have no metadata
                run_id, source_bucket = record.run_id or earlier.run_id, record.source_bucket or earlier.source_bucket
                record = replace(record, run_id=run_id, source_bucket=source_bucket)
            await index.publish(completed(record, own_index), io.BytesIO(own_index), damaged_etag=etag)
        except (IrreplaceableIndex, LaterArchive):
            raise
        except DamagedArchive as error:
            if earlier is not None:
                raise
            return await _index_by_headers(index, store, location, etag, error)
    except ArchivedObject as error:
        return _Renewed(location, problem=f"{error}: restore the archive there, then reindex it")
    except (IrreplaceableIndex, LaterArchive) as error:  # the archive is whole
        return _Renewed(location, problem=str(error))
    except (Denied, Redirected, Rejected) as error:
        if not error.target.startswith(str(location)):  # the ledger's refusal is about all archives
            raise
        return _Renewed(location, problem=str(error))
    except (DamagedArchive, NotFound) as error:
        if earlier is None and etag is not None:
            await index.forget(location, etag)
        what = "" if earlier is None else f"{location} was replaced, and its index stays: "
        return _Renewed(location, problem=f"{what}{error}")
    return _Renewed(location, is_new=True)


async def _index_by_headers(
    index: ArchiveIndex, store: Store, location: Location, etag: str | None, damage: DamagedArchive
) -> _Renewed:
    """Index the members that are whole, of an archive whose own index has the `damage`, which is
    raised if there are none.
    """
    from jobs.archives.files import describe_archive
    from jobs.archives.index import completed
    from jobs.archives.scan import scan_archive

    record = await describe_archive(store, location)
    scan = await scan_archive(store, record)
    if not scan.members:
        raise damage
    problem = f"{damage}; {plural(scan.members, 'member')} indexed by their headers"
    problem += f", {scan.damaged:,} damaged" if scan.damaged else ""
    problem += f", {scan.unproven:,} without a checksum" if scan.unproven else ""
    problem += f"; what comes behind is lost: {scan.reason}" if scan.reason else ""
    record = completed(record, scan.parquet)
    if scan.damaged or scan.unproven or scan.reason:
        record = replace(record, incomplete=problem.removeprefix(f"{location}: "))
    await index.publish(record, io.BytesIO(scan.parquet), damaged_etag=etag)
    return _Renewed(location, is_new=True, problem=problem)


async def _whole_record(index: ArchiveIndex, location: Location) -> ArchiveRecord | None:
    """An archive's record if all of its index is readable and lacks nothing, else None.

    Raises LaterArchive.
    """
    try:
        record = await index.record(location)
        if record is not None:
            async with aclosing(index.members(location)) as parts:
                async for _ in parts:  # reading all of it shows any damage
                    pass
    except LaterArchive:
        raise
    except (DamagedArchive, NotFound):
        return None
    return None if record is not None and record.incomplete else record


def _row(member: Member) -> list[str]:
    modified = iso_time(member.last_modified)
    return [shown_key(member.key), member.version_id or "", human_bytes(member.size_bytes), modified]


def _document(member: Member) -> dict[str, Any]:
    checksums = {each.algorithm: each.value for each in member.checksums}
    return member._asdict() | {"checksums": checksums, "last_modified": iso_time(member.last_modified)}
