"""Checksums piece by piece are checksums of the whole; known values are S3's own spelling."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.s3.checksums import ALGORITHMS, Hasher, full_object


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(pieces=st.lists(st.binary(max_size=50), max_size=5))
def test_pieces_add_up(algorithm: str, pieces: list[bytes]) -> None:
    hasher = Hasher(algorithm)
    for piece in pieces:
        hasher.update(piece)
    assert hasher.spelled() == f"{algorithm}:{full_object(algorithm, b''.join(pieces)).value}"


@pytest.mark.parametrize(
    ("algorithm", "hexadecimal"),
    [("CRC32", "cbf43926"), ("CRC32C", "e3069283"), ("CRC64NVME", "ae8b14860a799888")],
)
def test_the_check_values_of_the_crcs(algorithm: str, hexadecimal: str) -> None:
    assert base64.b64decode(full_object(algorithm, b"123456789").value).hex() == hexadecimal


@pytest.mark.parametrize("algorithm", ["CRC16", "XXHASH128", ""])
def test_an_unknown_algorithm_is_no_silent_zero(algorithm: str) -> None:
    with pytest.raises((KeyError, ValueError)):
        Hasher(algorithm)
