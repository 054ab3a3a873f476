"""A version of one side, and all that is known of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

from msgspec import Struct

from jobs.core.evidence import Verdict
from jobs.core.model import ObjectInfo
from jobs.core.outcome import Outcome, Status
from jobs.core.reasons import Reason


class End(NamedTuple):
    """How a version ended, or why it cannot be copied. `detail`: the one fact of the reason."""

    status: Status
    reason: Reason | None = None
    detail: str = ""


class Edge(IntEnum):
    """Whether a copy is of a source version. UNASKED: nobody has compared the two yet."""

    NO = 0
    UNASKED = 1
    UNKNOWN = 2
    SAME = 3


class Compared(NamedTuple):
    """What a comparison of two versions showed, with the content's checksum, if it is known."""

    edge: Edge
    verdict: Verdict | None = None
    checksum: str | None = None

    @classmethod
    def of(cls, verdict: Verdict, checksum: str | None = None) -> Compared:
        """From a verdict."""
        edge = Edge.UNKNOWN if verdict.same is None else Edge.SAME if verdict.same else Edge.NO
        return cls(edge, verdict, checksum)


class Version(Struct, eq=False):
    """One version or delete marker of one side. All looks of a call show it as this one object.

    `at`: S3's date, epoch seconds. `place`: in its history. `info`, `tags`: as S3 said them.
    Of a source version: `compared`: copy → what a comparison showed. `blocked`: why it cannot be copied
    now. `is_doubted`: see `jobs.sync.edges.rivals`. `is_open`: an event had no comparison left for what may
    be its copy. `copied`: the outcome of this call's copy of it. `refusal`: why a comparison failed.
    Of a copy: `blocked`: why it cannot be read. `owner`: the version that this call made it of, `NOBODY` if
    that is none.
    """

    version_id: str | None
    is_marker: bool
    size_bytes: int | None
    etag: str | None
    at: float
    storage_class: str | None = None
    place: int = -1
    info: ObjectInfo | None = None
    tags: Mapping[str, str] | None = None
    compared: dict[Version, Compared] = {}
    blocked: End | None = None
    is_doubted: bool = False
    is_open: bool = False
    copied: Outcome | None = None
    refusal: End | None = None
    owner: Version | None = None


NOBODY = Version(None, False, None, None, 0.0)
"""The source version of a copy that this call made, and that is no version's copy."""
