"""`sealift archives`: shows the index, and rebuilds it from the archives."""

from __future__ import annotations

import asyncio
import io
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from jobs.archives.model import Member
from jobs.cli.console import emit, table
from jobs.cli.options import (
    LocationType,
    json_option,
    ledger_location,
    ledger_option,
    prefix_option,
    side,
    side_options,
)
from jobs.config import Settings
from jobs.core.display import shown
from jobs.core.model import Location
from jobs.errors import ArchivedObject, DamagedArchive, ExitCode, LedgerError, NotFound
from jobs.reports.document import iso_time
from jobs.reports.figures import human_bytes
from jobs.s3.sessions import open_store
from jobs.s3.store import Store

if TYPE_CHECKING:
    from jobs.archives.index import ArchiveIndex, Damage

_ARCHIVES = click.option(
    "--archives", type=LocationType(), help="Only archives below this. Default: all of the ledger."
)


REINDEXED_AT_ONCE = 16


class _Renewed(NamedTuple):
    """One archive after `reindex`."""

    archive: Location
    is_new: bool = False
    problem: str = ""


@click.group()
def archives() -> None:
    """List archives, show one, find a key among all of them, rebuild a lost index."""


@archives.command("list")
@_ARCHIVES
@ledger_option()
@json_option()
def list_archives(archives: Location | None, ledger: str | None, as_json: bool) -> int:
    """The archives that the index knows. Exit code 3 if the index of one is damaged."""
    return asyncio.run(_list(_index(ledger), archives, as_json))


@archives.command()
@click.argument("archive", type=LocationType())
@prefix_option("Only members whose keys begin with this.")
@click.option("--limit", default=50, show_default=True, help="Only the first so many members.")
@ledger_option()
@json_option()
def show(archive: Location, prefix: str, limit: int, ledger: str | None, as_json: bool) -> int:
    """One archive and its members."""
    return asyncio.run(_show(_index(ledger), archive, prefix, limit, as_json))


@archives.command()
@click.argument("key")
@_ARCHIVES
@click.option("--version-id", help="Only this version.")
@ledger_option()
@json_option()
def find(key: str, archives: Location | None, version_id: str | None, ledger: str | None, as_json: bool) -> int:
    """Every archived version of a key, the newest first.

    Exit code 3 if no archive has the key, or if the index of an archive is damaged.
    """
    return asyncio.run(_find(_index(ledger), key, archives, version_id, as_json))


@archives.command()
@click.option("--archives", type=LocationType(), required=True, help="Where the archives are.")
@side_options("archives")
@ledger_option()
@json_option()
def reindex(archives: Location, ledger: str | None, as_json: bool, **options: Any) -> int:
    """Rebuild what is missing in the index, from the indexes inside the archives.

    Lists the archives. If the index of one is missing or unreadable, reads the index inside the
    archive (three requests). Exit code 3 if an archive is damaged, or must be thawed first.
    """
    place = side(archives, options, "archives")
    store = open_store(place.endpoint, place.region, place.profile)
    return asyncio.run(_reindex(_index(ledger), store, archives, as_json))


def _index(ledger: str | None) -> ArchiveIndex:
    from jobs.archives.index import ArchiveIndex

    location = ledger_location(ledger, Settings.from_environment())
    return ArchiveIndex(open_store(None, None, None, max_in_flight=64), location)


async def _list(index: ArchiveIndex, archives: Location | None, as_json: bool) -> int:
    damage: Damage = []
    records = await index.records(archives, damage)
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
    text = table(headings, rows) if rows else f"no archives in the index of {index.location}"
    document = {"archives": [each.to_dict() for each in records], "damaged": _damaged(damage)}
    emit(document, as_json=as_json, text="\n".join([text, *_damage_lines(damage)]))
    return int(ExitCode.FINDINGS) if damage else 0


async def _show(index: ArchiveIndex, archive: Location, prefix: str, limit: int, as_json: bool) -> int:
    record = await index.record(archive)
    if record is None:
        raise LedgerError(
            f"the index of {index.location} does not know {archive}: see sealift archives list, or reindex"
        )
    members: list[Member] = []
    async with aclosing(index.members(archive, prefix)) as parts:
        async for part in parts:
            members += part[: limit - len(members)]
            if len(members) >= limit:
                break
    lines = [
        f"{record.location}: {record.members:,} members of {record.source_bucket}, {human_bytes(record.member_bytes)} "
        f"in {human_bytes(record.size_bytes)}, {record.storage_class}, written {iso_time(record.created_at)}",
        table(["key", "version", "size", "modified"], [_row(each) for each in members]),
    ]
    document = record.to_dict() | {"shown": [_document(each) for each in members]}
    emit(document, as_json=as_json, text="\n".join(lines))
    return 0


async def _find(index: ArchiveIndex, key: str, archives: Location | None, version_id: str | None, as_json: bool) -> int:
    damage: Damage = []
    members = await index.find(key, archives, version_id, damage)
    rows = [[str(each.record.location), *_row(each.member)[1:], str(each.member.sha256)] for each in members]
    headings = ["archive", "version", "size", "modified", "sha256"]
    text = table(headings, rows) if rows else f"no archive has {shown(key)}"
    document = [_document(each.member) | {"archive": str(each.record.location)} for each in members]
    text = "\n".join([text, *_damage_lines(damage)])
    emit({"key": key, "found": document, "damaged": _damaged(damage)}, as_json=as_json, text=text)
    return 0 if members and not damage else int(ExitCode.FINDINGS)


async def _reindex(index: ArchiveIndex, store: Store, archives: Location, as_json: bool) -> int:
    gate = asyncio.Semaphore(REINDEXED_AT_ONCE)

    async def renew(location: Location) -> _Renewed:
        async with gate:
            return await _renew(index, store, location)

    from jobs.archives.files import list_archives

    renewed = await asyncio.gather(*[renew(location) async for location in list_archives(store, archives)])
    indexed = [str(each.archive) for each in renewed if each.is_new]
    problems = [{"archive": str(each.archive), "problem": each.problem} for each in renewed if each.problem]
    indexed_before = len(renewed) - len(indexed) - len(problems)
    lines = [
        f"{indexed_before:,} archives were indexed already, {len(indexed):,} are now, {len(problems):,} cannot be."
    ]
    lines += [f"  {each['problem']}" for each in problems]
    document = {"known": indexed_before, "indexed": indexed, "problems": problems}
    emit(document, as_json=as_json, text="\n".join(lines))
    return int(ExitCode.FINDINGS) if problems else 0


async def _renew(index: ArchiveIndex, store: Store, location: Location) -> _Renewed:
    """Index one archive by the index inside it, unless it is indexed.

    The damaged index of a cold archive stays: nobody knows its members, and readers must see that.
    """
    from jobs.archives.files import read_own_index
    from jobs.archives.index import completed

    etag = await index.etag(location)
    if etag is not None and await _is_whole(index, location):
        return _Renewed(location)
    try:
        record, own_index = await read_own_index(store, location)
        await index.publish(completed(record, own_index), io.BytesIO(own_index), damaged_etag=etag)
    except ArchivedObject as error:
        return _Renewed(location, problem=f"{error}: restore the archive there, then reindex it")
    except (DamagedArchive, NotFound) as error:
        if etag is not None:
            await index.forget(location)
        return _Renewed(location, problem=str(error))
    return _Renewed(location, is_new=True)


async def _is_whole(index: ArchiveIndex, location: Location) -> bool:
    """True if all of an archive's index is readable."""
    try:
        async with aclosing(index.members(location)) as parts:
            async for _ in parts:  # reading all of it shows any damage
                pass
    except (DamagedArchive, NotFound):
        return False
    return True


def _damaged(damage: Damage) -> list[dict[str, str]]:
    """Archives that could not be asked, JSON-ready."""
    return [{"archive": str(each.archive), "problem": each.reason} for each in damage]


def _damage_lines(damage: Damage) -> list[str]:
    """The same for people, with what to do."""
    lines = [f"not asked, its index is damaged: {shown(str(each.archive))}: {each.reason}" for each in damage]
    return [*lines, "rebuild these with: sealift archives reindex --archives URI"] if lines else []


def _row(member: Member) -> list[str]:
    modified = iso_time(member.last_modified)
    return [member.key, member.version_id or "", human_bytes(member.size_bytes), modified]


def _document(member: Member) -> dict[str, Any]:
    checksums = {each.algorithm: each.value for each in member.checksums}
    return member._asdict() | {"checksums": checksums, "last_modified": iso_time(member.last_modified)}
