"""What S3 computed at rest is proof of one object only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.core.model import Checksum, ObjectInfo
from jobs.verify.attestation import attested

CRC = Checksum("CRC32", "bS9TOQ==")
REPORT = {"computed_at": 20.0}
TEXT = "CRC32:FULL_OBJECT:bS9TOQ==:"


def info(etag: str = "e-2", version: str | None = None, modified: float = 10.0) -> ObjectInfo:
    return ObjectInfo(5, etag, modified, version, "STANDARD")


@pytest.mark.parametrize(
    ("pin", "there", "is_true"),
    [
        ("version=v1", info(version="v1", modified=99.0), True),
        ("version=v1", info(version="v2"), False),
        ("version=v1", info(), False),
        ("etag=e-2", info(etag="e-3"), False),
        ("etag=e-2", info(modified=20.5), False),
        ("etag=e-2", info(modified=20.0), True),
        ("etag=e-2", info(version="v9"), True),
    ],
)
def test_a_checksum_is_true_of_the_object_that_was_read(pin: str, there: ObjectInfo, is_true: bool) -> None:
    assert attested(there, TEXT + pin, REPORT) == ((CRC,) if is_true else ())


def test_all_that_a_text_says_counts() -> None:
    text = f"{TEXT}version=v1 SHA1:COMPOSITE:x-2:etag=e-2 SHA256:FULL_OBJECT:y:version=v2"
    assert attested(info(version="v1"), text, REPORT) == (CRC, Checksum("SHA1", "x-2", is_composite=True))


@given(st.text() | st.none())
def test_what_is_no_attestation_attests_nothing_and_breaks_nothing(text: str | None) -> None:
    assert attested(info(), text, REPORT) == ()
