"""A logistics company's documents: about a thousand objects, made the same each time."""

from __future__ import annotations

import json
import random
from typing import Any, NamedTuple

ODD_KEYS = (
    "archive/ein Lieferschein + Anhang (50%).pdf",
    "archive/façade/étiquette n°1.txt",
    "archive/fac\u0327ade/e\u0301tiquette n°1.txt",
    "archive/日本/送り状.csv",
    "archive/emoji-📦.json",
    "archive/a&b=<c>\"d'.xml",
    "archive/tab\there.txt",
    "archive/percent%2Fencoded%20already.txt",
    "archive/trailing space ",
    "archive/q?question#hash.txt",
)
MULTIPART_KEY = "scans/2026/container-MSKU7712345.tiff"
EMPTY_KEY = "orders/2026/_SUCCESS"


class Document(NamedTuple):
    """One object to put."""

    key: str
    body: bytes
    content_type: str
    metadata: dict[str, str]
    tags: str


def documents(count: int = 985, seed: int = 7) -> list[Document]:
    """Orders, waybills and invoices with metadata and tags, an empty object and odd keys."""
    chance = random.Random(seed)
    kinds = (
        ("orders", "json", "application/json"),
        ("waybills", "xml", "application/xml"),
        ("invoices", "pdf", "application/pdf"),
    )
    made = []
    for number in range(count):
        kind, ending, content_type = kinds[number % 3]
        key = f"{kind}/2026/{number % 11 + 1:02d}/{kind[0].upper()}{number:06d}.{ending}"
        made.append(Document(key, _body(chance, number, kind), content_type, _metadata(number), _tags(number)))
    made += [Document(key, key.encode(), "text/plain", {}, "") for key in ODD_KEYS]
    made.append(Document(EMPTY_KEY, b"", "application/octet-stream", {}, ""))
    return made


def fill(client: Any, bucket: str, count: int = 985) -> int:
    """Put the documents, second versions of some and one multipart object; how many keys there are."""
    from concurrent.futures import ThreadPoolExecutor

    client.create_bucket(Bucket=bucket)
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    made = documents(count)

    def put(document: Document, body: bytes) -> None:
        extra = {"Tagging": document.tags} if document.tags else {}
        client.put_object(
            Bucket=bucket,
            Key=document.key,
            Body=body,
            ContentType=document.content_type,
            Metadata=document.metadata,
            **extra,
        )

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda document: put(document, b"draft of " + document.body), made[: count // 20]))
        list(pool.map(lambda document: put(document, document.body), made))
    _put_in_parts(client, bucket)
    return len(made) + 1


def _put_in_parts(client: Any, bucket: str) -> None:
    upload = client.create_multipart_upload(
        Bucket=bucket,
        Key=MULTIPART_KEY,
        ContentType="image/tiff",
        Metadata={"scanner": "gate-4"},
        Tagging="class=scan",
        ChecksumAlgorithm="CRC64NVME",
        ChecksumType="FULL_OBJECT",
    )["UploadId"]
    chance = random.Random(11)
    parts = []
    for number in (1, 2):
        answer = client.upload_part(
            Bucket=bucket,
            Key=MULTIPART_KEY,
            UploadId=upload,
            PartNumber=number,
            Body=chance.randbytes(5 * 1024 * 1024),
            ChecksumAlgorithm="CRC64NVME",
        )
        parts.append({"PartNumber": number, "ETag": answer["ETag"], "ChecksumCRC64NVME": answer["ChecksumCRC64NVME"]})
    client.complete_multipart_upload(
        Bucket=bucket, Key=MULTIPART_KEY, UploadId=upload, MultipartUpload={"Parts": parts}
    )


def _body(chance: random.Random, number: int, kind: str) -> bytes:
    record = {"id": number, "kind": kind, "from": "Rotterdam", "to": "Nagoya", "kg": chance.randint(1, 20_000)}
    return json.dumps(record).encode() + chance.randbytes(chance.choice((200, 2_000, 20_000)))


def _metadata(number: int) -> dict[str, str]:
    return {"shipment": f"S{number:06d}", "carrier": ("maersk", "msc", "one")[number % 3]}


def _tags(number: int) -> str:
    return f"retention={('short', 'long')[number % 2]}&country=NL" if number % 4 else ""
