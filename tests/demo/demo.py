"""`make demo`: the whole path on one machine, against a real S3-compatible server on loopback.

SeaweedFS rather than moto's server: it checks copy preconditions and checksums as S3 does, so
that what the demo shows is what the guards really do; it is ready in about a second.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Mapping
from typing import Any

from jobs.core.words import why
from jobs.reports.document import counts, iso_time
from jobs.reports.figures import human_dollars
from tests.demo import events_demo
from tests.demo.documents import documents, fill
from tests.demo.narration import PAGES, expect, policy_text, run, sealift, step
from tests.doubles.servers import seaweedfs

SOURCE, REPLICA, LEDGER, DRILLS = "freight-documents", "freight-replica", "sealift-ledger", "freight-drills"
DAMAGED = tuple(document.key for document in documents()[100:400:75])
LOST = documents()[500].key
STRAYED = tuple(document.key for document in documents()[600:900:100])
ENCRYPTED = tuple(document.key for document in documents()[50:950:7])
DELETED = tuple(document.key for document in documents()[53:950:14])
POLICY = PAGES / "policy.yaml"


def main() -> int:
    """Run the demo; exit 1 when anything is not as it should be."""
    began = time.monotonic()
    PAGES.mkdir(parents=True, exist_ok=True)
    with seaweedfs() as server:
        environment = server.environment() | {"SEALIFT_LEDGER": f"s3://{LEDGER}/ledger"}
        _scene(environment, server.client())
        events_demo.scene()
        print(f"\nThe demo took {time.monotonic() - began:.0f} s.")
        if os.environ.get("KEEP"):
            _keep(environment)
    return 0


def _scene(environment: Mapping[str, str], client: Any) -> None:
    step("Fill a bucket with a logistics company's documents: versions, tags, metadata, odd keys, a multipart object")
    count = fill(client, SOURCE)
    for bucket in (REPLICA, LEDGER):
        client.create_bucket(Bucket=bucket)
    client.put_bucket_versioning(Bucket=REPLICA, VersioningConfiguration={"Status": "Enabled"})
    print(f"{count:,} objects in s3://{SOURCE} at {environment['AWS_ENDPOINT_URL_S3']}")

    step("List it into a report of S3 Inventory's own shape")
    inventory = sealift(environment, "inventory", f"s3://{SOURCE}", "--destination", f"s3://{LEDGER}/inventory")
    expect(inventory["rows"] == count, f"the inventory has {inventory['rows']} rows")

    rows = ("--manifest", inventory["manifest"], "--destination", f"s3://{REPLICA}/copy/")
    step("Say what replicating it would take, and do nothing")
    plan = sealift(environment, "replicate", *rows, "--dry-run")
    requests = ", ".join(f"{count:,} {kind}" for kind, count in plan["requests"].items() if count)
    print(f"{plan['rows']:,} objects, {requests} requests, {human_dollars(plan['total_dollars'])}")

    step("Replicate, guarded at both ends")
    replicated = sealift(environment, "replicate", *rows)
    expect(
        replicated["outcomes"] == {"done": count}, f"every object copied: {counts(replicated['outcomes'], 'replicate')}"
    )

    step("Once more: everything is there, so nothing is copied")
    again = sealift(environment, "replicate", *rows)
    expect(again["outcomes"] == {"same": count}, f"every object proven the same: {counts(again['outcomes'])}")

    step(f"Damage {len(DAMAGED)} copies and lose one")
    for key in DAMAGED:
        body = bytearray(client.get_object(Bucket=REPLICA, Key=f"copy/{key}")["Body"].read())
        body[len(body) // 2] ^= 1
        client.put_object(Bucket=REPLICA, Key=f"copy/{key}", Body=bytes(body))
    client.delete_object(Bucket=REPLICA, Key=f"copy/{LOST}")

    step("Verify: it must find exactly those")
    found = sealift(environment, "verify", *rows, exits=3)
    wanted = {"different": len(DAMAGED), "missing": 1, "verified": count - len(DAMAGED) - 1}
    expect(found["outcomes"] == wanted, f"verify found {counts(found['outcomes'])}; so its exit code is 3")

    step("Retry the failed rows: only what verify proved wrong is replaced")
    retried = sealift(environment, "runs", "retry", found["run_id"])
    expect(retried["outcomes"] == {"done": len(DAMAGED) + 1}, f"repaired: {counts(retried['outcomes'], 'replicate')}")

    step("Verify again, this time reading every byte")
    clean = sealift(environment, "verify", *rows, "--deep")
    expect(clean["outcomes"] == {"verified": count}, f"clean: {counts(clean['outcomes'])}")

    step("A night later three copies are gone: reconcile both sides from their inventories, and repair")
    for key in STRAYED:
        client.delete_object(Bucket=REPLICA, Key=f"copy/{key}")
    sides = ("--source", f"s3://{SOURCE}", "--destination", f"s3://{REPLICA}/copy/", "--margin", "0s")
    night = sealift(environment, "reconcile", *sides, "--repair", "--yes", exits=0)
    tally = {name: each["rows"] for name, each in night["categories"].items() if each["rows"]}
    listed = ", ".join(f"{count:,} {name}" for name, count in tally.items())
    expect(tally.get("missing") == len(STRAYED), f"without one request per object: {listed}")
    expect(night["repair"][0]["outcomes"] == {"done": len(STRAYED)}, "copied again, and verified")
    for each in night["unjudged"]:
        print(f"  not judged: {each['rows']} because {why(each)}")

    step("Ask the ledger in SQL")
    answer = run(environment, "query", "SELECT job, state, rows, failures FROM runs ORDER BY run_id")
    expect(answer.returncode == 0, f"each run is a row\n{answer.stdout}{answer.stderr}")

    rolled_back, drilled = _roll_back(environment, client), _drill(environment, client)

    step("What people read")
    print(f"The ledger lies in {night['ledger']}.")
    for name, document in {"reconcile": night, "rollback": rolled_back, "drill": drilled}.items():
        page = PAGES / f"{name}.html"
        page.write_bytes(client.get_object(Bucket=LEDGER, Key=document["report_html"].split("/", 3)[3])["Body"].read())
        print(f"Open the page of {name}: {page}")


def _roll_back(environment: Mapping[str, str], client: Any) -> dict[str, Any]:
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
    plan = sealift(environment, *back, "--dry-run")["rollback"]
    wanted = {"keys": plan["keys"], "copy": len(ENCRYPTED), "hide": 1, "unhide": len(DELETED)}
    steps = [f"{count} to {name}" for name, count in plan.items() if name != "keys"]
    expect(plan == wanted, f"of {plan['keys']:,} keys {', '.join(steps)}")

    step("Roll back: in place, by copies on top and delete markers")
    done = sealift(environment, *back)
    expect(done["outcomes"] == {"done": sum(wanted.values()) - plan["keys"]}, "each key is put back, and compared")
    after = {key: _content(client, key) for key in before}
    expect(after == before, "every byte, metadata and tags are those of before")
    shown = [each["Key"] for each in client.list_objects_v2(Bucket=SOURCE, Prefix="READ-ME").get("Contents", ())]
    expect(shown == [], "the note is hidden, and everything is there as an older version")
    return done


def _drill(environment: Mapping[str, str], client: Any) -> dict[str, Any]:
    """Would the copies have helped as well? A sample of them is restored on trial."""
    step("Drill: restore a sample of the copies to a bucket of its own, compare every byte, and remove it again")
    client.create_bucket(Bucket=DRILLS)
    client.put_bucket_versioning(Bucket=DRILLS, VersioningConfiguration={"Status": "Enabled"})
    POLICY.write_text(policy_text("freight", SOURCE, REPLICA, LEDGER, DRILLS))
    drill = sealift(environment, "drill", "--pair", "freight", "--policy", os.path.relpath(POLICY))
    expect(drill["exit_code"] == 0, drill["verdict"])
    expect("Versions" not in client.list_object_versions(Bucket=DRILLS), "nothing of it stays")
    return drill


def _content(client: Any, key: str) -> tuple[bytes, Any, Any]:
    found = client.get_object(Bucket=SOURCE, Key=key)
    tags = client.get_object_tagging(Bucket=SOURCE, Key=key)["TagSet"]
    return found["Body"].read(), found["Metadata"], sorted(map(str, tags))


def _keep(environment: Mapping[str, str]) -> None:
    print("\nThe server goes on until you press Ctrl-C. To play with it:\n")
    print(f"  export PATH={shlex.quote(os.path.dirname(sys.executable))}:$PATH\n  unset AWS_PROFILE AWS_SESSION_TOKEN")
    for name, value in environment.items():
        print(f"  export {name}={shlex.quote(value)}")
    print(f"  sealift runs list\n  sealift verify --source s3://{SOURCE} --destination s3://{REPLICA}/copy/")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        print("\nStopped.")


if __name__ == "__main__":
    sys.exit(main())
