"""The pages of one small real world: copies, damage, a night, a dry run of expire, an archive and a restore."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from tests.demo.documents import ODD_KEYS, documents, fill
from tests.doubles.servers import REGION, Server

SOURCE, COPIES, COLD, BACK, LEDGER = (
    "parcel-documents",
    "parcel-copies",
    "parcel-cold",
    "parcel-back",
    "parcel-ledger",
)
COUNT = 150
LONG_KEY = "scans/" + "/".join(["container-" * 19] * 5) + ".tif"
NAMES = ("replicate", "verify", "reconcile", "night", "expire", "compact", "restore")
"""The pages, in the order in which they are made."""
SIDES = ("--source", f"s3://{SOURCE}", "--destination", f"s3://{COPIES}/copy/")
INVOICES = ("--source", f"s3://{SOURCE}/invoices/", "--destination", f"s3://{COPIES}/copy/invoices/")


def make_pages(server: Server, folder: Path) -> dict[str, str]:
    """Each of `NAMES` → its HTML. `folder` gets the policy.

    Raises RuntimeError if a command does not end as it should.
    """
    world = _World(server, folder)
    world.put(SOURCE, LONG_KEY, b"a long key")
    pages = {"replicate": world.page("replicate", *SIDES)}
    keys = [document.key for document in documents(COUNT)[:COUNT]]
    for key in keys[10:50:12]:
        world.put(COPIES, f"copy/{key}", b"damaged on the way")
    world.lose(keys[60], ODD_KEYS[1], LONG_KEY)
    pages["verify"] = world.page("verify", *SIDES, "--deep", exits=3)
    world.sealift("runs", "retry", "latest")

    world.settle()
    world.sealift("reconcile", *SIDES, "--margin", "0s", exits=0)
    world.lose(*keys[70:82:3], ODD_KEYS[0], ODD_KEYS[5])
    for key in keys[90:94]:
        world.put(COPIES, f"copy/{key}", b"written by somebody else")
    world.put(COPIES, "copy/orders/2025/left-over.json", b"nobody's")
    world.settle()
    found = world.sealift("reconcile", *SIDES, "--margin", "0s", "--repair", "--yes", exits=3)
    page = folder / "reconcile.html"
    world.sealift("runs", "show", found["run_id"], "--html", str(page))
    pages["reconcile"] = page.read_text()

    world.lose(*keys[100:103])
    world.settle()
    world.sealift("expire", *INVOICES, "--declare")  # the documents count after 10 s
    declared_at = time.monotonic()
    night = world.sealift("nightly", "--pair", "parcels", "--margin", "0s", exits=3)
    pages["night"] = world.read(night["report_html"])

    time.sleep(max(0.0, declared_at + 11 - time.monotonic()))
    pages["expire"] = world.page("expire", *INVOICES, "--grace", "0s", "--max-share", "100%")

    waybills = ("--source", f"s3://{SOURCE}/waybills/", "--destination", f"s3://{COLD}/waybills")
    pages["compact"] = world.page("compact", *waybills, "--pack-all")
    archives = ("--archives", f"s3://{COLD}/waybills", "--prefix", "waybills/2026/")
    pages["restore"] = world.page("restore", *archives, "--destination", f"s3://{BACK}")
    return pages


class _World:
    """Buckets with a carrier's documents, and a shell beside them. `runs`: job → id of its latest run."""

    def __init__(self, server: Server, folder: Path):
        self.client, self.runs = server.client(), dict[str, str]()
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SEALIFT_"))}
        policy = folder / "policy.yaml"
        self._environment = plain | server.environment() | {
            "SEALIFT_LEDGER": f"s3://{LEDGER}/sealift",
            "SEALIFT_POLICY": str(policy),
        }  # fmt: skip
        place = {"region": REGION}
        pair = {
            "name": "parcels",
            "source": place | {"bucket": SOURCE},
            "destination": place | {"bucket": COPIES, "prefix": "copy/"},
            "verify": {"rota": "1/3", "deep": "1/7"},
        }
        ledger = place | {"bucket": LEDGER, "prefix": "sealift/"}
        policy.write_text(yaml.safe_dump({"version": 1, "name": "parcels", "ledger": ledger, "pairs": [pair]}))
        fill(self.client, SOURCE, COUNT)
        for bucket in (COPIES, COLD, BACK, LEDGER):
            self.client.create_bucket(Bucket=bucket)

    def put(self, bucket: str, key: str, body: bytes) -> None:
        self.client.put_object(Bucket=bucket, Key=key, Body=body)

    def lose(self, *keys: str) -> None:
        """Remove copies."""
        for key in keys:
            self.client.delete_object(Bucket=COPIES, Key=f"copy/{key}")

    def settle(self) -> None:
        """Wait for a later second: S3's dates have no finer ones."""
        second = int(time.time())
        while int(time.time()) == second:
            time.sleep(0.02)

    def page(self, *arguments: str, exits: int = 0) -> str:
        """The page of the run that a command makes."""
        return self.read(self.sealift(*arguments, exits=exits)["report_html"])

    def read(self, uri: str) -> str:
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        data: bytes = self.client.get_object(Bucket=bucket, Key=key)["Body"].read()
        return data.decode()

    def sealift(self, *arguments: str, exits: int = 0) -> dict[str, Any]:
        """Run the command as a user would. Returns its document."""
        command = [sys.executable, "-m", "jobs", *arguments, "--json"]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        if done.returncode != exits:
            raise RuntimeError(
                f"sealift {' '.join(arguments)}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
            )
        document: dict[str, Any] = json.loads(done.stdout)
        if "run_id" in document:
            self.runs[arguments[0]] = document["run_id"]
        return document
