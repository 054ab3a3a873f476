"""Planted in archives: packing and their index, restores, verification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jobs.archives.index
import jobs.archives.reader
import jobs.compact.job
import jobs.compact.member_reader
import jobs.expire.job
import jobs.expire.rules
import jobs.expire.undo
import jobs.restore.as_of
import jobs.restore.member_writer
import jobs.s3.uploads
import jobs.verify.archives_job
from jobs.archives.model import ArchiveRecord, Member, describe
from jobs.archives.reader import MemberRead
from jobs.archives.tar_layout import Layout, Placed
from jobs.compact.job import Compact
from jobs.compact.member_reader import MemberSource
from jobs.compact.packing import archive_location
from jobs.core.model import Location, ObjectRef
from jobs.core.outcome import Evidence
from jobs.s3.byte_ranges import ByteBudget
from jobs.s3.store import UNGUARDED, Written
from jobs.s3.uploads import ObjectUpload
from jobs.verify.archives_job import VerifyArchives
from tests.simulation.bugs.bug import Bug, Replacements


class _Early:
    """An archive's writer that says it is done before the last request."""

    def __init__(self, writer: Any):
        self._writer = writer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    async def finish(self) -> Written:
        upload = self._writer.upload
        self._writer.upload = _Pretending(upload)
        try:
            return await self._writer.finish()
        finally:
            self._writer.upload = upload


class _Pretending:
    """An upload that is not finished."""

    def __init__(self, upload: ObjectUpload):
        self._upload = upload

    def __getattr__(self, name: str) -> Any:
        return getattr(self._upload, name)

    async def finish(self) -> Written:
        return Written("0" * 32)


def _index_first() -> Replacements:
    async def publish(self: Compact, writer: Any, archive: Location, lost_index: str | None) -> Any:
        early = _Early(writer)
        written = await early.finish()
        record = ArchiveRecord(
            archive, self.options.rule.format, writer.upload.size_bytes, written.etag, None, "STANDARD",
            writer.members, writer.member_bytes, writer.first_key, writer.last_key, self.route.source.bucket, 0.0,
        )  # fmt: skip
        writer.index_file.seek(0)
        published = await self.index.publish(record, writer.index_file)
        await writer.upload.finish()
        return published

    return [(Compact, "_publish", publish)]


def _offset_of_the_padding() -> Replacements:
    real = Layout._place

    def place(self: Layout, member: Member, header: bytes) -> Placed:
        placed = real(self, member, header)
        return placed._replace(member=placed.member._replace(offset=placed.member.offset + 1))

    return [(Layout, "_place", place)]


def _adopt_by_name() -> Replacements:
    async def find_same(self: Compact, writer: Any, archive: Location, error: Exception) -> Written:
        info = await self.destination.head(ObjectRef(*archive))
        return Written(info.etag, info.version_id, info.checksums)

    return [(Compact, "_find_same", find_same)]


def _one_name_for_all() -> Replacements:
    def location(archives: Location, bucket: str, rows: Sequence[Any], *asked: Any) -> Location:
        return archive_location(
            archives, bucket, [row._replace(etag=None, size_bytes=0, last_modified=None) for row in rows[:1]], *asked
        )

    return [(jobs.compact.job, "archive_location", location)]


def _pack_the_latest() -> Replacements:
    return [(MemberSource, "ref", lambda self, row: ObjectRef(self.bucket, row.key))]


def _no_read_guard() -> Replacements:
    real = MemberSource._fetch

    async def fetch(self: MemberSource, row: Any) -> Any:
        return await real(self, row._replace(etag=None))

    return [(MemberSource, "_fetch", fetch)]


def _no_tags() -> Replacements:
    return [(jobs.compact.member_reader, "describe", lambda row, info, tags, sha256: describe(row, info, {}, sha256))]


def _tags_of_the_latest() -> Replacements:
    real = MemberSource._fetch

    class Latest:
        def __init__(self, store: Any):
            self._store = store

        def __getattr__(self, name: str) -> Any:
            return getattr(self._store, name)

        async def get_tags(self, ref: ObjectRef) -> Any:
            return await self._store.get_tags(ref._replace(version_id=None))

    async def fetch(self: MemberSource, row: Any) -> Any:
        latest = MemberSource(Latest(self.store), self.bucket, self.budget, self.pace, self.tags, self.clock)
        return await real(latest, row)

    return [(MemberSource, "_fetch", fetch)]


def _leave_parts() -> Replacements:
    async def abort(self: ObjectUpload) -> None:
        for task in self._running:
            task.cancel()

    return [(ObjectUpload, "abort", abort)]


def _write_over_archives() -> Replacements:
    def careless(
        store: Any, bucket: str, key: str, attributes: Any, part_bytes: int, guard: Any = None, **options: Any
    ) -> ObjectUpload:
        return ObjectUpload(store, bucket, key, attributes, part_bytes, UNGUARDED, **options)

    places: list[Any] = [jobs.s3.uploads, jobs.archives.index, jobs.restore.member_writer]
    return [(place, "ObjectUpload", careless) for place in places]


def _restore_unproven() -> Replacements:
    def judge(member: Member, content: bytes) -> MemberRead:
        return MemberRead(member, content, Evidence.CHECKSUM)

    return [
        (jobs.archives.reader, "judge", judge),
        (jobs.restore.member_writer, "_carried_checksum", lambda member: None),
    ]


def _restore_over() -> Replacements:
    return [(jobs.restore.member_writer, "ABSENT", UNGUARDED)]


def _restore_without_metadata() -> Replacements:
    real = jobs.restore.member_writer.MemberWriter._attributes

    def attributes(self: Any, member: Member) -> Any:
        return real(self, member._replace(metadata={}))

    return [(jobs.restore.member_writer.MemberWriter, "_attributes", attributes)]


def _in_the_way_is_same() -> Replacements:
    async def compare(self: Any, there: Any, member: Member, md5: str | None) -> Evidence:
        return Evidence.CHECKSUM

    return [(jobs.restore.member_writer.MemberWriter, "_compare", compare)]


def _history_without_archives() -> Replacements:
    return [(jobs.restore.as_of, "merge", lambda listed, archived: list(listed))]


def _verify_skips_the_first() -> Replacements:
    real = VerifyArchives._read

    async def read(self: VerifyArchives, record: Any, members: Sequence[Member]) -> dict[int, MemberRead]:
        skipped = MemberRead(members[0], None, Evidence.CHECKSUM)
        return {id(members[0]): skipped} | await real(self, record, members[1:])

    return [(VerifyArchives, "_read", read)]


def _verify_believes() -> Replacements:
    def judge(member: Member, content: bytes) -> MemberRead:
        return MemberRead(member, content, Evidence.CHECKSUM)

    return [(jobs.archives.reader, "judge", judge)]


def _no_budget() -> Replacements:
    return [(ByteBudget, "try_acquire", lambda self, size_bytes: 0)]


BUGS = [
    Bug("index-first", "an index is there before its archive", 400, _index_first, "archives"),
    Bug("wrong-offset", "the index says where the next byte is", 400, _offset_of_the_padding, "archives"),
    Bug("adopt-by-name", "whatever has an archive's name is the archive", 2000, _adopt_by_name, "archives"),
    Bug("one-name-for-all", "an archive's name does not tell its members", 2000, _one_name_for_all, "archives"),
    Bug("pack-the-latest", "the current version is packed for an older one", 400, _pack_the_latest, "archives"),
    Bug("pack-unpinned", "what is packed is not pinned by its ETag", 400, _no_read_guard, "archives"),
    Bug("pack-no-tags", "members have no tags", 400, _no_tags, "archives"),
    Bug("tags-of-the-latest", "members have the tags of a newer version", 400, _tags_of_the_latest, "archives"),
    Bug("leave-parts", "uploads of archives are not aborted", 400, _leave_parts, "archives"),
    Bug("write-over-archives", "archives are written without a condition", 400, _write_over_archives, "archives"),
    Bug("restore-unproven", "a member's bytes are not hashed", 1000, _restore_unproven, "archives"),
    Bug("restore-over", "a restore writes without If-None-Match", 600, _restore_over, "archives"),
    Bug("restore-bare", "a restore forgets the metadata", 400, _restore_without_metadata, "archives"),
    Bug("in-the-way-is-same", "whatever is at the key is the member", 2000, _in_the_way_is_same, "archives"),
    Bug("history-without-archives", "what expire removed never was", 400, _history_without_archives, "archives"),
    Bug("verify-skips-a-member", "the first member is not read", 400, _verify_skips_the_first, "archives"),
    Bug("archives-no-budget", "archives are read without the byte budget", 400, _no_budget, "archives"),
    Bug("verify-believes", "members are called intact without a hash", 1000, _verify_believes, "archives"),
]
