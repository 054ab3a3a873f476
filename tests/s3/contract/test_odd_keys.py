"""Keys that are not as keys usually are."""

from __future__ import annotations

import unicodedata
from collections.abc import Awaitable

import pytest

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


@contract(*ODD_KEYS, versioned=True)
async def test_an_odd_key_makes_the_round_trip(s: Subject, case: str) -> None:
    ref = await s.put(case, b"content", RICH)
    assert (await s.store.get(ref)).data == b"content"
    await s.store.copy(ref, md5_of(b"content"), s.ref("copy"), CopySettings(), guard=ABSENT)
    assert await s.read("copy") == b"content"
    await s.store.delete(s.ref("copy"))
    await s.store.copy(ref, None, s.ref(case), CopySettings(storage_class="STANDARD_IA"), guard=UNGUARDED)
    assert [entry.key for entry in (await s.store.list_objects(s.bucket, "")).entries] == [case]
    assert [entry.key for entry in (await s.store.list_versions(s.bucket, case)).entries] == [case, case]
    assert await s.store.get_tags(ref) == RICH.tags
    await s.store.delete(s.ref(case))
    with pytest.raises(NotFound):
        await s.store.head(s.ref(case))


@contract()
async def test_nfc_and_nfd_are_two_keys(s: Subject) -> None:
    for form in ("NFC", "NFD"):
        await s.put(unicodedata.normalize(form, "é"), form.encode())
    assert await s.read(unicodedata.normalize("NFC", "é")) == b"NFC"
    assert len((await s.store.list_objects(s.bucket, "")).entries) == 2


@contract()
async def test_a_key_of_more_than_1024_bytes_is_refused(s: Subject) -> None:
    with pytest.raises(Rejected):
        await s.put("x" * 1025)


@contract(versioned=True)
async def test_an_object_without_a_key_is_refused_and_its_bucket_stays(s: Subject) -> None:
    """Its address is the s.bucket's: a PUT there makes a s.bucket, and a DELETE removes it."""
    ref, none = await s.put("k", b"content"), s.ref("")
    asked: list[Awaitable[object]] = [
        s.store.head(none),
        s.store.get(none),
        s.store.put(s.ref(""), b"content", PLAIN, guard=UNGUARDED),
        s.store.copy(ref, None, s.ref(""), CopySettings(), guard=UNGUARDED),
        s.store.create_multipart(s.ref(""), PLAIN),
        s.store.delete(s.ref("")),
        s.store.delete(s.ref("", "null")),
    ]
    for each in asked:
        with pytest.raises(Rejected):
            await each
    assert await s.read("k") == b"content"
