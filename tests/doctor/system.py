"""A healthy system: the account, the objects in its buckets, and the doctor at its front door."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from jobs.cli import run
from jobs.core.model import Attributes, ObjectRef
from jobs.s3.store import UNGUARDED
from tests.doctor.account import FakeAccount
from tests.doubles.memory_store import MemoryStore
from tests.doubles.nights import summary
from tests.doubles.policies import resolved

ROOT = Path(__file__).resolve().parents[2]
POLICY = ROOT / "policy.example.yaml"
HOUR = 3600.0


@dataclass
class System:
    """An account, its objects, and a shell beside it."""

    capture: Any
    account: FakeAccount = field(default_factory=FakeAccount)
    clock: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        self.store = MemoryStore(clock=lambda: self.clock)
        for bucket in self.account.buckets:
            self.store.create_bucket(bucket)
        self.put("example-ledger", "sealift/policy.json", resolved(POLICY.read_bytes()))
        for pair in ("scans", "customs", "tracking"):
            self.put_night(pair)
        places = {"example-scans": "fra", "example-customs-us": "iad", "example-hot-fra": "fra"}
        for bucket, place in (places | {"example-customs-copies": "dub", "example-hot-dub": "dub"}).items():
            self.put_report(f"example-inventory-{place}", bucket, time.time() - 20 * HOUR)

    def put(self, bucket: str, key: str, data: bytes) -> None:
        asyncio.run(self.store.put(ObjectRef(bucket, key), data, Attributes(), guard=UNGUARDED))

    def put_night(self, pair: str) -> None:
        """A night that ended well, 20 hours ago."""
        ended = datetime.now(UTC) - timedelta(hours=20)
        night = str((datetime.now(UTC) - timedelta(days=1)).date())
        document = summary(pair=pair, night=night, finished_at=ended, verdict="All is well.")
        self.put("example-ledger", f"sealift/nights/{pair}/{night}.json", msgspec.json.encode(document))

    def put_report(self, reports: str, bucket: str, created_at: float) -> None:
        folder = f"inventory/{bucket}/parcels/{datetime.fromtimestamp(created_at, UTC):%Y-%m-%dT%H-%MZ}"
        manifest = {
            "sourceBucket": bucket,
            "destinationBucket": f"arn:aws:s3:::{reports}",
            "version": "2016-11-30",
            "creationTimestamp": str(int(created_at * 1000)),
            "fileFormat": "CSV",
            "fileSchema": "Bucket, Key, Size",
            "files": [{"key": f"{folder}/a.csv.gz", "size": 9, "MD5checksum": "0" * 32}],
        }
        content = json.dumps(manifest).encode()
        self.put(reports, f"{folder}/manifest.json", content)
        self.put(reports, f"{folder}/manifest.checksum", hashlib.md5(content).hexdigest().encode())

    def remove(self, bucket: str, prefix: str) -> None:
        for entry in asyncio.run(self.store.list_versions(bucket, prefix)).entries:
            asyncio.run(self.store.delete(ObjectRef(bucket, entry.key, entry.version_id)))

    def versions(self) -> list[tuple[str, str, str | None]]:
        """Every version in every bucket."""
        found = []
        for bucket in self.account.buckets:
            entries = asyncio.run(self.store.list_versions(bucket, "", max_keys=1000)).entries
            found += [(bucket, each.key, each.version_id) for each in entries]
        return found

    def operations(self) -> set[str]:
        """What was asked of AWS, but for who asks: that needs no permission."""
        return {name.partition(":")[2] for name in self.account.asked} - {"GetCallerIdentity"}

    def doctor(self, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
        """(exit code, lines) of `sealift doctor`."""
        code = run(["doctor", "--policy", str(POLICY), "--json", *arguments])
        said = self.capture.readouterr()
        assert said.out, said.err
        document = json.loads(said.out)
        assert document["exit_code"] == code
        return code, document["lines"]
