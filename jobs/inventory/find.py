"""Search for an inventory report below the folder where S3 delivers them.

It finds the latest complete one, or that of a day.

    <prefix>/<source bucket>/<configuration>/2016-11-06T21-32Z/manifest.json, manifest.checksum
    <prefix>/<source bucket>/<configuration>/hive/dt=2016-11-06-21-32/symlink.txt
    <prefix>/<source bucket>/<configuration>/data/…

A prefix that ends in `/` makes keys with `//`. Nothing here is normalised. Layout:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-location.html
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from jobs.core.model import Location
from jobs.errors import ManifestError, UsageError
from jobs.inventory.report import Inventory, open_inventory
from jobs.s3.listing import list_folders
from jobs.s3.store import Store

_DATED = re.compile(r"(\d{4}-\d{2}-\d{2})T(\d{2}-\d{2})Z")
_HIVE = re.compile(r"(.*?)/?(?:hive/)?dt=(\d{4}-\d{2}-\d{2})-(\d{2}-\d{2})(?:/symlink\.txt|/)?")
_MANIFEST = "manifest.json"
DEPTH_MAX = 5
"""How many folders deep a dated folder is looked for: below a prefix, a bucket and a configuration,
and to spare."""


async def find_inventory(store: Store, uri: str, *, day: str | None = None) -> Inventory:
    """The report that `uri` (in S3, or a local path) names: a manifest.json, a Hive location, a
    folder with reports.

    Below a folder it takes the latest complete report: its manifest.checksum is there and
    matches. `day` (`YYYY-MM-DD`, UTC): only reports of that day. A Hive location
    (`…/hive/dt=2016-11-06-21-32/symlink.txt`) means the manifest.json of that minute.

    Raises UsageError for an invalid day, ManifestError when no complete report is there or
    several sources' reports are, a StoreError when S3 refuses.
    """
    wanted = _day(day)
    place = Location.parse(uri) if uri.startswith("s3://") else Path(uri.removeprefix("file://"))
    path = place.key if isinstance(place, Location) else str(place)
    if path.lower().endswith(".json"):
        return _of_day(await open_inventory(store, place), wanted)
    if hive := _HIVE.fullmatch(path):
        base, dated, minute = hive.groups()
        return _of_day(await open_inventory(store, _manifest(place, base, f"{dated}T{minute}Z")), wanted)
    if path.rstrip("/").endswith("/hive"):
        place = (
            place.parent if isinstance(place, Path) else Location(place.bucket, path.rstrip("/").removesuffix("hive"))
        )
    return await _latest(store, place, wanted, uri)


def _day(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007 - a day, not a moment
    except ValueError as error:
        raise UsageError(f"{text!r} is not a day", advice="write YYYY-MM-DD, as in 2026-11-25") from error


def _of_day(inventory: Inventory, day: date | None) -> Inventory:
    made = datetime.fromtimestamp(inventory.created_at, UTC).date()
    if day is not None and made != day:
        raise ManifestError(
            f"{inventory.manifest} is of {made}, not of {day}", advice="name the folder that holds all reports"
        )
    return inventory


def _manifest(place: Location | Path, base: str, dated: str) -> Location | Path:
    if isinstance(place, Path):
        return Path(base) / dated / _MANIFEST
    return Location(place.bucket, f"{base}/{dated}/{_MANIFEST}" if base else f"{dated}/{_MANIFEST}")


async def _latest(store: Store, place: Location | Path, day: date | None, uri: str) -> Inventory:
    folders: Sequence[tuple[str, Path | Location]]
    if isinstance(place, Path):
        folders = await asyncio.to_thread(_local_folders, place)
    else:
        folders = [folder async for folder in _folders(store, place)]
    dated = sorted(folders, key=lambda folder: (folder[0], str(folder[1])), reverse=True)
    if day is not None:
        dated = [folder for folder in dated if folder[0].startswith(day.isoformat())]
    refused: list[str] = []
    chosen: Inventory | None = None
    for minute, folder in dated:
        manifest = folder / _MANIFEST if isinstance(folder, Path) else Location(folder.bucket, folder.key + _MANIFEST)
        if chosen is not None and _configuration(chosen.manifest) == _configuration(manifest):
            continue
        try:
            inventory = await open_inventory(store, manifest)
        except ManifestError as error:
            refused.append(f"{minute}: {error}")
            continue
        if chosen is not None:
            raise ManifestError(
                f"{uri} holds reports of more than one configuration ({chosen.manifest} and {manifest})",
                advice="name the folder of one of them",
            )
        chosen = inventory
    if chosen is not None:
        return chosen
    when = f" of {day}" if day else ""
    why = f"; the latest is not: {refused[0]}" if refused else ""
    advice = "" if refused else "give a manifest.json, or a folder that holds reports"
    raise ManifestError(f"{uri} has no complete inventory report{when} below it{why}", advice=advice)


def _configuration(manifest: Location | Path) -> str:
    """The folder above a report's dated folder: whose reports these are."""
    return str(manifest).rsplit("/", 2)[0]


async def _folders(store: Store, place: Location) -> AsyncIterator[tuple[str, Location]]:
    """(minute, folder) of every dated folder below, found by its name.

    `data/` and `hive/` are not looked into.
    """
    prefixes = [place.key if not place.key or place.key.endswith("/") else place.key + "/"]
    if match := _DATED.fullmatch(prefixes[0].rstrip("/").rpartition("/")[2]):
        yield match[0], Location(place.bucket, prefixes[0])
        return
    for _ in range(DEPTH_MAX):
        deeper = []
        for prefix in prefixes:
            async for folder in list_folders(store, place.bucket, prefix):
                name = folder[len(prefix) : -1]
                if _DATED.fullmatch(name):
                    yield name, Location(place.bucket, folder)
                elif name not in ("data", "hive"):
                    deeper.append(folder)
        prefixes = deeper


def _local_folders(place: Path) -> list[tuple[str, Path]]:
    if _DATED.fullmatch(place.name):
        return [(place.name, place)]
    dated: list[tuple[str, Path]] = []
    level = [place]
    for _ in range(DEPTH_MAX):
        folders = [child for folder in level if folder.is_dir() for child in folder.iterdir() if child.is_dir()]
        dated += [(child.name, child) for child in folders if _DATED.fullmatch(child.name)]
        level = [c for c in folders if not _DATED.fullmatch(c.name) and c.name not in ("data", "hive")]
    return dated
