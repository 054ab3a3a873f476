#!/usr/bin/env python3
"""Reads archives of Sealift without Sealift: lists the members of one, restores one member, or all.

    read_archive.py list ARCHIVE
    read_archive.py one ARCHIVE KEY [VERSION_ID] > FILE
    read_archive.py all ARCHIVE FOLDER

ARCHIVE is a file that ends with .tar or .tar.zst. `list` prints a JSON object a member: its key, version, metadata,
headers and tags as S3 had them. Without VERSION_ID, `one` takes the version that was the latest when it was packed.
`all` writes each member below FOLDER by its name in the tar, which is safe on any file system, and the list beside
them, as `FOLDER/%members.jsonl`. Every header is proven by its CRC-32, every content by its SHA-256. A member without
one says so: `"proof": null`.

Python's standard library is enough, for .tar.zst from Python 3.14 on; before it, `zstandard`. See archive-format.md.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

FORMS = ("SCHILY.xattr.user.sealift.", "SEALIFT.")
"""How PAX records begin that are Sealift's. Archives of early releases have the second form."""
PIECE_BYTES = 1024**2


class Damaged(Exception):
    """The archive is not as it was written."""


def open_archive(path: Path) -> IO[bytes]:
    """The tar's bytes."""
    if path.suffix != ".zst":
        return path.open("rb")
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]  # Python 3.14
    except ImportError:
        import zstandard

        stream: Any = zstandard.ZstdDecompressor().stream_reader(path.open("rb"), read_across_frames=True)
        return stream  # type: ignore[no-any-return]
    file: Any = zstd.open(path)
    return file  # type: ignore[no-any-return]


def members(tar: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, dict[str, Any]]]:
    """Each entry that is an object of S3, and what S3 said of it. The archive's own index ends them."""
    for entry in tar:
        form = FORMS[0] if any(name.startswith(FORMS[0]) for name in entry.pax_headers) else FORMS[1]
        said = {name[len(form) :]: value for name, value in entry.pax_headers.items() if name.startswith(form)}
        if "index" in said:
            return
        if not said or not entry.isreg():
            raise Damaged(f"{entry.name} is no member of Sealift's")
        known = said.pop("header-crc32", None)
        text = json.dumps([entry.name, entry.size, int(entry.mtime), said], sort_keys=True)
        if form == FORMS[0] and known != f"{zlib.crc32(text.encode()):08x}":
            raise Damaged(f"the header of {entry.name} was altered")
        yield entry, described(entry, said)
    raise Damaged("the archive ends before its own index: it was cut short")


def described(entry: tarfile.TarInfo, said: dict[str, str]) -> dict[str, Any]:
    """What S3 said of an object. What a header leaves out has the usual value."""
    known: dict[str, Any] = {
        "key": json.loads(said["key"]) if "key" in said else entry.name,
        "version_id": said.get("version-id"),
        "is_latest": said.get("is-latest", "true") == "true",
        "size_bytes": entry.size,
        "etag": said.get("etag"),
        "last_modified": int(entry.mtime),
        "storage_class": said.get("storage-class", "STANDARD"),
        "sha256": said.get("sha256"),
        "name": entry.name,
    }
    for name in ("headers", "metadata", "tags", "checksums"):
        known[name] = json.loads(said[name]) if said.get(name) else {}
    return known


def restore(tar: tarfile.TarFile, entry: tarfile.TarInfo, known: dict[str, Any], target: IO[bytes]) -> None:
    """Write a member's content, and prove it. Raises Damaged if it is not what was packed."""
    digest, content = hashlib.sha256(), tar.extractfile(entry)
    while content is not None and (data := content.read(PIECE_BYTES)):
        digest.update(data)
        target.write(data)
    known["proof"] = "SHA256" if known["sha256"] else None
    if known["sha256"] not in (None, digest.hexdigest()):
        raise Damaged(f"the content of {entry.name} was altered")


def restore_one(path: Path, key: str, version_id: str | None, target: IO[bytes]) -> bool:
    """Write the content of one member. False: the archive has none of this name."""
    with open_archive(path) as stream, tarfile.open(fileobj=stream, mode="r|", errors="surrogateescape") as tar:
        for entry, known in members(tar):
            is_asked = known["is_latest"] if version_id is None else known["version_id"] == version_id
            if known["key"] == key and is_asked:
                restore(tar, entry, known, target)
                return True
    return False


def restore_all(path: Path, folder: Path | None) -> Iterator[dict[str, Any]]:
    """What S3 said of each member. With a folder: its content is written there first."""
    with open_archive(path) as stream, tarfile.open(fileobj=stream, mode="r|", errors="surrogateescape") as tar:
        for entry, known in members(tar):
            if folder is not None:
                if {"", ".", ".."} & set(entry.name.split("/")):
                    raise Damaged(f"{entry.name} is a name that leads out of the folder")
                place = folder / entry.name
                place.parent.mkdir(parents=True, exist_ok=True)
                with place.open("xb") as file:
                    restore(tar, entry, known, file)
            yield known


def main(arguments: list[str]) -> int:
    """Returns the exit code: 0, 1 if there is no such member or something is damaged, 2 for other arguments."""
    try:
        match arguments:
            case ["list", archive]:
                for known in restore_all(Path(archive), None):
                    print(json.dumps(known))
            case ["one", archive, key, *version] if len(version) < 2:
                if not restore_one(Path(archive), key, version[0] if version else None, sys.stdout.buffer):
                    print(f"{archive} has no {key}", file=sys.stderr)
                    return 1
            case ["all", archive, folder]:
                Path(folder).mkdir(parents=True, exist_ok=True)
                with (Path(folder) / "%members.jsonl").open("x") as listed:
                    for known in restore_all(Path(archive), Path(folder)):
                        print(json.dumps(known), file=listed)
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except Exception as error:  # noqa: BLE001  whatever is wrong with the archive, nothing of it counts
        print(f"{arguments[1]}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
