"""What S3 computed at rest is proof of one object only, and a damaged object is found by it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jobs.core.model import Checksum, ObjectInfo
from jobs.verify.attestation import Attestation, attested, parse_attestations

CRC = Checksum("CRC32", "bS9TOQ==")


def info(etag: str = "e-2", version: str | None = None, modified: float = 10.0, *checksums: Checksum) -> ObjectInfo:
    return ObjectInfo(5, etag, modified, version, "STANDARD", checksums)


def test_the_table_of_attested() -> None:
    by_version, by_etag = Attestation(CRC, "v1"), Attestation(CRC, None, "e-2")
    table = [
        (by_version, info(version="v1", modified=99.0), True),
        (by_version, info(version="v2"), False),
        (by_version, info(), False),
        (by_etag, info(etag="e-3"), False),
        (by_etag, info(modified=20.5), False),
        (by_etag, info(modified=20.0), True),
        (by_etag, info(version="v9"), True),
    ]
    for attestation, there, is_true in table:
        assert attested(there, [attestation], 20.0) == ((CRC,) if is_true else ()), (attestation, there)


words = st.from_regex(r"[A-Za-z0-9+/=_.\-]{1,20}", fullmatch=True)


@given(
    st.lists(
        st.builds(Attestation, st.builds(Checksum, words, words, st.booleans()), words, st.none())
        | st.builds(Attestation, st.builds(Checksum, words, words, st.booleans()), st.none(), words)
    )
)
def test_what_is_spelled_is_parsed(attestations: list[Attestation]) -> None:
    assert parse_attestations(" ".join(each.spelled() for each in attestations)) == attestations


@given(st.text() | st.none())
def test_what_is_no_attestation_attests_nothing_and_breaks_nothing(text: str | None) -> None:
    assert all(each.version_id or each.etag for each in parse_attestations(text))
