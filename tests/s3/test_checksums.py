"""Checksums piece by piece are checksums of the whole; known values are S3's own spelling."""

import base64

import pytest
from botocore import httpchecksum
from hypothesis import given
from hypothesis import strategies as st

from jobs.core.algorithms import ALGORITHMS, Protection, protects
from jobs.core.model import Attributes, ObjectInfo
from jobs.core.outcome import Evidence
from jobs.s3.checksums import ContentCheck, Hasher, combine, full_object

BOTOCORES = vars(httpchecksum)["_CHECKSUM_CLS"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(pieces=st.lists(st.binary(max_size=50), max_size=5))
def test_pieces_add_up(algorithm: str, pieces: list[bytes]) -> None:
    hasher = Hasher(algorithm)
    for piece in pieces:
        hasher.update(piece)
    assert hasher.checksum == full_object(algorithm, b"".join(pieces))


def test_all_algorithms_of_s3_are_computed() -> None:
    """botocore sends an MD5 that it is given, and makes none."""
    assert set(ALGORITHMS) == {"MD5", *(name.upper() for name in BOTOCORES)}


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS.keys() - {"MD5"}))
@given(data=st.binary(max_size=300))
def test_botocore_computes_the_same(algorithm: str, data: bytes) -> None:
    assert full_object(algorithm, data).value == BOTOCORES[algorithm.lower()]().handle(data)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_other_bytes_than_those_of_a_stored_checksum_are_refuted(algorithm: str) -> None:
    info = ObjectInfo(4, "e-2", 0.0, None, "STANDARD", (full_object(algorithm, b"data"),), Attributes())
    right, wrong = ContentCheck(info), ContentCheck(info)
    right.update(b"data")
    wrong.update(b"dato")
    assert (right.is_refuted, wrong.is_refuted) == (False, True)
    assert (right.evidence is Evidence.CHECKSUM) == protects(algorithm, Protection.INTENT)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_digest_has_the_bytes_that_the_table_says(algorithm: str) -> None:
    assert len(base64.b64decode(full_object(algorithm, b"data").value)) == ALGORITHMS[algorithm].digest_bytes


@pytest.mark.parametrize("algorithm", [each.name for each in ALGORITHMS.values() if each.is_combinable])
@given(pieces=st.lists(st.binary(max_size=50), min_size=1, max_size=5))
def test_parts_are_combined_to_the_whole(algorithm: str, pieces: list[bytes]) -> None:
    parts = [(len(piece), full_object(algorithm, piece)) for piece in pieces]
    assert combine(parts) == full_object(algorithm, b"".join(pieces))


@pytest.mark.parametrize("algorithm", ["CRC16", "XXHASH32", ""])
def test_an_unknown_algorithm_is_no_silent_zero(algorithm: str) -> None:
    with pytest.raises((KeyError, ValueError)):
        Hasher(algorithm)
