"""What a restore would send of a member: a fixed list of headers, and nothing that could add one."""

from __future__ import annotations

import pytest

from jobs.archives.member_attributes import member_defect
from jobs.core.model import Checksum
from tests.archives.samples import member


def test_a_usual_member_has_no_defect() -> None:
    usual = {
        "headers": {"content-type": "text/plain"},
        "metadata": {"a": "b"},
        "tags": {"a": ""},
        "checksums": (Checksum("SHA256", "YQ=="),),
    }
    assert member_defect(member("k", b"x", None, **usual)) == ""


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"headers": {"x-amz-copy-source": "/other/secret"}}, "'x-amz-copy-source' of an object"),
        ({"headers": {"x-amz-acl": "public-read"}}, "'x-amz-acl' of an object"),
        ({"headers": {"content-type": "a\r\nx-amz-copy-source: /other/secret"}}, "line break"),
        ({"headers": ["content-type"]}, "not a map of texts"),
        ({"metadata": {"a: b\r\nx-amz-copy-source: /other/secret\r\nx": "y"}}, "not a name of metadata"),
        ({"metadata": {"a": "b\nx-amz-acl: public-read"}}, "line break"),
        ({"metadata": {"a": 1}}, "not a map of texts"),
        ({"tags": {"a": None}}, "not a map of texts"),
        ({"checksums": (Checksum("SHA256", "a\r\nx-amz-acl: public-read"),)}, "not a checksum"),
        ({"storage_class": "GLACIER\r\nx-amz-acl: public-read"}, "not a storage class"),
        ({"sha256": "zz"}, "not a SHA-256"),
        ({"offset": -1}, "not a number of bytes"),
    ],
)
def test_a_member_that_asks_for_more_than_itself_has_a_defect(change: dict[str, object], says: str) -> None:
    assert says in member_defect(member("k", b"x", None, **change))
