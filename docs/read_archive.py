#!/usr/bin/env python3
"""Reads archives of Sealift without Sealift: lists the members of one, restores one member, or all.

    read_archive.py list ARCHIVE
    read_archive.py one ARCHIVE KEY [VERSION_ID] > FILE
    read_archive.py all ARCHIVE FOLDER

ARCHIVE is a file that ends with .tar or .tar.zst. `list` prints a JSON object a member: its key, version, metadata,
headers and tags as S3 had them. Without VERSION_ID, `one` takes the version that was the latest when it was packed.
`all` writes each member below FOLDER by its name in the tar, which is safe on any file system, and the list beside
them, as `FOLDER/%members.jsonl`. Every header is proven by its CRC-32, every content by its SHA-256. A member without
one says so: `"proof": null`. A damaged one is named and left out, and the exit code is 1 then.

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


def open_archive(path: Path) -> Any:
    """The tar's bytes."""
    if path.suffix != ".zst":
        return path.open("rb")
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]  # Python 3.14
    except ImportError:
        import zstandard

        return zstandard.ZstdDecompressor().stream_reader(path.open("rb"), read_across_frames=True)
    return zstd.open(path)


def members(path: Path) -> Iterator[tuple[dict[str, Any], IO[bytes] | None]]:
    """What S3 said of each object, or its `damage`, and its content. The archive's own index ends them."""
    with open_archive(path) as stream, tarfile.open(fileobj=stream, mode="r|", errors="surrogateescape") as tar:
        for entry in tar:
            form = FORMS[0] if any(name.startswith(FORMS[0]) for name in entry.pax_headers) else FORMS[1]
            said = {name[len(form) :]: value for name, value in entry.pax_headers.items() if name.startswith(form)}
            if "index" in said:
                return
            known = said.pop("header-crc32", None)
            text = json.dumps([entry.name, entry.size, int(entry.mtime), said], sort_keys=True)
            if not said or not entry.isreg() or {"", ".", ".."} & set(entry.name.split("/")):
                yield {"damage": f"{entry.name} is no member of Sealift's"}, None
            elif form == FORMS[0] and known != f"{zlib.crc32(text.encode()):08x}":
                yield {"damage": f"the header of {entry.name} was altered"}, None
            else:
                yield described(entry, said), tar.extractfile(entry)
    raise Damaged("the archive ends before its own index: it was cut short")


def described(entry: tarfile.TarInfo, said: dict[str, str]) -> dict[str, Any]:
    """What S3 said of an object. What a header leaves out has the usual value."""
    return {
        "key": json.loads(said["key"]) if "key" in said else entry.name,
        "version_id": said.get("version-id"),
        "is_latest": said.get("is-latest", "true") == "true",
        "size_bytes": entry.size,
        "etag": said.get("etag"),
        "last_modified": int(entry.mtime),
        "storage_class": said.get("storage-class", "STANDARD"),
        "sha256": said.get("sha256"),
        "name": entry.name,
        **{name: json.loads(said.get(name) or "{}") for name in ("headers", "metadata", "tags", "checksums")},
    }


def restore(known: dict[str, Any], content: IO[bytes] | None, target: IO[bytes]) -> None:
    """Write a member's content, and prove it. Raises Damaged if it is not what was packed."""
    digest = hashlib.sha256()
    while content is not None and (data := content.read(PIECE_BYTES)):
        digest.update(data)
        target.write(data)
    known["proof"] = "SHA256" if known["sha256"] else None
    if known["sha256"] not in (None, digest.hexdigest()):
        raise Damaged(f"the content of {known['name']} was altered")


def restore_below(folder: Path, known: dict[str, Any], content: IO[bytes] | None) -> None:
    """Write a member's file. Nothing is left of one that is damaged."""
    place = folder / known["name"]
    place.parent.mkdir(parents=True, exist_ok=True)
    file = place.open("xb")
    try:
        with file:
            restore(known, content, file)
    except BaseException:
        place.unlink()
        raise


def write_list(path: Path, folder: Path | None, target: IO[str]) -> int:
    """Write what S3 said of each member, with a folder after its content. Returns 1 if something is damaged."""
    code = 0
    for known, content in members(path):
        try:
            if "damage" in known:
                raise Damaged(known["damage"])
            if folder is not None:
                restore_below(folder, known, content)
            print(json.dumps(known), file=target)
        except Damaged as error:
            print(f"{path}: {error}", file=sys.stderr)
            code = 1
    return code


def main(arguments: list[str]) -> int | str:
    """Returns the exit code, 2 for other arguments, or what is wrong: then it is 1."""
    try:
        match arguments:
            case ["list", archive]:
                return write_list(Path(archive), None, sys.stdout)
            case ["one", archive, key, *version] if len(version) < 2:
                for known, content in members(Path(archive)):
                    is_asked = known.get("version_id") == version[0] if version else known.get("is_latest")
                    if known.get("key") == key and is_asked:
                        restore(known, content, sys.stdout.buffer)
                        return 0
                return f"{archive} has no {key}"
            case ["all", archive, folder]:
                Path(folder).mkdir(parents=True, exist_ok=True)
                with (Path(folder) / "%members.jsonl").open("x") as listed:
                    return write_list(Path(archive), Path(folder), listed)
    except Exception as error:  # noqa: BLE001  whatever is wrong with the archive, nothing of the rest counts
        return f"{arguments[1]}: {error}"
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
