"""Search for the latest complete inventory report below the folder where S3 delivers them.

    <prefix>/<source bucket>/<configuration>/2016-11-06T21-32Z/manifest.json, manifest.checksum
    <prefix>/<source bucket>/<configuration>/data/…, hive/…

A prefix that ends in `/` makes keys with `//`. Nothing here is normalised. Layout:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-location.html
"""

from __future__ import annotations

import re
from pathlib import Path

from jobs.core.model import Location
from jobs.errors import ManifestError
from jobs.inventory.report import Inventory, Place, open_inventory
from jobs.s3.listing import list_pages
from jobs.s3.store import Store

_DATED = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}-\d{2}Z")
_MANIFEST = "manifest.json"
DEPTH_MAX = 5
"""How many folders deep a dated folder is looked for: below a prefix, a bucket and a configuration,
and to spare."""


async def find_inventory(store: Store, uri: str) -> Inventory:
    """The report that `uri` (in S3, or a local path) names: a manifest.json, or the latest complete
    report below a folder. Its manifest.checksum is there and matches.

    Raises ManifestError when no complete report is there or several sources' reports are, a
    StoreError when S3 refuses.
    """
    place: Place = Location.parse(uri) if uri.startswith("s3://") else Path(uri.removeprefix("file://"))
    if str(place).lower().endswith(".json"):
        return await open_inventory(store, place)
    refused: list[str] = []
    chosen: Inventory | None = None
    for folder in sorted(await _dated(store, place), key=lambda each: (_name(each), str(each)), reverse=True):
        manifest = folder / _MANIFEST if isinstance(folder, Path) else folder._replace(key=folder.key + _MANIFEST)
        if chosen is not None and _configuration(chosen.manifest) == _configuration(manifest):
            continue
        try:
            inventory = await open_inventory(store, manifest)
        except ManifestError as error:
            refused.append(f"{_name(folder)}: {error}")
            continue
        if chosen is not None:
            raise ManifestError(
                f"{uri} holds reports of more than one configuration ({chosen.manifest} and {manifest})",
                advice="name the folder of one of them",
            )
        chosen = inventory
    if chosen is not None:
        return chosen
    why = f"; the latest is not: {refused[0]}" if refused else ""
    advice = "" if refused else "give a manifest.json, or a folder that holds reports"
    raise ManifestError(f"{uri} has no complete inventory report below it{why}", advice=advice)


def _configuration(manifest: Place) -> str:
    """The folder above a report's dated folder: whose reports these are."""
    return str(manifest).rsplit("/", 2)[0]


def _name(folder: Place) -> str:
    return str(folder).rstrip("/").rpartition("/")[2]


async def _dated(store: Store, place: Place) -> list[Place]:
    """Every dated folder from here on, found by its name. `data/` and `hive/` are not looked into."""
    if isinstance(place, Location) and place.key and not place.key.endswith("/"):
        place = place._replace(key=f"{place.key}/")
    found, level = list[Place](), [place]
    for _ in range(DEPTH_MAX + 1):
        found += [each for each in level if _DATED.fullmatch(_name(each))]
        deeper = [each for each in level if not _DATED.fullmatch(_name(each))]
        below = [folder for each in deeper for folder in await _folders(store, each)]
        level = [each for each in below if _name(each) not in ("data", "hive")]
    return found


async def _folders(store: Store, place: Place) -> list[Place]:
    if isinstance(place, Path):
        return [child for child in place.iterdir() if child.is_dir()] if place.is_dir() else []
    pages = list_pages(store, place, delimiter="/")
    return [place._replace(key=folder) async for page in pages for folder in page.prefixes]
