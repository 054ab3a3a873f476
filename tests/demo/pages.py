"""The pages of one small real world: copies, damage, a night, a dry run of expire, an archive, a restore, a drill."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tests.demo.documents import ODD_KEYS, documents, fill
from tests.demo.narration import policy_text, sealift
from tests.doubles.servers import Server

SOURCE, COPIES, COLD, BACK = "parcel-documents", "parcel-copies", "parcel-cold", "parcel-back"
DRILLS, LEDGER = "parcel-drills", "parcel-ledger"
COUNT = 150
LONG_KEY = "scans/" + "/".join(["container-" * 19] * 5) + ".tif"
SIDES = ("--source", f"s3://{SOURCE}", "--destination", f"s3://{COPIES}/copy/")
INVOICES = ("--source", f"s3://{SOURCE}/invoices/", "--destination", f"s3://{COPIES}/copy/invoices/")


def make_pages(server: Server, folder: Path) -> dict[str, str]:
    """The name of each page → its HTML. `folder` gets the policy.

    Ends the process with 1 if a command does not end as it should.
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

    world.client.put_bucket_versioning(Bucket=DRILLS, VersioningConfiguration={"Status": "Enabled"})
    pages["drill"] = world.page("drill", "--pair", "parcels", "--to", f"s3://{DRILLS}/", "--yes", exits=3)
    return pages


class _World:
    """Buckets with a carrier's documents, and a shell beside them."""

    def __init__(self, server: Server, folder: Path):
        self.client = server.client()
        policy = folder / "policy.yaml"
        settings = {"SEALIFT_LEDGER": f"s3://{LEDGER}/ledger", "SEALIFT_POLICY": str(policy)}
        self._environment = server.environment() | settings
        verify = {"rota": "1/3", "deep": "1/7"}
        policy.write_text(policy_text("parcels", SOURCE, COPIES, LEDGER, DRILLS, verify=verify))
        fill(self.client, SOURCE, COUNT)
        for bucket in (COPIES, COLD, BACK, DRILLS, LEDGER):
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
        return sealift(self._environment, *arguments, exits=exits)
