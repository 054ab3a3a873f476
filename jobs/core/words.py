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
    """What is said of one reason.

    `detail` says what the outcome's detail is. It takes the place of `{}` in `worded`, or follows
    `text` in parentheses. `cases`: what is said instead where the detail is one of these words.
    `is_own`: the detail is another one for each row, so that reports count its rows together.
    """

    text: str
    advice: str = ""
    detail: str = ""
    worded: str = ""
    cases: Mapping[str, str] = MappingProxyType({})
    is_own: bool = False


_ANSWER = "the request and S3's error code, as Operation: Code"
_MEND_SOURCE = "compare it with the copy, and restore the source from what is right"

WORDS: Mapping[Reason, Words] = {
    Reason.SOURCE_GONE: Words(
        "the source has no such object",
        detail="`marker`: it was a delete marker",
        cases={"marker": "the source no longer has this delete marker, so none was made"},
    ),
    Reason.SOURCE_REPLACED: Words(
        "the source is not the object that the manifest names",
        "make a new manifest",
        detail="`packed`: it was written again after it was packed",
        cases={
            "packed": "it was written again after it was packed, and a restore would take what was packed in between "
            "for newer: compact it again"
        },
    ),
    Reason.SOURCE_CHANGED: Words(
        "the source changed while it was read",
        "take it again",
        detail="`copy`: the copy did",
        cases={"copy": "the copy changed while it was compared"},
    ),
    Reason.ARCHIVED: Words(
        "it must be restored from its archive class first",
        detail="what must be restored: `source`, `copy`, or the URI of an archive",
        worded="{} must be restored from its archive class first",
        cases={
            "source": "the source must be restored from its archive class first",
            "copy": "the copy must be restored from its archive class first",
        },
    ),
    Reason.NEWEST_ARCHIVED: Words(
        "the newest version must be restored from its archive class first: it could not be put back on top"
    ),
    Reason.TOO_LARGE: Words("it is too large", detail="the limit in bytes", worded="it is larger than {} bytes"),
    Reason.TOO_SLOW: Words("there was no time left for it"),
    Reason.NO_PAIR: Words("no pair of the policy has it", "add a pair, or stop the notifications of its bucket"),
    Reason.DAMAGED: Words(
        "the source is damaged: its bytes are not those that S3 keeps a checksum of",
        _MEND_SOURCE,
        detail="the algorithm of the checksum, if only what S3 keeps was compared",
    ),
    Reason.FOUND_DAMAGED: Words(
        "a verify run found the source damaged, and nothing proves that it is right now", _MEND_SOURCE
    ),
    Reason.BOTH_DAMAGED: Words("source and copy are damaged: S3 keeps a checksum of other bytes", _MEND_SOURCE),
    Reason.EITHER_DAMAGED: Words(
        "source and copy differ, and nothing shows which is wrong: S3 keeps a checksum of the copy alone",
        "compare both, then restore the source from what is right, or replace the copy with --overwrite always",
    ),
    Reason.BYTES_LOST: Words(
        "its bytes are lost: S3 shows the object, and finds nothing when it is read",
        detail="`source` or `copy`",
        worded="the bytes of the {} are lost: S3 shows the object, and finds nothing when it is read",
    ),
    Reason.NEWER_COPIED: Words("the source has a newer version by now, which was copied instead"),
    Reason.COPIED_LATE: Words("it was copied late, and the newest version put on top of it again"),
    Reason.COPY_COVERED: Words(
        "its copy lies below another version, which readers get",
        detail="`next`: after the next replication",
        cases={
            "next": "a newer version is at its key, whose copy takes the place of its copy: pack old versions with "
            "sealift compact --versions all"
        },
    ),
    Reason.COPY_HIDDEN: Words("its copy lies below a delete marker of the destination"),
    Reason.HIDDEN_AGAIN: Words(
        "it was copied above a delete marker before, and a new delete marker hides that copy",
        "look for a lifecycle rule of the destination's bucket that expires objects, exclude the copies from it, then "
        "copy it with --overwrite always",
    ),
    Reason.OLDER_ON_TOP: Words("a copy of an older version is on top"),
    Reason.DESTINATION_NEWER: Words("the destination is newer and different", detail="what differs"),
    Reason.DESTINATION_DIFFERS: Words(
        "another object is at the destination", detail="what differs, or `archived`: the object there is"
    ),
    Reason.ORDER_UNKNOWN: Words(
        "which is newer is unknown: their dates are too close, or the source was uploaded in parts, and S3 dates it by "
        "the beginning of its upload",
        detail="what differs",
    ),
    Reason.ONE_OF_SEVERAL: Words(
        "the manifest names several versions of this key, and each copy would replace the one before",
        "copy them with --versions all, or name one of them",
    ),
    Reason.ONLY_COPY: Words(
        "the copy differs, and its bucket keeps no versions, so it would be lost for good",
        "enable the bucket's versioning, or remove the copy if nobody needs it",
        detail="the bucket",
        worded="the copy differs, and {} keeps no versions, so it would be lost for good",
    ),
    Reason.IS_MARKER: Words("it is a delete marker, which has no bytes", "copy and verify it with --versions all"),
    Reason.MARKER_LATE: Words("newer versions are at the destination already, so the delete marker was not made"),
    Reason.MARKER_DIFFERS: Words("a delete marker is on one side only"),
    Reason.DELETE_RETAINED: Words("it was deleted at the source, and the pair keeps its copy"),
    Reason.DELETED: Words(
        "it was deleted",
        detail="where: `source` or `destination`; of an original, how: `hidden` or `removed`",
        worded="it was deleted at the {}",
        cases={"hidden": "hidden by a delete marker", "removed": "removed for good"},
    ),
    Reason.COPY_MISSING: Words("nothing is at the destination", detail="what else is known of it"),
    Reason.SIZE_DIFFERS: Words("the sizes differ", detail="what else is known of it"),
    Reason.CHECKSUM_DIFFERS: Words("the checksums differ", detail="the algorithm, or what else is known of it"),
    Reason.ETAG_DIFFERS: Words("the ETags differ, which are MD5s", detail="what else is known of it"),
    Reason.CONTENT_DIFFERS: Words(
        "the bytes differ",
        detail="the first byte that differs, counted from 0",
        worded="the bytes differ from byte {} on",
        is_own=True,
    ),
    Reason.METADATA_DIFFERS: Words(
        "the metadata differs",
        detail="what differs: a header, `user metadata`, `tags`, `annotations`",
        worded="the copy has other {}",
    ),
    Reason.NOTHING_COMPARABLE: Words("nothing comparable is known of both", detail="what is known of each"),
    Reason.EVIDENCE_WEAK: Words(
        "only checksums agree that other content can be made to have",
        detail="the algorithms",
        worded="only {} agree, and other content can be made to have the same",
    ),
    Reason.UNKNOWN_ALGORITHM: Words(
        "a checksum is of an algorithm that this release does not know", "update Sealift", detail="the algorithm"
    ),
    Reason.CHECKSUMS_AT_REST: Words("by checksums at rest", detail="the reports", worded="by checksums at rest: {}"),
    Reason.COPY_INCOMPLETE: Words("the copy is not all that was asked for", detail="what it lacks", worded="{}"),
    Reason.TOO_NEW: Words(
        "it is newer than what the reports can tell",
        detail="of an original, what happened within the grace period: `written`, `hidden` or `copied`",
        cases={
            "written": "it was written within the grace period",
            "hidden": "it was hidden within the grace period",
            "copied": "its copy was written within the grace period",
        },
    ),
    Reason.REPLICATION: Words(
        "S3's replication of it has not ended well",
        detail="its status, `FAILED` or `PENDING`",
        cases={
            "FAILED": "S3's replication of it FAILED, so tags or ACL may differ",
            "PENDING": "S3's replication of it is PENDING",
        },
    ),
    Reason.DENIED: Words(
        "the credentials are not allowed to do this", detail=_ANSWER, worded="the credentials are not allowed: {}"
    ),
    Reason.REFUSED: Words("S3 refuses this", detail=_ANSWER, worded="S3 refuses this: {}"),
    Reason.GIVEN_UP: Words(
        "given up after the last try", "retry the run", detail=_ANSWER, worded="given up after the last try: {}"
    ),
    Reason.RACED: Words("others changed it each time that it was looked at", "retry the run"),
    Reason.KEPT: Words(
        "it is not deleted",
        detail="the lock, or one of the words below",
        worded="it is not deleted: {}",
        cases={
            "outside": "it is outside of the place that this run is about",
            "copies": "its copy is in none of the places where this run looks for copies",
            "itself": "its copy is the original itself",
            "metadata": "it, or its copy, has metadata that S3 cannot say in headers, and nobody can compare that",
            "expires": "a lifecycle rule will remove its copy",
            "folder": "its bucket keeps versions, but this server keeps none of a key that ends with a slash: a delete "
            "would remove it for good",
            "suspended": "the versioning of its bucket is suspended: a delete marker would replace it, and removing it "
            "would bring an older version back. Enable versioning first",
            "null": "it is a null version below others in a bucket whose versioning is suspended: S3 cannot delete it "
            "by its ETag",
        },
    ),
    Reason.TAG_MISSING: Words("it lacks a tag", detail="the tag", worded="it has no tag {}"),
    Reason.EARLIER_RULE: Words("its tags are those of an earlier rule of the policy, which packs it"),
    Reason.HAS_ANNOTATIONS: Words(
        "it has annotations, which no archive holds", "--annotations skip packs it without them"
    ),
    Reason.UNPACKABLE: Words("no archive can hold it", detail="why not"),
    Reason.DOES_NOT_PAY: Words("packing it would not pay within two years"),
    Reason.NOT_ARCHIVED: Words(
        "no archive has it",
        detail="`event`",
        cases={
            "event": "the journal has it, but it has no copy: it was gone before it was copied, or it expired since"
        },
    ),
    Reason.NOT_INDEXED: Words(
        "no index has it by now",
        "sealift archives reindex --source URI, unless it is a copy that expire left",
        detail="the URI of an archive without an index",
        worded="no archive is indexed at {}",
        is_own=True,
    ),
    Reason.ARCHIVE_GONE: Words("its archive is gone", detail="its URI", worded="the archive {} is gone", is_own=True),
    Reason.ARCHIVE_DAMAGED: Words(
        "its archive is not what the index says",
        detail="what is wrong",
        worded="its archive is damaged: {}",
        is_own=True,
    ),
    Reason.ARCHIVES_DIFFER: Words(
        "two archives hold this version with other content",
        "sealift archives find KEY",
    ),
    Reason.IN_ARCHIVE: Words("its copy is in an archive"),
    Reason.THAWING: Words(
        "it is being restored from its archive class",
        "retry the run then",
        detail="what is restored, how and for how long",
        worded="{} is being restored from its archive class",
        is_own=True,
    ),
    Reason.CURRENT_UNKNOWN: Words(
        "nothing says which version was current then",
        detail="`overwritten`",
        cases={
            "overwritten": "versioning was off or suspended: what was written without a version id since may have "
            "replaced what was current then, and S3 keeps nothing of that; sealift replicate, or sealift restore of "
            "an archived one, brings this version by a manifest of it",
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
    if not detail:
        return words.text
    if detail in words.cases:
        return words.cases[detail]
    return words.worded.format(detail) if words.worded else f"{words.text} ({detail})"


def why(row: Mapping[str, Any]) -> str:
    """`explained` of a row with the fields `reason` and `detail`, or of several that share them."""
    return explained(row.get("reason") or "", row.get("detail") or "")


def explained_sql() -> str:
    """`explained` in SQL, over the columns `reason` and `detail`."""
    whens = []
    for reason, words in WORDS.items():
        cases = "".join(f" WHEN {_quoted(detail)} THEN {_quoted(text)}" for detail, text in words.cases.items())
        others = f"replace({_quoted(words.worded or f'{words.text} ({{}})')}, '{{}}', detail)"
        said = f"CASE detail WHEN '' THEN {_quoted(words.text)}{cases} ELSE {others} END"
        advice = f" || {_quoted(f'; {words.advice}')}" if words.advice else ""
        whens.append(f"WHEN {_quoted(reason)} THEN {said}{advice}")
    unknown = "reason || CASE detail WHEN '' THEN '' ELSE ' (' || detail || ')' END"
    return f"CASE reason {' '.join(whens)} ELSE {unknown} END"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


OWN = frozenset(reason for reason, words in WORDS.items() if words.is_own)
"""The reasons whose details are counted together."""
