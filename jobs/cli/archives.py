"""List archives or members of one, find a key among all of them, rebuild a lost index."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

from jobs.archives.files import find_archive, list_archives
from jobs.archives.model import ArchiveRecord, DamagedIndex, Member
from jobs.archives.unindexed import LOOKS_AT_ONCE, etags_of_archives, find_unindexed
from jobs.cli.command import Answer, LedgerCommand, SourceAccess, Work, ledger_location
from jobs.cli.console import table
from jobs.cli.options import Place, argument, option, shared
from jobs.core.display import shown, shown_key
from jobs.core.model import Location
from jobs.errors import REFUSALS, ConfigError, DamagedArchive, ExitCode, LaterArchive, LedgerError, NotFound, UsageError
from jobs.reports.document import iso_time
from jobs.s3.retries import gather_bounded
from jobs.s3.sessions import open_side, open_store, side_store
from jobs.s3.store import Store

if TYPE_CHECKING:
    from jobs.archives.index import ArchiveIndex, Damage

_ARCHIVE = ("location", "source_bucket", "members", "member_bytes", "size_bytes", "storage_class", "created_at")
_MEMBER = ("version_id", "size_bytes", "last_modified")
REINDEXED_AT_ONCE = 8


class _IndexCommand(SourceAccess, LedgerCommand):
    """A command that asks the index of archives."""

    source: Location | None = shared(
        "source", "Only archives below this. Default: all in the buckets that the index knows."
    )

    def run(self) -> Work:
        from jobs.archives.index import ArchiveIndex

        store = open_store(None, None, None, max_in_flight=LOOKS_AT_ONCE)
        return self.ask(ArchiveIndex(store, ledger_location(self.ledger)))

    @abstractmethod
    async def ask(self, index: ArchiveIndex) -> Answer: ...

    async def records(self, index: ArchiveIndex) -> tuple[list[ArchiveRecord], Damage]:
        """The records of the index below the source, and why the index cannot be trusted.

        The archive itself may be `lost`: gone, or another object is in its place. `unlisted` is a place that
        cannot be listed.
        """
        problems: Damage = []
        records = await index.records(self.source, problems)
        indexed = {*(each.location for each in records), *(each.archive for each in problems)}
        buckets = sorted({each.bucket for each in indexed})
        for side in map(self.source_side, [self.source] if self.source else map(Location, buckets)):
            async with side_store(side) as store:
                etags = await etags_of_archives(store, side.location)
                if etags is None:
                    why = "check the name, or allow s3:ListBucket"
                    problems.append(DamagedIndex(side.location, why, code="unlisted"))
                    continue
                problems += await find_unindexed(store, index, etags.keys() - indexed)
                here = [each for each in records if each.location.bucket == side.location.bucket]
                problems += await _find_lost(store, [each for each in here if etags.get(each.location) != each.etag])
        return records, problems


class ListArchives(_IndexCommand):
    """The archives that the index knows, or the members of ARCHIVE.

    ARCHIVE is the URI of an archive. Without it all archives are listed. Exit code 3 if the index
    of an archive is damaged or missing, or its archive is gone or was replaced. So that such an
    archive is noticed, the places of the archives are listed.
    """

    archive: Location | None = argument(type=Place, required=False)
    prefix: str | None = option("Of an archive: only members whose keys begin with this.")
    limit: int = shared("limit", "Of an archive: only the first N members.")

    def run(self) -> Work:
        """Check that the options go together."""
        if self.archive is None and self.prefix:
            raise UsageError("--prefix chooses members of one archive", advice="name the archive, or give --source")
        if self.archive is not None and self.source is not None:
            raise UsageError("ARCHIVE and --source exclude each other", advice="give one of them")
        return super().run()

    async def ask(self, index: ArchiveIndex) -> Answer:
        """The archives, or the members of one."""
        if self.archive is not None:
            return await self._members(index, self.archive)
        records, problems = await self.records(index)
        below = f" below {self.source}" if self.source else ""
        shown = [each.to_dict() for each in records]
        text = table(shown, _ARCHIVE) if shown else f"no archives{below} in the index of {index.location}"
        return _answer({"archives": shown}, text, problems)

    async def _members(self, index: ArchiveIndex, archive: Location) -> Answer:
        record = await index.record(archive)
        if record is None:
            raise LedgerError(
                f"the index of {index.location} does not know {archive}",
                advice="see `sealift archives list`, or run `sealift archives reindex`",
            )
        members: list[Member] = []
        async with aclosing(index.members(archive, self.prefix or "")) as parts:
            async for part in parts:
                members += part[: self.limit - len(members)]
                if len(members) >= self.limit:
                    break
        document = record.to_dict() | {"shown": [_document(each) for each in members]}
        return Answer(document, f"{table([document], _ARCHIVE)}\n\n{table(document['shown'], ('key', *_MEMBER))}")


class FindMember(_IndexCommand):
    """Every archived version of a key, the newest first.

    KEY is a whole key, without its bucket. `archives list ARCHIVE` lists keys.

    Exit code 3 if no archive has the key, or only archives that are gone or were replaced. Where
    the index of an archive is damaged or missing, the exit code is 3 if another archive has the
    key, and 10 if none is known to have it. So that such an archive is noticed,
    the places of the archives are listed.
    """

    key: str = argument()

    async def ask(self, index: ArchiveIndex) -> Answer:
        """The archives that have the key."""
        records, problems = await self.records(index)
        if not records and not problems and self.source is None:
            raise LedgerError(f"the index of {index.location} has no archives", advice="name their place with --source")
        members = await index.find(self.key, records, problems)
        holders = {each.record.location for each in members}
        problems = [each for each in problems if each.code != "lost" or each.archive in holders]
        is_found = bool(holders - {each.archive for each in problems})
        is_known = all(each.code == "lost" for each in problems)
        nowhere = "no archive has the key" if is_known else "it is not known whether an archive has the key"
        found = [_document(each.member) | {"archive": str(each.record.location)} for each in members]
        text = table(found, ("archive", *_MEMBER, "sha256")) if found else f"{nowhere} '{shown_key(self.key)}'"
        codes = ExitCode.CONFIG, ExitCode.FINDINGS, ExitCode.DONE
        return _answer({"key": self.key, "found": found}, text, problems)._replace(code=codes[is_found + is_known])


class Reindex(_IndexCommand):
    """Rebuild what is missing in the index, from the archives.

    Lists the archives. If the index of one is missing or unreadable, reads the index inside the
    archive (three requests). Exit code 3 if that is damaged or cut off, or the archive must be
    thawed first. What is whole of a damaged archive, docs/read_archive.py reads without an index.
    """

    source: Location = shared("source", "Where the archives are.", required=True)

    async def ask(self, index: ArchiveIndex) -> Answer:
        """What was indexed, and what cannot be."""
        store = open_side(self.source_side(self.source))
        locations = [location async for location, _ in list_archives(store, self.source)]
        if not locations:
            raise ConfigError(f"no archive is below {self.source}", advice="check bucket and prefix (--source)")
        indexed: list[str] = []
        problems: Damage = []

        async def renew(location: Location) -> None:
            try:
                if await _renew(index, store, location):
                    indexed.append(str(location))
            except (DamagedArchive, *REFUSALS) as error:
                if not isinstance(error, DamagedArchive) and not error.target.startswith(str(location)):
                    raise  # the ledger's refusal is about all archives
                problems.append(DamagedIndex(location, str(error), code="unreadable"))

        await gather_bounded(renew, locations, REINDEXED_AT_ONCE)
        known = len(locations) - len(indexed) - len(problems)
        text = f"{known:,} archives were indexed already, {len(indexed):,} are now, {len(problems):,} cannot be."
        return _answer({"known": known, "indexed": indexed}, text, problems)


async def _find_lost(store: Store, records: Sequence[ArchiveRecord]) -> Damage:
    """Archives that are gone in their own version, which a restore reads below a newer object as well."""

    async def look(record: ArchiveRecord) -> DamagedIndex | None:
        with suppress(*REFUSALS):  # it may not be looked at
            if await find_archive(store, record) is None:
                return DamagedIndex(record.location, "it is gone, or another object is in its place", code="lost")
        return None

    return [lost for lost in await gather_bounded(look, records, LOOKS_AT_ONCE) if lost]


def _answer(document: dict[str, Any], text: str, problems: Damage) -> Answer:
    """The answer with the problems, and what to do."""
    lines = [text, *(f"{each.code}: {shown(str(each.archive))}: {each.reason}" for each in problems)]
    buckets = sorted({each.archive.bucket for each in problems if each.code in ("damaged", "missing")})
    lines += [f"rebuild these with: sealift archives reindex --source s3://{each}" for each in buckets]
    document["problems"] = [
        {"code": each.code, "archive": str(each.archive), "problem": each.reason} for each in problems
    ]
    return Answer(document, "\n".join(lines), ExitCode.FINDINGS if problems else ExitCode.DONE)


async def _renew(index: ArchiveIndex, store: Store, location: Location) -> bool:
    """Index an archive by the index inside it. False: it is indexed already.

    What cannot be read leaves the ledger's index as it is. An archive that was copied over itself
    is a new version, which the index does not name.
    """
    etag = await index.etag(location)
    try:
        earlier = await index.record(location)
        async with aclosing(index.members(location)) as parts:
            async for _ in parts:  # reading all of it shows any damage
                pass
    except LaterArchive:
        raise
    except (DamagedArchive, NotFound):
        earlier = None
    if earlier is not None and not earlier.incomplete and await find_archive(store, earlier) is not None:
        return False
    await index.adopt(store, location, etag, earlier)
    return True


def _document(member: Member) -> dict[str, Any]:
    checksums = {each.algorithm: each.value for each in member.checksums}
    return member._asdict() | {"checksums": checksums, "last_modified": iso_time(member.last_modified)}


COMMANDS = {"list": ListArchives, "find": FindMember, "reindex": Reindex}
