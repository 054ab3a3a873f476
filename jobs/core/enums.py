"""Closed lists of words: storage classes, modes, formats, steps.

Those of S3 have S3's spelling.
"""

from __future__ import annotations

from enum import StrEnum


class StorageClass(StrEnum):
    """Where S3 may keep an object, in the order in which lifecycle rules may move it:
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-class-intro.html
    """

    STANDARD = "STANDARD"
    STANDARD_IA = "STANDARD_IA"
    INTELLIGENT_TIERING = "INTELLIGENT_TIERING"
    ONEZONE_IA = "ONEZONE_IA"
    GLACIER_IR = "GLACIER_IR"
    GLACIER = "GLACIER"
    DEEP_ARCHIVE = "DEEP_ARCHIVE"


ARCHIVE_CLASSES = frozenset({StorageClass.GLACIER, StorageClass.DEEP_ARCHIVE})
"""The classes whose objects must be restored before they can be read. So must those in the archive
tiers of Intelligent-Tiering, which no listing shows.
"""


class Encryption(StrEnum):
    """Server-side encryption, in S3's own words."""

    S3 = "AES256"
    KMS = "aws:kms"
    KMS_TWICE = "aws:kms:dsse"


class AnnotationRule(StrEnum):
    """Whether copies get the annotations of their sources."""

    COPY = "copy"
    SKIP = "skip"


CHECK_ANNOTATIONS, SKIP_ANNOTATIONS = "check", "skip"
"""What a run that cannot copy annotations does: leave out objects that have some, or not check."""


class ArchiveFormat(StrEnum):
    """Plain tar, or tar in independent zstd frames."""

    TAR = "tar"
    TAR_ZST = "tar.zst"


class Step(StrEnum):
    """HIDE: a delete marker on top of the current version.

    Removing it undoes that. REMOVE: the version is gone.
    """

    HIDE = "hide"
    REMOVE = "remove"
