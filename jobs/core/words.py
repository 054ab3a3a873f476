"""Words: what people read of a `Reason`. Nothing here is compared, and nothing else words a reason.

Reports, pages, the terminal and CSV files say `explained(reason, detail)`. `query`, `--json` and
Parquet have the codes. A snapshot in the tests shows every sentence.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from jobs.core.outcome import Status
from jobs.core.reasons import Reason


class Words(NamedTuple):
    """What is said of one reason, and what to do.

    The outcome's detail follows `text` in parentheses. `cases`: what is said instead where the detail
    is one of these words.
    """

    text: str
    advice: str = ""
    cases: Mapping[str, str] = MappingProxyType({})


_MEND_SOURCE = "compare it with the copy, and restore the source from what is right"

WORDS: Mapping[Reason, Words] = {
    Reason.SOURCE_GONE: Words("the source no longer has it"),
    Reason.SOURCE_REPLACED: Words(
        "the source is not the object that the manifest names",
        "make a new manifest",
        cases={"packed": "it was written again after it was packed: compact it again"},
    ),
    Reason.SOURCE_CHANGED: Words("it changed while it was read", "take it again"),
    Reason.ARCHIVED: Words("it must be restored from its archive class first"),
    Reason.NEWEST_ARCHIVED: Words(
        "the newest version must be restored from its archive class first: it could not be put back on top"
    ),
    Reason.TOO_LARGE: Words("it is too large"),
    Reason.TOO_SLOW: Words("there was no time left for it"),
    Reason.NO_PAIR: Words("no pair of the policy has it", "add a pair, or stop the notifications of its bucket"),
    Reason.DAMAGED: Words("the source is damaged: its bytes are not those that S3 keeps a checksum of", _MEND_SOURCE),
    Reason.FOUND_DAMAGED: Words(
        "a verify run found the source damaged, and nothing proves that it is right now", _MEND_SOURCE
    ),
    Reason.BOTH_DAMAGED: Words("source and copy are damaged: S3 keeps a checksum of other bytes", _MEND_SOURCE),
    Reason.EITHER_DAMAGED: Words(
        "source and copy differ, and nothing shows which is wrong: S3 keeps a checksum of the copy alone",
        "compare both, then restore the source from what is right, or replace the copy with --overwrite always",
    ),
    Reason.BYTES_LOST: Words("its bytes are lost: S3 shows the object, and finds nothing when it is read"),
    Reason.NEWER_COPIED: Words("the source has a newer version by now, which was copied instead"),
    Reason.COPIED_LATE: Words("it was copied late, and the newest version put on top of it again"),
    Reason.COPY_COVERED: Words(
        "its copy lies below another version, which readers get",
        cases={
            "next": "a copy of a newer version takes its place: pack old versions with sealift compact --versions all"
        },
    ),
    Reason.COPY_HIDDEN: Words("its copy lies below a delete marker of the destination"),
    Reason.HIDDEN_AGAIN: Words(
        "it was copied above a delete marker before, and a new delete marker hides that copy",
        "exclude the copies from the lifecycle rule that hides them, then copy it with --overwrite always",
    ),
    Reason.OLDER_ON_TOP: Words("a copy of an older version is on top"),
    Reason.DESTINATION_NEWER: Words("the destination is newer and different"),
    Reason.DESTINATION_DIFFERS: Words("another object is at the destination"),
    Reason.ORDER_UNKNOWN: Words(
        "which is newer is unknown: their dates are too close, or the source was uploaded in parts"
    ),
    Reason.ONE_OF_SEVERAL: Words(
        "the manifest names several versions of this key, and each copy would replace the one before",
        "copy them with --versions all, or name one of them",
    ),
    Reason.ONLY_COPY: Words(
        "the copy differs, and its bucket keeps no versions, so it would be lost for good",
        "enable the bucket's versioning, or remove the copy if nobody needs it",
    ),
    Reason.IS_MARKER: Words("it is a delete marker, which has no bytes", "copy and verify it with --versions all"),
    Reason.MARKER_LATE: Words("newer versions are at the destination already, so the delete marker was not made"),
    Reason.MARKER_DIFFERS: Words("a delete marker is on one side only"),
    Reason.DELETE_RETAINED: Words("it was deleted at the source, and the pair keeps its copy"),
    Reason.DELETED: Words("it was deleted"),
    Reason.COPY_MISSING: Words("nothing is at the destination"),
    Reason.SIZE_DIFFERS: Words("the sizes differ"),
    Reason.CHECKSUM_DIFFERS: Words("the checksums differ"),
    Reason.ETAG_DIFFERS: Words("the ETags differ, which are MD5s"),
    Reason.CONTENT_DIFFERS: Words("the bytes differ"),
    Reason.METADATA_DIFFERS: Words("the metadata differs"),
    Reason.NOTHING_COMPARABLE: Words("nothing comparable is known of both"),
    Reason.EVIDENCE_WEAK: Words("only checksums agree that other content can be made to have"),
    Reason.UNKNOWN_ALGORITHM: Words("a checksum is of an algorithm that this release does not know", "update Sealift"),
    Reason.CHECKSUMS_AT_REST: Words("by checksums at rest"),
    Reason.COPY_INCOMPLETE: Words("the copy is not all that was asked for"),
    Reason.TOO_NEW: Words("it is too new to be judged"),
    Reason.REPLICATION: Words("S3's replication of it has not ended well"),
    Reason.DENIED: Words("the credentials are not allowed to do this"),
    Reason.REFUSED: Words("S3 refuses this"),
    Reason.GIVEN_UP: Words("given up after the last try", "retry the run"),
    Reason.RACED: Words("others changed it each time that it was looked at", "retry the run"),
    Reason.KEPT: Words(
        "it is not deleted",
        cases={
            "outside": "it is outside of the place that this run is about",
            "copies": "its copy is in none of the places where this run looks for copies",
            "itself": "its copy is the original itself",
            "metadata": "it, or its copy, has metadata that S3 cannot say in headers and that cannot be compared",
            "expires": "a lifecycle rule will remove its copy",
            "folder": "this server keeps no versions of a key that ends with a slash: it would be gone for good",
            "suspended": "the versioning of its bucket is suspended, so a delete marker would replace it: enable it",
            "null": "it is a null version below others, and versioning is suspended: S3 cannot delete it by its ETag",
        },
    ),
    Reason.TAG_MISSING: Words("it lacks a tag"),
    Reason.EARLIER_RULE: Words("its tags are those of an earlier rule of the policy, which packs it"),
    Reason.HAS_ANNOTATIONS: Words(
        "it has annotations, which no archive holds", "--annotations skip packs it without them"
    ),
    Reason.UNPACKABLE: Words("no archive can hold it"),
    Reason.DOES_NOT_PAY: Words("packing it would not pay within two years"),
    Reason.NOT_ARCHIVED: Words(
        "no archive has it",
        cases={"event": "the journal has it, but it has no copy: it was gone too early, or it expired since"},
    ),
    Reason.NOT_INDEXED: Words(
        "no index has it by now", "sealift archives reindex --source URI, unless it is a copy that expire left"
    ),
    Reason.ARCHIVE_GONE: Words("its archive is gone"),
    Reason.ARCHIVE_DAMAGED: Words("its archive is not what the index says"),
    Reason.IN_ARCHIVE: Words("its copy is in an archive"),
    Reason.THAWING: Words("it is being restored from its archive class", "retry the run then"),
    Reason.CURRENT_UNKNOWN: Words(
        "nothing says which version was current then",
        cases={
            "one second": "archives hold several versions of its newest second: restore the right one by a manifest of "
            "it",
            "overwritten": "versioning was off or suspended, so what was current then may have been replaced for "
            "good: restore this version by a manifest of it",
        },
    ),
}


DONE = {"replicate": "copied", "compact": "packed", "restore": "restored", "expire": "expired"}
"""What `done` is called, by the job."""
DELETED = "deleted"
"""What `done` is called of a delete marker that was made."""


def called(status: str, job: str, reason: str = "") -> str:
    """The word for a status of a job's rows."""
    if status != Status.DONE:
        return status
    return DELETED if reason == Reason.DELETED and job == "replicate" else DONE.get(job, status)


def explained(reason: str, detail: str = "") -> str:
    """The sentence of a reason, and what to do. Empty: there is no reason."""
    words = WORDS.get(reason)  # type: ignore[call-overload]  # a code of a file is text, and may be of a later release
    return sentence(reason, detail) + (f"; {words.advice}" if words and words.advice else "")


def sentence(reason: str, detail: str = "") -> str:
    """What a reason says. A code of a later release is said as it is."""
    words = WORDS.get(reason) or Words(reason)  # type: ignore[call-overload]  # the same
    return words.cases.get(detail) or f"{words.text} ({detail})" if detail else words.text


def why(row: Mapping[str, Any]) -> str:
    """`explained` of a row with the fields `reason` and `detail`, or of several that share them."""
    return explained(row.get("reason") or "", row.get("detail") or "")


def explained_sql() -> str:
    """`explained` in SQL, over the columns `reason` and `detail`."""
    more = "CASE detail WHEN '' THEN '' ELSE ' (' || detail || ')' END"
    whens = []
    for reason, words in WORDS.items():
        cases = "".join(f" WHEN {_quoted(detail)} THEN {_quoted(text)}" for detail, text in words.cases.items())
        said = f"{_quoted(words.text)} || {more}"
        if cases:
            said = f"CASE detail{cases} ELSE {said} END"
        whens.append(f"WHEN {_quoted(reason)} THEN {said} || {_quoted(f'; {words.advice}' if words.advice else '')}")
    return f"CASE reason {' '.join(whens)} ELSE reason || {more} END"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
