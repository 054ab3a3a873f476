"""Keys whose hot copy expired: an archive holds it, so nobody copies it again."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from jobs.core.reasons import Reason
from jobs.reconcile.rules import PACKED_UNPROVEN
from tests.doubles.packed_copies import packed_copies
from tests.inventory.samples import VERSIONS
from tests.reconcile.scene import OLD, compare, counts, differences, marker, read, row, version

packed = partial(packed_copies, at=OLD)
SOURCE = row("k", "content")
NOT_MD5, SINCE = {"etag": "e" * 32 + "-2"}, {"last_modified": OLD - 60}
CASES = [
    ("the same content", SOURCE, ("k", "content", {}), {}, "same"),
    ("other content of the same size", SOURCE, ("k", "CONTENT", {}), {}, "missing"),
    ("other size", SOURCE, ("k", "cont", {}), {}, "missing"),
    ("other content, as an upload in parts", SOURCE, ("k", "cont", NOT_MD5), {}, "missing"),
    ("unprovable", SOURCE, ("k", "content", NOT_MD5), {}, "unverifiable"),
    ("unprovable, and written since", SOURCE, ("k", "content", NOT_MD5 | SINCE), {}, "missing"),
    ("unprovable, by KMS", SOURCE, ("k", "CONTENT", {}), {"is_sealed": True}, "unverifiable"),
    ("by KMS, written since", SOURCE, ("k", "CONTENT", SINCE), {"is_sealed": True}, "missing"),
    ("the same content, sealed later", SOURCE, ("k", "content", {}), {"is_sealed": True}, "same"),
    ("without an ETag", SOURCE, ("k", "content", {"etag": None}), {}, "unverifiable"),
    ("without an ETag, and written since", SOURCE, ("k", "content", {"etag": None} | SINCE), {}, "missing"),
    ("equal parts", SOURCE | {"ETag": NOT_MD5["etag"]}, ("k", "content", NOT_MD5), {}, "unverifiable"),
    ("another key", SOURCE, ("l", "content", {}), {}, "missing"),
    ("of another bucket", SOURCE, ("k", "content", {}), {"bucket": "src"}, "missing"),
    ("in an archive that is gone", SOURCE, ("k", "content", {}), {"is_there": False}, "missing"),
]


@pytest.mark.parametrize(
    ("source", "member", "how", "expected"), [each[1:] for each in CASES], ids=[c[0] for c in CASES]
)
def test_a_key_is_missing_unless_an_archive_holds_its_copy(
    tmp_path: Path, source: Any, member: Any, how: dict[str, Any], expected: str
) -> None:
    found = compare(tmp_path, [source, row("there", "x")], [row("there", "x")], packed=packed(member, **how))
    assert counts(found) == ({"same": 2} if expected == "same" else {"same": 1, expected: 1})
    assert found.repairable_rows == len(read(found, "repair")) == int(expected == "missing")
    assert found.findings == int(expected == "missing")
    if expected == "unverifiable":
        assert differences(found) == {"k": ("unverifiable", f"{Reason.NOTHING_COMPARABLE}: {PACKED_UNPROVEN}")}
    elif expected == "same":
        assert found.unjudged == [{"reason": Reason.IN_ARCHIVE, "detail": "", "rows": 1}]


def test_the_delete_marker_that_expire_left_does_not_make_a_key_missing(tmp_path: Path) -> None:
    source = [version("k", "v1", "content"), version("l", "v2", "other")]
    hidden = [marker("k", "m1"), marker("l", "m2")]
    found = compare(tmp_path, source, hidden, packed=packed(("k", "content", {})), fields=VERSIONS)
    assert counts(found) == {"same": 1, "missing": 1}
