"""Report documents as runs and reconciliations write them, and a key that tries to be something else."""

from __future__ import annotations

from typing import Any

from jobs.core.category import FINDINGS
from jobs.core.model import Location
from jobs.core.run import Plan, RunSpec, RunState, ShardSummary, Side
from jobs.reports.document import iso_time, summarize, summarize_reconcile

MIDNIGHT = 1_764_028_800.0  # 2025-11-25T00:00:00Z
DAY = 86_400.0
GIB = 1 << 30

HOSTILE = "a/<script>alert('x')</script>\"'>&amp;\n\u202egnp.exe\\ {{ 7*7 }}"
HOSTILE_SHOWN = "a/<script>alert('x')</script>\"'>&amp;\\n\\u202egnp.exe\\\\ {{ 7*7 }}"


def reconciliation(day: int = 0, *, missing: int = 1_204, **changes: Any) -> dict[str, Any]:
    """A reconcile report of some day; `missing=0` leaves no finding."""
    found = missing > 0
    categories = {
        "missing": (missing, missing * 3_400_000),
        "different": (17 * found, 92_000_000 * found),
        "stale": (203 * found, 1_310_000_000 * found),
        "extra": (41 * found, 5_000 * found),
        "in flight": (812, 2_600_000_000),
        "unverifiable": (3_020, 410 * GIB),
        "excluded": (120_000, 7_000_000),
        "same": (4_874_703, 38_700 * GIB),
    }
    categories = changes.pop("categories", categories)
    begun = MIDNIGHT + day * DAY + 10_200
    arguments: dict[str, Any] = {
        "categories": {name: {"rows": rows, "bytes": size} for name, (rows, size) in categories.items()},
        "findings": sum(rows for name, (rows, _) in categories.items() if name in FINDINGS),
        "source": inventory("photos-primary", begun - 97_500, 4_999_959, "Parquet"),
        "destination": inventory("photos-replica", begun - 18_420, 4_998_796, "ORC"),
        "margin_seconds": 900.0,
        "differences": {"parquet": _uri("differences.parquet"), "csv": _uri("differences.csv")},
        "prefixes": [
            prefix("albums/2025/11/", 1_303, 5_010_000_000),
            prefix("exports/<b>raw</b>/\u202etpl/", 121, 452_000_000),
            prefix("", 41, 5_000),
        ]
        if found
        else [],
        "unjudged": [unjudged("nothing_comparable", "no MD5: in parts", 3_020), unjudged("replication", "PENDING", 12)],
        "limits": [
            "the report of photos-replica has no EncryptionStatus: an ETag was taken for an MD5 if it looks like one"
        ],
        "report": _uri("report.json"),
        "report_html": _uri("report.html"),
    }
    return summarize_reconcile(f"{_stamp(begun)}-reconcile-1f3a9c", arguments | changes, begun, begun + 94.2)


def repaired(*, is_whole: bool = False) -> dict[str, Any]:
    """A reconciliation whose missing and stale rows were repaired, some of them or all that was found."""
    if is_whole:
        after = {"rows": 1_204, "left": 0, "categories": {"missing": {"repaired": 1_204, "left": 0}}}
        found = {"missing": (1_204, 1), "same": (9, 1)}
        return reconciliation(categories=found, unjudged=[], repaired=after, next_steps=[])
    before, left = {"missing": 1_204, "different": 17, "stale": 203, "extra": 41}, {"missing": 4, "stale": 0}
    left = {name: left.get(name, rows) for name, rows in before.items()}
    categories = {name: {"repaired": rows - left[name], "left": left[name]} for name, rows in before.items()}
    after = {"rows": 1_403, "left": 62, "categories": categories}
    return reconciliation(repaired=after, next_steps=["Look at the 17 objects that differ: sealift reconcile --repair"])


def run(
    outcomes: dict[str, int] | None = None, state: RunState = RunState.COMPLETE, day: int = 0, **details: Any
) -> dict[str, Any]:
    """A replicate run's report, as the command line makes it."""
    outcomes = {"done": 98_213, "same": 1_700, "blocked": 87} if outcomes is None else outcomes
    begun = MIDNIGHT + day * DAY
    spec = RunSpec(
        run_id=f"{_stamp(begun)}-replicate-0b77e1",
        job="replicate",
        created_at=begun,
        source=Side(Location.parse("s3://photos-primary/albums/")),
        destination=Side(Location.parse("s3://photos-replica/albums/")),
        manifest="listing of s3://photos-primary/albums/",
    )
    plan = Plan(
        rows=100_000,
        size_bytes=310 * GIB,
        shards=(ShardSummary(100_000, 310 * GIB),),
        excluded={"--older-than": 312},
        requests={"copy": 100_000, "head": 4_000, "list": 0},
        dollars={"requests": 0.5016, "transfer": 6.2},
        price_table="aws-2025-11",
        seconds=1_260.0,
    )
    arguments: dict[str, Any] = {
        "evidence": {"checksum": 60_000, "md5_etag": 39_000, "content": 913},
        "reasons": [
            {"status": "blocked", "reason": "AccessDenied: kms:Decrypt", "rows": 61},
            {"status": "blocked", "reason": "SlowDown after 8 tries <img src=x>", "rows": 26},
        ],
        "prefixes": [
            {"prefix": "albums/2025/", "category": "blocked", "rows": 1, "bytes": 5},
            {"prefix": "", "category": "blocked", "rows": 1, "bytes": 0},
        ],
        "attempts": 8,
        "exit_codes": [0],
        "failures_manifest": _uri("failures.parquet"),
        "report": _uri("report.json"),
        "ledger": "s3://ledger/sealift",
    }
    return summarize(spec, plan, state, outcomes, 309 * GIB, begun + 1_544.2, **(arguments | details))


def dry_expire() -> dict[str, Any]:
    """The report of a dry run of expire, one of whose reasons has a long URI."""
    place = "s3://photos-replica/albums/2025/11/"
    shown = [
        {
            "key": f"albums/2025/11/IMG_{number:05d}.heic",
            "version_id": None,
            "size_bytes": 3_400_000,
            "status": "left",
            "evidence": "md5_etag",
            "copy": f"{place}IMG_{number:05d}.heic",
        }
        for number in range(30)
    ]
    reason = (
        f"nothing proves now that its copy is the same: {place}IMG_without_any_place_to_break.heic is another object"
    )
    reasons = [
        {"status": "left", "reason": "deleted", "detail": "removed", "rows": 40},
        {"status": "left", "reason": "deleted", "detail": "hidden", "rows": 9},
        {"status": "blocked", "reason": reason, "rows": 1},
    ]
    deletions = {
        "parquet": _uri("deletions.parquet"),
        "csv": _uri("deletions.csv"),
        "rows": 49,
        "bytes": 9,
        "hidden": 9,
        "shown": shown,
    }
    return run({"left": 49, "blocked": 1}, reasons=reasons, dry_run=True, deletions=deletions) | {"job": "expire"}


def finding(key: str, category: str = "missing", **known: Any) -> dict[str, Any]:
    """A row of the findings, unknown where nothing is said."""
    sides = [f"{side}_{name}" for side in ("source", "destination") for name in ("size_bytes", "etag", "last_modified")]
    names = ["destination_key", "version_id", *sides]
    return {"key": key, "category": category, "reason": "", **dict.fromkeys(names)} | known


def findings(count: int = 40) -> list[dict[str, Any]]:
    """Findings of all kinds, the first with the hostile key."""
    md5, other = "9b2cf535f27731c974343645a3985328", "d41d8cd98f00b204e9800998ecf8427e-12"
    known = {"source_size_bytes": 3_400_000, "source_etag": md5, "source_last_modified": MIDNIGHT - 3 * DAY}
    there = {
        "destination_size_bytes": 2_100_000,
        "destination_etag": other,
        "destination_last_modified": "2025-11-02T04:05:06Z",
    }
    kinds = [
        ("missing", "copy_missing", known),
        ("different", "size_differs", known | there),
        (
            "stale",
            "size_differs",
            known | there | {"version_id": "3HL4kqtJlcpXroDTDm"},
        ),
        ("extra", "source_gone", there),
    ]
    rows = [finding(HOSTILE, "missing", reason="copy_missing", **known)]
    for number in range(1, count):
        category, reason, details = kinds[number % 4]
        key = f"albums/2025/11/{number % 30:02d}/IMG_{number:05d}.heic"
        mapped = {"destination_key": f"copy/{key}"} if number % 5 == 0 else {}
        rows.append(finding(key, category, reason=reason, **details | mapped))
    return rows


def prefix(name: str, rows: int, size_bytes: int) -> dict[str, Any]:
    return {"prefix": name, "category": None, "rows": rows, "bytes": size_bytes}


def unjudged(reason: str, detail: str, rows: int) -> dict[str, Any]:
    return {"reason": reason, "detail": detail, "rows": rows}


def inventory(bucket: str, created_at: float, rows: int, form: str) -> dict[str, Any]:
    at = iso_time(created_at)
    manifest = f"s3://inventories/{bucket}/daily/{at[:10]}T00-00Z/manifest.json"
    said = {"manifest": manifest, "created_at": at, "format": form, "rows": rows}
    return {"bucket": bucket, "location": f"s3://{bucket}"} | said


def _uri(name: str) -> str:
    return f"s3://ledger/sealift/runs/20251125T025000Z-reconcile-1f3a9c/{name}"


def _stamp(epoch_seconds: float) -> str:
    return iso_time(epoch_seconds).replace("-", "").replace(":", "")
