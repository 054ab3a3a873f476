"""Keys that are not as keys usually are."""

from __future__ import annotations

import unicodedata
from collections.abc import Awaitable

import pytest

from jobs.core.model import ObjectRef
from jobs.errors import NotFound, Rejected
from jobs.s3.store import ABSENT, UNGUARDED, CopySettings
from tests.s3.contract.checks import PLAIN, RICH, Subject, contract, md5_of

ODD_KEYS = (
    "with spaces  two ",
    "a+b",
    "100%",
    "%41%2F",
    "q?a=b&c=d#e",
    "ampersand&<tag>\"'",
    unicodedata.normalize("NFC", "café/é"),
    unicodedata.normalize("NFD", "café/é"),
    "\U0001f6a2/港",
    "line\nbreak",
    "carriage\rreturn",
    "tab\tand\x01control\x7f",
    "/leading",
    "a//b",
    "a/../b",
    "./dot",
    "trailing/",
    "back\\slash",
    "~tilde*(paren)!",
    "x" * 1024,
    "é" * 512,
)


@contract(*ODD_KEYS)
async def test_an_odd_key_makes_the_round_trip(s: Subject, case: str) -> None:
    bucket = s.bucket(versioned=True)
    ref = await s.put(bucket, case, b"content", RICH)
    assert (await s.store.get(ref)).data == b"content"
    await s.store.copy(ref, md5_of(b"content"), bucket, "copy", CopySettings(), guard=ABSENT)
    assert await s.read(bucket, "copy") == b"content"
    await s.store.delete(bucket, "copy")
    await s.store.copy(ref, None, bucket, case, CopySettings(storage_class="STANDARD_IA"), guard=UNGUARDED)
    assert [entry.key for entry in (await s.store.list_objects(bucket, "")).entries] == [case]
    assert [entry.key for entry in (await s.store.list_versions(bucket, case)).entries] == [case, case]
    assert await s.store.get_tags(ref) == RICH.tags
    await s.store.delete(bucket, case)
    with pytest.raises(NotFound):
        await s.store.head(ObjectRef(bucket, case))


@contract()
async def test_nfc_and_nfd_are_two_keys(s: Subject) -> None:
    bucket = s.bucket()
    for form in ("NFC", "NFD"):
        await s.put(bucket, unicodedata.normalize(form, "é"), form.encode())
    assert await s.read(bucket, unicodedata.normalize("NFC", "é")) == b"NFC"
    assert len((await s.store.list_objects(bucket, "")).entries) == 2


@contract()
async def test_a_key_of_more_than_1024_bytes_is_refused(s: Subject) -> None:
    bucket = s.bucket()
    with pytest.raises(Rejected):
        await s.put(bucket, "x" * 1025)


@contract()
async def test_an_object_without_a_key_is_refused_and_its_bucket_stays(s: Subject) -> None:
    """Its address is the bucket's: a PUT there makes a bucket, and a DELETE removes it."""
    bucket = s.bucket(versioned=True)
    ref, none = await s.put(bucket, "k", b"content"), ObjectRef(bucket, "")
    asked: list[Awaitable[object]] = [
        s.store.head(none),
        s.store.get(none),
        s.store.put(bucket, "", b"content", PLAIN, guard=UNGUARDED),
        s.store.copy(ref, None, bucket, "", CopySettings(), guard=UNGUARDED),
        s.store.create_multipart(bucket, "", PLAIN),
        s.store.delete(bucket, ""),
        s.store.delete(bucket, "", version_id="null"),
    ]
    for each in asked:
        with pytest.raises(Rejected):
            await each
    assert await s.read(bucket, "k") == b"content"
