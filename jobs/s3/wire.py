"""Wire format of S3: headers and XML from and to Sealift's types. No I/O.

Header names are in lower case here. Metadata values are text on this side, and ASCII on the wire
(`jobs.s3.encoded_words`).
"""

from __future__ import annotations

import calendar
import hashlib
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import lru_cache
from html import escape, unescape
from typing import NamedTuple
from urllib.parse import quote as quote_strictly
from urllib.parse import unquote
from xml.etree import ElementTree

from jobs.core.bucket_names import access_point
from jobs.core.enums import ARCHIVE_CLASSES
from jobs.core.model import LATEST_SECONDS, Attributes, Checksum, ObjectInfo, ObjectLock, ObjectRef, parse_time
from jobs.s3 import encoded_words
from jobs.s3.operations import Operation
from jobs.s3.store import Annotation, AnnotationPage, CopySettings, Guard, PartDone, Written

Headers = Mapping[str, str]
Pairs = list[tuple[str, str]]

CONTENT_HEADERS = (
    "content-type",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
    "x-amz-website-redirect-location",
)
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_MONTHS = {name: number for number, name in enumerate(calendar.month_abbr) if name}
_PLAIN = re.compile(r"[A-Za-z0-9_.~-]*")
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_.~/-]*")
_DIGITS_MAX = 20
TAGS_MAX = 200_000
"""S3 lists or deletes 1,000 entries at once: 100 elements each."""
_META = "x-amz-meta-"
_CHECKSUM = "x-amz-checksum-"
_SSE, _KMS_KEY = "x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id"
_LOCK_MODE, _LOCK_UNTIL = "x-amz-object-lock-mode", "x-amz-object-lock-retain-until-date"
_LEGAL_HOLD, _EVENT_HOLD = "x-amz-object-lock-legal-hold", "x-amz-object-lock-event-hold"
_EVENT_LASTS = f"{_EVENT_HOLD}-duration-days", f"{_EVENT_HOLD}-duration-years"
_NOT_ALGORITHMS = frozenset({"type", "mode", "algorithm"})
ERROR = re.compile(rb"\s*(?:<\?xml[^>]*>\s*)?<(?:[\w.-]+:)?Error[\s/>]")
"""The beginning of an `<Error>` document."""
_OPENINGS = {each: b"<" + each.body.encode() for each in Operation}
_CHECKSUM_ELEMENT = re.compile(rb"<Checksum([A-Z0-9]+)>([^<\x80-\xff]*)</")


class Malformed(Exception):
    """An answer that is no XML of S3. The transport turns it into a StoreError."""


class ErrorBody(NamedTuple):
    """What an `<Error>` document says. Empty where it is silent."""

    code: str
    message: str
    region: str


@lru_cache(4096)  # one second's answers, and objects, share their time
def parse_http_date(text: str) -> float:
    """`Wed, 25 Nov 2026 00:33:40 GMT` → epoch seconds. 0.0 when it is no date:
    https://www.rfc-editor.org/rfc/rfc9110#name-date-time-formats
    """
    try:
        clock = (int(text[17:19]), int(text[20:22]), int(text[23:25]))
        return float(calendar.timegm((int(text[12:16]), _MONTHS[text[8:11]], int(text[5:7]), *clock)))
    except (ValueError, KeyError):
        pass
    from email.utils import parsedate_to_datetime  # seldom needed

    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError, TypeError, IndexError):  # a zone of 10¹² hours, a year that no clock has
        return 0.0


def quote(text: str, safe: str = "") -> str:
    """Percent-encoded. What is no UTF-8 is for S3 to refuse: no text of a key or an event may raise
    here.
    """
    return text if _PLAIN.fullmatch(text) else quote_strictly(text, safe, errors="surrogatepass")


def quote_key(key: str) -> str:
    """The key as a URL path: all but letters, digits, `-._~` and `/` percent-encoded."""
    return key if _PLAIN_KEY.fullmatch(key) else quote(key, safe="/")


def query(own: str, parameters: Mapping[str, str | int | None]) -> str:
    """An operation's own query with these parameters. None is left out, an empty string stays, as `name=`."""
    more = [f"{name}={quote(str(value))}" for name, value in parameters.items() if value is not None]
    return "&".join([own, *more] if own else more)


def copy_source(ref: ObjectRef) -> str:
    """The value of `x-amz-copy-source`."""
    version = f"?versionId={quote(ref.version_id)}" if ref.version_id else ""
    if ref.bucket.startswith("arn:") and access_point(ref.bucket):
        return f"{quote(ref.bucket)}/object/{quote_key(ref.key)}{version}"
    return f"/{ref.bucket}/{quote_key(ref.key)}{version}"


def source_headers(source: ObjectRef, etag: str | None) -> Pairs:
    """What a copy is made of, and the ETag that it must have."""
    pairs = [("x-amz-copy-source", copy_source(source))]
    if etag is not None:
        pairs.append(("x-amz-copy-source-if-match", f'"{etag}"'))
    return pairs


def encode_tags(tags: Mapping[str, str]) -> str:
    """The value of `x-amz-tagging`."""
    return "&".join(f"{quote(name)}={quote(value)}" for name, value in tags.items())


def unquote_etag(text: str) -> str:
    """An ETag without its quotes."""
    return text.strip().strip('"')


def guard_headers(guard: Guard) -> Pairs:
    """The condition of a write."""
    if guard.absent:
        return [("If-None-Match", "*")]
    if guard.etag is not None:
        return [("If-Match", f'"{guard.etag}"')]
    return []


def checksum_header(checksum: Checksum) -> tuple[str, str]:
    """The checksum that S3 must find."""
    return _CHECKSUM + checksum.algorithm.lower(), checksum.value


def checksum_type(checksum: Checksum) -> tuple[str, str]:
    """Of what S3 keeps the checksum: of the checksums of parts, or of the whole content."""
    return "x-amz-checksum-type", "COMPOSITE" if checksum.is_composite else "FULL_OBJECT"


def body_headers(data: bytes, checksum: Checksum | None) -> Pairs:
    """What S3 must find in an object's or a part's bytes: the checksum, as S3's own clients send it, else their MD5.

    Buckets with a default retention demand one of each, and an MD5 fits every upload. It leaves to
    S3 which checksum the object keeps.
    """
    if checksum:
        return [("x-amz-sdk-checksum-algorithm", checksum.algorithm), checksum_header(checksum)]
    return [("Content-MD5", b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode())]


def settings_headers(settings: CopySettings | Attributes) -> Pairs:
    """Storage class, encryption and Object Lock of a write."""
    pairs: Pairs = []
    if settings.storage_class:
        pairs.append(("x-amz-storage-class", settings.storage_class))
    if settings.sse:
        pairs.append((_SSE, settings.sse))
    if settings.kms_key_id:
        pairs.append((_KMS_KEY, settings.kms_key_id))
    if (lock := settings.lock) is not None:
        if lock.mode and lock.retain_until:
            pairs += [(_LOCK_MODE, lock.mode), (_LOCK_UNTIL, lock.retain_until)]
        if lock.legal_hold:
            pairs.append((_LEGAL_HOLD, "ON"))
        if lock.event_hold:
            lasts = zip(_EVENT_LASTS, (lock.event_days, lock.event_years), strict=True)
            pairs += [(_EVENT_HOLD, "ON"), *((name, str(count)) for name, count in lasts if count is not None)]
    if isinstance(settings, CopySettings) and settings.without_annotations:
        pairs.append(("x-amz-object-annotation-directive", "EXCLUDE"))
    return pairs


def attribute_headers(attributes: Attributes) -> Pairs:
    """Everything that a new object carries besides its bytes."""
    pairs = list(attributes.headers.items())
    pairs += [(_META + name, encoded_words.encode(value)) for name, value in attributes.metadata.items()]
    if attributes.tags:
        pairs.append(("x-amz-tagging", encode_tags(attributes.tags)))
    return pairs + settings_headers(attributes)


def header_checksums(headers: Headers) -> tuple[Checksum, ...]:
    """The checksums that an answer names.

    Algorithms that are not known yet come through all the same.
    """
    composite = headers.get("x-amz-checksum-type") == "COMPOSITE"
    return tuple(
        Checksum(algorithm.upper(), value, composite or "-" in value)
        for name, value in headers.items()
        if name.startswith(_CHECKSUM) and (algorithm := name[len(_CHECKSUM) :]) not in _NOT_ALGORITHMS
    )


def object_info(headers: Headers) -> ObjectInfo:
    """What HEAD or GET said. The size is that of the answer, which may be a range."""
    storage_class = headers.get("x-amz-storage-class") or "STANDARD"
    return ObjectInfo(
        size_bytes=_number(headers.get("content-length")) or 0,
        etag=unquote_etag(headers.get("etag", "")),
        last_modified=parse_http_date(headers.get("last-modified", "")),
        version_id=headers.get("x-amz-version-id"),
        storage_class=storage_class,
        checksums=header_checksums(headers),
        attributes=_attributes(headers, storage_class),
        tag_count=_number(headers.get("x-amz-tagging-count")) or 0,
        parts_count=_number(headers.get("x-amz-mp-parts-count")),
        is_archived=_is_archived(headers, storage_class),
        is_restoring='ongoing-request="true"' in headers.get("x-amz-restore", ""),
        expiration=headers.get("x-amz-expiration"),
        archive_tier=headers.get("x-amz-archive-status"),
        replication_status=headers.get("x-amz-replication-status"),
        unsent_metadata=_number(headers.get("x-amz-missing-meta")) or 0,
    )


def _number(text: str | None) -> int | None:
    """A header that counts something. None for what is no number of sane length."""
    return int(text) if text and text.isdecimal() and len(text) < _DIGITS_MAX else None


def _attributes(headers: Headers, storage_class: str) -> Attributes:
    mode, hold, is_held = headers.get(_LOCK_MODE), headers.get(_LEGAL_HOLD) == "ON", headers.get(_EVENT_HOLD) == "ON"
    lasts = (_number(headers.get(name)) if is_held else None for name in _EVENT_LASTS)
    return Attributes(
        headers={name: headers[name] for name in CONTENT_HEADERS if name in headers},
        metadata={
            name[len(_META) :]: encoded_words.decode(value) for name, value in headers.items() if name.startswith(_META)
        },
        storage_class=storage_class,
        sse=headers.get(_SSE),
        kms_key_id=headers.get(_KMS_KEY),
        lock=ObjectLock(mode, headers.get(_LOCK_UNTIL), hold, is_held, *lasts) if mode or hold or is_held else None,
    )


def _is_archived(headers: Headers, storage_class: str) -> bool:
    """In Glacier or an archive tier, without a restored copy (`x-amz-restore` names one)."""
    if storage_class in ARCHIVE_CLASSES:
        return 'ongoing-request="false"' not in headers.get("x-amz-restore", "")
    return bool(headers.get("x-amz-archive-status"))


def expiry_note(expiration: str | None) -> str:
    """The note for a copy that a lifecycle rule will remove, by `x-amz-expiration`. None: empty.

    The date is left out, since it differs by object, and a report counts equal notes.
    """
    if not expiration:
        return ""
    rule = re.search(r'rule-id="([^"]*)"', expiration)
    return f"a lifecycle rule of its bucket removes it later{f' (rule {unquote(rule[1])})' if rule else ''}"


def parse_written(operation: Operation, headers: Headers, body: bytes) -> Written:
    """The answer to a write that makes an object or a part: ETag and checksums in its document, where it has one, else
    in the headers.

    Raises Malformed when the body is another document, or where there is no ETag: then nothing is known of what
    happened.
    """
    expiration, version_id = headers.get("x-amz-expiration"), headers.get("x-amz-version-id")
    note = expiry_note(expiration) if expiration else ""
    if not operation.body:
        if "etag" not in headers:
            raise Malformed("no ETag in the answer")
        return Written(unquote_etag(headers["etag"]), version_id, header_checksums(headers), note)
    etag = _element(body, b"ETag") if _OPENINGS[operation] in body else None
    if etag is None:  # a server that spells its XML otherwise than S3, or no such server
        etag = parse_document(body, operation.body).findtext("{*}ETag")
    if not etag:
        raise Malformed("no ETag in the answer")
    checksums: tuple[Checksum, ...] = ()
    if b"<Checksum" in body:
        found = _CHECKSUM_ELEMENT.findall(body)
        composite = b"<ChecksumType>COMPOSITE<" in body
        checksums = tuple(
            Checksum(name.decode(), plain(value.decode()), composite or b"-" in value) for name, value in found
        )
    if operation is not Operation.COPY:
        return Written(unquote_etag(etag), version_id, checksums, note)
    modified, source_version_id = _element(body, b"LastModified"), headers.get("x-amz-copy-source-version-id")
    at_seconds = epoch_seconds(modified) if modified else None
    return Written(unquote_etag(etag), version_id, checksums, note, source_version_id, at_seconds)


def _element(body: bytes, name: bytes) -> str | None:
    """The text of the first element of this name. None: there is none, or it is not written as S3 writes it."""
    text, end, _ = body.partition(b"<%b>" % name)[2].partition(b"</%b>" % name)
    return plain(text.decode()) if end and text.isascii() and b"<" not in text else None


def texts(element: ElementTree.Element) -> dict[str, str]:
    """What the elements in this one say, by their names in no namespace."""
    return {child.tag.rpartition("}")[2]: child.text or "" for child in element}


def element_checksums(fields: Mapping[str, str], kind: str | None) -> tuple[Checksum, ...]:
    """The checksums among the `texts` of an element. `kind`: S3's word for what they are of."""
    return tuple(
        Checksum(name.removeprefix("Checksum"), value, kind == "COMPOSITE" or "-" in value)
        for name, value in fields.items()
        if name.startswith("Checksum") and value and name not in ("ChecksumType", "ChecksumAlgorithm")
    )


@lru_cache(4096)  # one second's objects share their time
def epoch_seconds(text: str) -> float | None:
    """S3's time. None for what is none, or before 1970."""
    try:
        at_seconds = parse_time(text)
    except (ValueError, OverflowError):
        return None
    return at_seconds if 0 <= at_seconds <= LATEST_SECONDS else None


def _escaped(text: str) -> str:
    """The text as XML has it. A parser takes a line end that is not escaped for another one."""
    return escape(text, quote=False).replace("\r", "&#13;").replace("\n", "&#10;")


def plain(text: str) -> str:
    """The text without entities. Those around an ETag are by far the most frequent."""
    if "&" not in text:
        return text
    text = text.replace("&quot;", '"').replace("&#34;", '"')
    return unescape(text) if "&" in text else text


def parse_xml(body: bytes) -> ElementTree.Element:
    """The document's root. Raises Malformed for invalid XML, for a DOCTYPE (S3 sends none), and for more elements or
    quotes of attributes than any answer of S3 has: each element or attribute takes some 200 bytes.

    The document is UTF-8 whatever it declares: in another encoding (NUL: UTF-16) a DOCTYPE might not be seen.
    """
    if b"<!DOCTYPE" in body or b"\0" in body or any(body.count(each) > TAGS_MAX for each in (b"<", b'"', b"'")):
        raise Malformed("XML with a DOCTYPE, in another encoding than UTF-8, or with too many elements or attributes")
    try:
        return ElementTree.fromstring(body.lstrip(), ElementTree.XMLParser(encoding="utf-8"))
    except (ElementTree.ParseError, ValueError) as error:
        raise Malformed(f"invalid XML: {error}") from error


def parse_document(body: bytes, *names: str) -> ElementTree.Element:
    """The root of a document that must have one of these names, in whatever namespace.

    Raises Malformed for any other: a proxy's page is well-formed as well.
    """
    root = parse_xml(body)
    if (sent := root.tag.rpartition("}")[2]) not in names:
        raise Malformed(f"expected a document {names[0]}, the answer is {sent[:40]!r}")
    return root


def parse_error(body: bytes) -> ErrorBody | None:
    """The `<Error>` document in the body, None if it is something else."""
    if b"Error" not in body:
        return None
    try:
        root = parse_xml(body)
    except Malformed:
        return None
    if root.tag.rpartition("}")[2] != "Error":
        return None
    code, message, region = (root.findtext(f"{{*}}{name}") or "" for name in ("Code", "Message", "Region"))
    return ErrorBody(code, " ".join(message.split()), region)


def parse_upload_id(body: bytes) -> str:
    """The answer to CreateMultipartUpload."""
    upload_id = parse_document(body, Operation.CREATE_MULTIPART.body).findtext("{*}UploadId")
    if not upload_id:
        raise Malformed("no UploadId in the answer")
    return upload_id


def parse_tags(body: bytes) -> dict[str, str]:
    """The answer to GetObjectTagging. Where there are no tags, some servers send no document."""
    if not body or body.isspace():
        return {}
    tags = parse_document(body, Operation.GET_TAGS.body).iterfind("{*}TagSet/{*}Tag")
    return {tag.findtext("{*}Key") or "": tag.findtext("{*}Value") or "" for tag in tags}


def parse_annotations(body: bytes) -> AnnotationPage:
    """The answer to ListObjectAnnotations.

    Raises Malformed for an annotation without name or size. Entries are found whatever element
    contains them, since MinIO leaves out the list around them. botocore does not say how the root
    is named:
    https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectAnnotations.html
    """
    root = parse_document(body, Operation.LIST_ANNOTATIONS.body)
    found = []
    for entry in root.iter():
        name, size = entry.findtext("{*}AnnotationName"), entry.findtext("{*}Size")
        if name is None:
            continue
        if not name or (size_bytes := _number(size)) is None:
            raise Malformed("an annotation without name or size")
        found.append(Annotation(name, size_bytes, unquote_etag(entry.findtext("{*}ETag") or "") or None))
    return AnnotationPage(found, root.findtext("{*}NextContinuationToken") or None)


def check_annotated(body: bytes) -> None:
    """Raise Malformed for a document that does not answer PutObjectAnnotation.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectAnnotation.html
    """
    if body and not body.isspace():
        parse_document(body, Operation.PUT_ANNOTATION.body)


def parse_versioning(body: bytes) -> bool:
    """The answer to GetBucketVersioning: whether it is Enabled."""
    # The second name is from S3's first API, and some servers kept it.
    root = parse_document(body, Operation.GET_VERSIONING.body, "GetBucketVersioningResponse")
    return root.findtext("{*}Status") == "Enabled"


def restore_body(days: int | None, tier: str) -> bytes:
    """The body of RestoreObject.

    `days` None: for classes whose restored objects stay (Intelligent-Tiering).
    """
    kept = "" if days is None else f"<Days>{days}</Days>"
    job = f"<GlacierJobParameters><Tier>{_escaped(tier)}</Tier></GlacierJobParameters>"
    return f'<RestoreRequest xmlns="{_NAMESPACE}">{kept}{job}</RestoreRequest>'.encode()


def complete_body(parts: Sequence[PartDone]) -> bytes:
    """The body of CompleteMultipartUpload, parts in the order of their numbers."""
    rows = []
    for part in sorted(parts, key=lambda part: part.number):
        sums = "".join(f"<Checksum{c.algorithm}>{_escaped(c.value)}</Checksum{c.algorithm}>" for c in part.checksums)
        etag = _escaped(part.etag)
        rows.append(f'<Part><PartNumber>{part.number}</PartNumber><ETag>"{etag}"</ETag>{sums}</Part>')
    text = f'<CompleteMultipartUpload xmlns="{_NAMESPACE}">{"".join(rows)}</CompleteMultipartUpload>'
    return text.encode("utf-8", "surrogateescape")  # as the server's headers were decoded
