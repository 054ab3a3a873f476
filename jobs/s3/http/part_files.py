"""Parts in files: parts of an object that are too large to be held in memory.

A file has no name, so that nothing is left of it when a worker is killed. It lies where `TMPDIR`
says.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Self

from jobs.core.model import Checksum

PIECE_BYTES = 256 * 1024
FILES_AT_ONCE = 2
"""Of one object: a part is sent while the next one comes."""


class PartFile:
    """A part's bytes, written once and then sent as often as it takes. Raises OSError."""

    def __init__(self) -> None:
        self._file: io.BufferedRandom = tempfile.TemporaryFile(prefix="sealift-part-")  # noqa: SIM115  the object is the context
        self._sha256 = hashlib.sha256()
        self._size_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self._size_bytes

    def __bytes__(self) -> bytes:
        return b"".join(self.pieces())

    def write(self, data: bytes) -> None:
        """The next bytes."""
        self._file.write(data)
        self._sha256.update(data)
        self._size_bytes += len(data)

    def close_writing(self) -> None:
        """Nothing is written afterwards."""
        self._file.flush()

    def sha256(self) -> bytes:
        """The SHA-256 of what was written."""
        return self._sha256.digest()

    def checksum(self) -> Checksum:
        """The same, as S3 spells it."""
        return Checksum("SHA256", base64.b64encode(self.sha256()).decode())

    def pieces(self) -> Iterator[bytes]:
        """The bytes from the first one on. Several callers may read at once. Raises OSError."""
        for start in range(0, self._size_bytes, PIECE_BYTES):
            size_bytes = min(PIECE_BYTES, self._size_bytes - start)
            piece = os.pread(self._file.fileno(), size_bytes, start)
            if len(piece) != size_bytes:
                raise OSError(f"the file of a part ends after {start + len(piece)} of {self._size_bytes} bytes")
            yield piece

    def open(self) -> io.BufferedRandom:
        """The bytes as a file to read from its beginning."""
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        """Remove the file."""
        self._file.close()


Content = bytes | PartFile
"""What a part is sent from."""


def free_bytes() -> int:
    """The largest part that fits into the folder of part files now, with the next one beside it."""
    return shutil.disk_usage(tempfile.gettempdir()).free // FILES_AT_ONCE
