"""`make demo`: the whole path on one machine, against a real S3-compatible server on loopback.

SeaweedFS rather than moto's server: it checks copy preconditions and checksums as S3 does, so
that what the demo shows is what the guards really do; it is ready in about a second.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from typing import Any

from jobs.core.words import why
from jobs.reports.document import counts, iso_time
from jobs.reports.figures import human_dollars
from tests.demo import events_demo
from tests.demo.documents import MULTIPART_KEY, documents, fill
from tests.demo.narration import PAGES, expect, step
from tests.doubles.servers import Server, seaweedfs

SOURCE, REPLICA, LEDGER = "freight-documents", "freight-replica", "sealift-ledger"
DAMAGED = tuple(document.key for document in documents()[100:400:75])
LOST = documents()[500].key
STRAYED = tuple(document.key for document in documents()[600:900:100])
ENCRYPTED = tuple(document.key for document in documents()[50:950:7])
DELETED = tuple(document.key for document in documents()[53:950:14])
PAGE, ROLLED_BACK = PAGES / "report.html", PAGES / "rollback.html"


def main() -> int:
    """Run the demo; exit 1 when anything is not as it should be."""
    began = time.monotonic()
    with seaweedfs() as server:
        _scene(server)
        events_demo.scene()
        print(f"\nThe demo took {time.monotonic() - began:.0f} s.")
        if os.environ.get("KEEP"):
            _keep(server)
    return 0


def _scene(server: Server) -> None:
    client = server.client()
    step("Fill a bucket with a logistics company's documents: versions, tags, metadata, odd keys, a multipart object")
    count = fill(client, SOURCE)
    for bucket in (REPLICA, LEDGER):
        client.create_bucket(Bucket=bucket)
    print(f"{count:,} objects in s3://{SOURCE} at {server.endpoint}")

    step("List it into a report of S3 Inventory's own shape")
    inventory = sealift(server, "inventory", f"s3://{SOURCE}", "--destination", f"s3://{LEDGER}/inventory")
    expect(inventory["rows"] == count, f"the inventory has {inventory['rows']} rows")

    rows = ("--manifest", inventory["manifest"], "--destination", f"s3://{REPLICA}/copy/")
    step("Say what replicating it would take, and do nothing")
    plan = sealift(server, "replicate", *rows, "--dry-run")
    requests = ", ".join(f"{count:,} {kind}" for kind, count in plan["requests"].items() if count)
    print(f"{plan['rows']:,} objects, {requests} requests, {human_dollars(plan['total_dollars'])}")

    step("Replicate, guarded at both ends")
    replicated = sealift(server, "replicate", *rows)
    expect(
        replicated["outcomes"] == {"done": count}, f"every object copied: {counts(replicated['outcomes'], 'replicate')}"
    )
    expect(_carried(client), "metadata and tags came along, on the multipart object too")

    step("Once more: everything is there, so nothing is copied")
    again = sealift(server, "replicate", *rows)
    expect(again["outcomes"] == {"same": count}, f"every object proven the same: {counts(again['outcomes'])}")

    step(f"Damage {len(DAMAGED)} copies and lose one")
    for key in DAMAGED:
        body = bytearray(client.get_object(Bucket=REPLICA, Key=f"copy/{key}")["Body"].read())
        body[len(body) // 2] ^= 1
        client.put_object(Bucket=REPLICA, Key=f"copy/{key}", Body=bytes(body))
        print(f"  one bit of {key}")
    client.delete_object(Bucket=REPLICA, Key=f"copy/{LOST}")
    print(f"  all of {LOST}")

    step("Verify: it must find exactly those")
    found = sealift(server, "verify", *rows, exits=3)
    wanted = {"different": len(DAMAGED), "missing": 1, "verified": count - len(DAMAGED) - 1}
    expect(found["outcomes"] == wanted, f"verify found {counts(found['outcomes'])}; so its exit code is 3")
    failed = client.get_object(Bucket=LEDGER, Key=found["failures_manifest"].split("/", 3)[3].replace("parquet", "csv"))
    listing = failed["Body"].read().decode()
    expect(all(key in listing for key in (*DAMAGED, LOST)), "its failed rows name each of them")

    step("Retry the failed rows: only what verify proved wrong is replaced")
    retried = sealift(server, "runs", "retry", found["run_id"])
    expect(retried["outcomes"] == {"done": len(DAMAGED) + 1}, f"repaired: {counts(retried['outcomes'], 'replicate')}")

    step("Verify again, this time reading every byte")
    clean = sealift(server, "verify", *rows, "--deep")
    expect(clean["outcomes"] == {"verified": count}, f"clean: {counts(clean['outcomes'])}")

    step("A night later three copies are gone: reconcile both sides from their inventories, and repair")
    for key in STRAYED:
        client.delete_object(Bucket=REPLICA, Key=f"copy/{key}")
    sides = ("--source", f"s3://{SOURCE}", "--destination", f"s3://{REPLICA}/copy/", "--margin", "0s")
    night = sealift(server, "reconcile", *sides, "--repair", "--yes", exits=0)
    tally = {name: each["rows"] for name, each in night["categories"].items() if each["rows"]}
    listed = ", ".join(f"{count:,} {name}" for name, count in tally.items())
    expect(tally.get("missing") == len(STRAYED), f"without one request per object: {listed}")
    expect(night["repair"][0]["outcomes"] == {"done": len(STRAYED)}, "copied again, and verified")
    for each in night["unjudged"]:
        print(f"  not judged: {each['rows']} because {why(each)}")

    step("Ask the ledger in SQL")
    answer = run(server, "query", "SELECT job, state, rows, failures FROM runs ORDER BY run_id")
    expect(answer.returncode == 0, f"each run is a row\n{answer.stdout}{answer.stderr}")

    _roll_back(server, client)

    step("What people read")
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_bytes(client.get_object(Bucket=LEDGER, Key=night["report_html"].split("/", 3)[3])["Body"].read())
    print(f"The ledger lies in {night['ledger']}.\nOpen the report of the last reconciliation: {PAGE}")
    print(f"and that of the rollback: {ROLLED_BACK}")


def _roll_back(server: Server, client: Any) -> None:
    """Somebody encrypts and deletes originals. The versions that the bucket keeps bring them back, in place."""
    before = {key: _content(client, key) for key in (*ENCRYPTED, *DELETED)}
    time.sleep(1.1)  # S3 dates to the second
    at = iso_time(time.time())
    time.sleep(1.1)
    step(f"Ransomware: {len(ENCRYPTED)} originals are encrypted, {len(DELETED)} are deleted, and a note is left")
    for key in ENCRYPTED:
        client.put_object(Bucket=SOURCE, Key=key, Body=bytes(byte ^ 0x5A for byte in before[key][0]))
    for key in DELETED:
        client.delete_object(Bucket=SOURCE, Key=key)
    client.put_object(Bucket=SOURCE, Key="READ-ME-TO-PAY.txt", Body=b"one bitcoin, please")

    step("Say what would bring the bucket back to the minute before, and do nothing")
    back = ("rollback", "--source", f"s3://{SOURCE}", "--as-of", at)
    plan = sealift(server, *back, "--dry-run")["rollback"]
    wanted = {"keys": plan["keys"], "copy": len(ENCRYPTED), "hide": 1, "unhide": len(DELETED)}
    steps = [f"{count} to {name}" for name, count in plan.items() if name != "keys"]
    expect(plan == wanted, f"of {plan['keys']:,} keys {', '.join(steps)}")

    step("Roll back: in place, by copies on top and delete markers")
    done = sealift(server, *back)
    expect(done["outcomes"] == {"done": sum(wanted.values()) - plan["keys"]}, "each key is put back, and compared")
    after = {key: _content(client, key) for key in before}
    expect(after == before, "every byte, metadata and tags are those of before")
    shown = [each["Key"] for each in client.list_objects_v2(Bucket=SOURCE, Prefix="READ-ME").get("Contents", ())]
    expect(shown == [], "the note is hidden, and everything is there as an older version")
    ROLLED_BACK.parent.mkdir(parents=True, exist_ok=True)
    ROLLED_BACK.write_bytes(client.get_object(Bucket=LEDGER, Key=done["report_html"].split("/", 3)[3])["Body"].read())


def _content(client: Any, key: str) -> tuple[bytes, Any, Any]:
    found = client.get_object(Bucket=SOURCE, Key=key)
    tags = client.get_object_tagging(Bucket=SOURCE, Key=key)["TagSet"]
    return found["Body"].read(), found["Metadata"], sorted(map(str, tags))


def _carried(client: Any) -> bool:
    head = client.head_object(Bucket=REPLICA, Key=f"copy/{MULTIPART_KEY}")
    tags = client.get_object_tagging(Bucket=REPLICA, Key=f"copy/{MULTIPART_KEY}")["TagSet"]
    return head["Metadata"] == {"scanner": "gate-4"} and tags == [{"Key": "class", "Value": "scan"}]


def sealift(server: Server, *arguments: str, exits: int = 0) -> dict[str, Any]:
    """Run the command with --json; its document."""
    result = run(server, *arguments, "--json")
    expect(result.returncode == exits, f"exit code {result.returncode}\n{result.stderr}")
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def run(server: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would."""
    print(f"$ sealift {shlex.join(arguments)}", flush=True)
    environment = os.environ | server.environment() | {"SEALIFT_LEDGER": f"s3://{LEDGER}/ledger"}
    command = [sys.executable, "-m", "jobs", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def _keep(server: Server) -> None:
    print("\nThe server goes on until you press Ctrl-C. To play with it:\n")
    print(f"  export PATH={shlex.quote(os.path.dirname(sys.executable))}:$PATH\n  unset AWS_PROFILE AWS_SESSION_TOKEN")
    for name, value in (server.environment() | {"SEALIFT_LEDGER": f"s3://{LEDGER}/ledger"}).items():
        print(f"  export {name}={shlex.quote(value)}")
    print(f"  sealift runs list\n  sealift verify --source s3://{SOURCE} --destination s3://{REPLICA}/copy/")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        print("\nStopped.")


if __name__ == "__main__":
    sys.exit(main())
