"""`sealift reconcile` on a real server: a pair damaged in every way there is, told apart, repaired, clean."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from jobs.reports.document import schema
from jobs.s3.checksums import full_object
from tests.end_to_end.conftest import Result, World
from tests.end_to_end.test_checksums_at_rest import report as checksum_report
from tests.end_to_end.test_checksums_at_rest import upload_in_parts
from tests.end_to_end.test_report_page import fetch
from tests.inventory.samples import deliver

NOW = ["--margin", "0s"]
"""Objects of this very second are judged, too."""


def pair(world: World) -> list[str]:
    return ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}"]


def settle() -> None:
    """The next listing begins in a later second than what was just written."""
    now = time.time()
    while time.time() < int(now) + 1.05:
        time.sleep(0.05)


def reconcile(world: World, *arguments: str) -> dict[str, Any]:
    settle()
    result = world.sealift("reconcile", *(arguments or pair(world)), *NOW, "--json")
    assert result.stdout, result.stderr
    return result.document | {"code": result.code}


def rows(report: dict[str, Any]) -> dict[str, int]:
    return {name: counts["rows"] for name, counts in report["categories"].items() if counts["rows"]}


def differences(world: World, report: dict[str, Any]) -> dict[str, tuple[str, str]]:
    result = world.sealift(
        "query", "SELECT key, category, reason FROM differences", "--run", report["run_id"], "--format", "json"
    )
    assert result.code == 0, result.stderr
    return {row["key"]: (row["category"], row["reason"]) for row in json.loads(result.stdout)}


def test_what_is_all_in_flight_is_not_judged(world: World) -> None:
    world.put("a")
    young = world.sealift("reconcile", *pair(world))
    assert (young.code, "the only row is in flight, newer than 15 min" in young.stdout) == (3, True)
    settle()
    missing = world.sealift("reconcile", *pair(world), *NOW)
    command = f"sealift reconcile {' '.join(pair(world))} --margin 0s --repair\n"
    assert (missing.code, command in missing.stdout) == (3, True)
    repaired = world.sealift("reconcile", *pair(world), *NOW, "--repair")
    assert (repaired.code, "Copy what is missing" in repaired.stdout) == (0, False)
    assert "After the repair: The only finding is repaired and verified." in repaired.stdout
    world.client.put_object(Bucket=world.destination, Key="b", Body=b"extra")
    settle()
    extra = world.sealift("reconcile", *pair(world), *NOW)
    assert (extra.code, "1 extra" in extra.stdout, "--repair" in extra.stdout) == (3, True, False)


@pytest.mark.parametrize("places", ["map", "sides"])
def test_inventories_of_which_all_is_excluded_are_no_success(world: World, places: str) -> None:
    """As with a prefix that is mistyped: here nobody has a copy, and no difference was found."""
    world.put("docs/a")
    world.client.put_object(Bucket=world.destination, Key="docs/b", Body=b"another")
    sides = []
    for side, bucket in (("source", world.source), ("destination", world.destination)):
        made = world.sealift("inventory", f"s3://{bucket}", "--to", f"s3://{world.ledger}/inventories", "--json")
        sides += [f"--{side}-inventory", made.document["manifest"]]
        sides += [f"--{side}", f"s3://{bucket}/dosc/"] if places == "sides" else []
    if places == "map":
        sides += ["--map", "dosc/=docs/2026/"]
    settle()
    result = world.sealift("reconcile", *sides, "--margin", "0s")
    assert (result.code, "Nothing was compared: all 2 rows are excluded" in result.stdout) == (3, True), result.stdout
    assert world.sealift("reconcile", *sides, "--margin", "0s", "--allow-empty").code == 0


def test_a_map_that_leads_out_of_the_places_is_refused(world: World) -> None:
    """What the places do not hold is listed at neither side, and was then no difference: exit code 0."""
    world.put("a/1")
    world.client.put_object(Bucket=world.destination, Key="a/1", Body=b"content")
    world.put("b/1", b"without a copy")
    maps = ["--map", "a/=a/", "--map", "b/=b/", "--margin", "0s"]
    for place in (f"{world.source}/a/", world.source):
        refused = world.sealift(
            "reconcile", "--source", f"s3://{place}", "--destination", f"s3://{world.destination}/a/", *maps
        )
        assert (refused.code, "'b/' at the" in refused.stderr) == (2, True), refused.stdout
    whole = ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}", *maps]
    assert world.sealift("reconcile", *whole, "--json").document["categories"]["missing"]["rows"] == 1


@pytest.fixture
def damaged(world: World) -> World:
    """Forty objects and their copies; some then changed, lost, added, or overwritten."""
    for number in range(40):
        world.put(f"docs/k{number:02d}", f"content {number}".encode())
    assert world.run("replicate")["code"] == 0
    settle()
    client, destination = world.client, world.destination
    client.delete_object(Bucket=destination, Key="docs/k03")
    client.delete_object(Bucket=destination, Key="docs/k04")
    client.put_object(Bucket=destination, Key="docs/k05", Body=b"CONTENT 5")  # the same size
    client.put_object(Bucket=destination, Key="docs/k06", Body=b"another size")
    world.put("docs/k07", b"a newer original")
    world.put("docs/new", b"never copied")
    client.put_object(Bucket=destination, Key="docs/extra", Body=b"nobody's")
    return world


FOUND = {"same": 35, "missing": 3, "different": 2, "stale": 1, "extra": 1}


@pytest.mark.slow
@pytest.mark.parametrize("is_json", [False, True])
def test_a_repair_under_a_limit_says_which_sizes_its_price_lacks(world: World, tmp_path: Path, is_json: bool) -> None:
    """A repair shows no plan, and inventories may leave out sizes."""
    world.put("a")
    world.put("b")
    inventories = []
    for side, bucket, keys in (("source", world.source, "ab"), ("destination", world.destination, "c")):
        listed: list[dict[str, Any]] = [{"Key": key, "LastModifiedDate": 1_700_000_000} for key in keys]
        manifest = deliver(
            tmp_path, bucket, listed, fields=("Bucket", "Key", "LastModifiedDate"), created_at=time.time()
        )
        inventories += [f"--{side}-inventory", str(manifest)]
    command = ["reconcile", *inventories, *NOW, "--repair", "--yes", *["--json"] * is_json]
    repaired = world.sealift(*command, "--max-cost", "1")
    assert world.copy_of("a") == b"content", repaired.stderr
    assert repaired.stderr.count("2 rows of unknown size are not in this price") == 1
    assert "unknown size" not in world.sealift(*command).stderr


@pytest.mark.slow
def test_every_damage_is_told_apart_and_a_repair_leaves_what_nobody_may_delete(damaged: World) -> None:
    found = reconcile(damaged)
    assert (found["code"], found["state"], found["findings"], rows(found)) == (3, "complete", 7, FOUND)
    told = differences(damaged, found)
    assert "MD5s differ" in told.pop("docs/k05")[1]
    assert told == {
        "docs/k03": ("missing", "not at the destination"),
        "docs/k04": ("missing", "not at the destination"),
        "docs/new": ("missing", "not at the destination"),
        "docs/k06": ("different", "sizes differ"),
        "docs/k07": ("stale", "sizes differ"),
        "docs/extra": ("extra", "not at the source"),
    }
    jsonschema.validate(json.loads(fetch(damaged, found["report"])), schema())
    assert "docs/k05" in fetch(damaged, found["report_html"])
    assert fetch(damaged, found["differences"]["csv"]).count("\n") == 8

    repaired = reconcile(damaged, *pair(damaged), "--repair", "--yes")
    assert [each["outcomes"] for each in repaired["repair"]] == [{"copied": 4}]
    assert [each["outcomes"] for each in repaired["verification"]] == [{"verified": 4}]
    assert repaired["code"] == 3  # different and extra are still there
    left = reconcile(damaged)
    assert rows(left) == {"same": 39, "different": 2, "extra": 1}
    assert_page_of_repair(damaged, repaired)

    assert reconcile(damaged, *pair(damaged), "--repair", "--repair-different", "--yes")["repair"][0]["outcomes"] == {
        "copied": 2
    }
    damaged.client.delete_object(Bucket=damaged.destination, Key="docs/extra")  # a person's decision
    clean = reconcile(damaged)
    assert (clean["code"], rows(clean)) == (0, {"same": 41})
    assert damaged.copy_of("docs/k05") == b"content 5"
    listed = damaged.sealift("runs", "list", "--json").document["runs"]
    assert listed[0]["outcomes"] == {"same": 41}
    assert [run["state"] for run in listed] == ["complete"] * len(listed)
    assert damaged.sealift("runs", "show", clean["run_id"], "--json").code == 0
    assert damaged.sealift("runs", "show", clean["run_id"], "--json").code == 0


def assert_page_of_repair(world: World, report: dict[str, Any]) -> None:
    """The page, the document and `runs show` agree on what was repaired, and on what is left."""
    categories = {
        "different": {"repaired": 0, "left": 2},
        "extra": {"repaired": 0, "left": 1},
        "missing": {"repaired": 3, "left": 0},
        "stale": {"repaired": 1, "left": 0},
    }
    repaired = report["repaired"]
    assert (repaired["rows"], repaired["left"], repaired["categories"]) == (4, 3, categories)
    assert [row["key"] for row in repaired["shown"]] == ["docs/k03", "docs/k04", "docs/k07", "docs/new"]
    assert [each["job"] for each in repaired["runs"]] == ["replicate", "verify"]
    page = fetch(world, report["report_html"]).replace("\N{NO-BREAK SPACE}", " ")
    head = page[: page.index("</header>")]
    assert f"reconcile, repaired · s3://{world.source}/ → s3://{world.destination}/ · " in head
    assert "3 of 7 findings still need attention: 1 extra, 2 different. 4 are repaired and verified." in head
    assert "--repair --margin 0s --repair-different</code>" in page  # what to do now
    findings = page[page.index('id="findings-table"') :]
    assert [key in findings for key in ("docs/k05", "docs/k06", "docs/extra")] == [True] * 3
    assert "docs/k03" not in findings
    shown = world.sealift("runs", "show", report["run_id"])
    assert (shown.code, "After the repair: 3 of 7 findings still need" in shown.stdout) == (3, True)


def test_a_page_after_a_repair_that_left_nothing_is_well(world: World) -> None:
    world.put("docs/a")
    world.put("docs/b")
    sides = ["--source", f"s3://{world.source}/docs/", "--destination", f"s3://{world.destination}/copies/"]
    report = reconcile(world, *sides, "--repair", "--yes")
    assert (report["code"], report["repaired"]["left"], report["next_steps"]) == (0, 0, [])
    page = fetch(world, report["report_html"]).replace("\N{NO-BREAK SPACE}", " ")
    assert '<header class="good">' in page
    assert f"✓ reconcile, repaired · s3://{world.source}/docs/ → s3://{world.destination}/copies/ · " in page
    assert "All 2 findings are repaired and verified." in page
    assert world.sealift("runs", "show", report["run_id"]).code == 0


def test_what_has_no_original_is_not_repaired_by_the_copy_of_its_key(world: World) -> None:
    """The version without an original has no version id of the source, as the null version has none."""
    for bucket in (world.source, world.destination):
        world.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        if bucket == world.source:
            world.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    world.client.put_object(Bucket=world.source, Key="k", Body=b"the null version")
    world.client.put_object(Bucket=world.destination, Key="k", Body=b"without an original")
    report = reconcile(world, *pair(world), *NOW, "--versions", "all", "--repair", "--yes")
    assert report["code"] == 3
    assert report["repaired"]["categories"] == {
        "extra": {"repaired": 0, "left": 1},
        "missing": {"repaired": 1, "left": 0},
    }
    assert [step.partition(".")[0] for step in report["next_steps"]] == ["Look at the object without an original"]
    assert world.sealift("runs", "show", report["run_id"]).code == 3


def test_a_page_tells_what_a_repair_could_not_do_and_a_lost_page_comes_back(world: World, tmp_path: Path) -> None:
    world.put("a")
    world.put("b")
    refused = world.sealift("reconcile", *pair(world), *NOW, "--repair", "--yes", "--max-objects", "1")
    assert (refused.code, "--max-objects" in refused.stderr) == (2, True)
    [run] = world.sealift("runs", "list", "--json").document["runs"]
    file = tmp_path / "page.html"
    assert world.sealift("runs", "show", run["run_id"], "--html", str(file)).code == 3
    page = file.read_text()
    assert ('<header class="bad">' in page, "Copy what is missing or stale" in page) == (True, True)
    world.client.delete_object(Bucket=world.ledger, Key=f"runs/runs/{run['run_id']}/report.html")
    assert world.sealift("runs", "show", run["run_id"], "--html", str(file)).code == 3
    assert '<header class="bad">' in file.read_text()


@pytest.mark.slow
def test_confirm_asks_s3_before_it_calls_anything_a_finding(damaged: World) -> None:
    settle()
    manifests = []
    for bucket in (damaged.source, damaged.destination):
        made = damaged.sealift("inventory", f"s3://{bucket}", "--to", f"s3://{damaged.ledger}/inventories", "--json")
        manifests.append(made.document["manifest"])
    # Mended after the reports were made: no finding any more.
    damaged.client.copy_object(
        Bucket=damaged.destination, Key="docs/k03", CopySource={"Bucket": damaged.source, "Key": "docs/k03"}
    )
    damaged.client.delete_object(Bucket=damaged.destination, Key="docs/extra")
    given = ["--source-inventory", manifests[0], "--destination-inventory", manifests[1]]
    suspected = reconcile(damaged, *given)
    assert (suspected["findings"], suspected["confirmed"]) == (7, None)
    confirmed = reconcile(damaged, *given, "--confirm")
    assert confirmed["confirmed"] == {"asked": 7, "upheld": 5, "dismissed": 2, "unanswered": 0, "unasked": 0}
    assert confirmed["findings"] == 5
    assert set(differences(damaged, confirmed)) - {"docs/k03"} == {
        "docs/k04",
        "docs/new",
        "docs/k05",
        "docs/k06",
        "docs/k07",
    }
    bounded = reconcile(damaged, *given, "--confirm", "--confirm-limit", "3")
    assert (bounded["confirmed"]["asked"], bounded["confirmed"]["unasked"]) == (3, 4)


def test_prefixes_are_mapped_and_what_lies_outside_is_excluded(world: World) -> None:
    for key in ("a/1", "a/2", "b/1", "other"):
        world.put(key)
    for key in ("x/1", "y/1", "elsewhere"):
        world.client.put_object(Bucket=world.destination, Key=key, Body=b"content")
    maps = ["--map", "a/=x/", "--map", "b/=y/", "--map", "c/=z/"]
    for key in ("b/2", "c/1"):
        world.put(key)
    settle()
    limited = world.sealift("reconcile", *pair(world), *maps, "--margin", "0s", "--repair", "--max-objects", "2")
    assert (limited.code, "the plan has 3 objects" in limited.stderr) == (2, True), limited.stderr
    assert [each["Key"] for each in world.client.list_objects_v2(Bucket=world.destination)["Contents"]] == [
        "elsewhere",
        "x/1",
        "y/1",
    ]
    for key in ("b/2", "c/1"):
        world.client.delete_object(Bucket=world.source, Key=key)
    found = reconcile(world, *pair(world), *maps, "--repair", "--yes")
    assert rows(found) == {"same": 2, "missing": 1, "excluded": 2}
    assert (found["code"], found["repair"][0]["outcomes"]) == (0, {"copied": 1})
    assert world.copy_of("x/2") == b"content"


@pytest.mark.slow
def test_versions_are_mapped_by_the_run_that_made_the_copies(versioned: World) -> None:
    for body in (b"one", b"two"):
        versioned.put("k", body)
    versioned.client.delete_object(Bucket=versioned.source, Key="k")
    run = versioned.run("replicate", "--versions", "all")
    assert run["outcomes"] == {"copied": 2, "deleted": 1}
    found = reconcile(versioned, *pair(versioned), "--versions", "all", "--version-map", run["run_id"])
    assert (found["code"], rows(found)) == (0, {"same": 3})
    unmapped = reconcile(versioned, *pair(versioned), "--versions", "all")
    assert (unmapped["code"], rows(unmapped)) == (3, {"missing": 3, "extra": 3})


def test_a_run_that_made_other_copies_is_no_version_map(versioned: World) -> None:
    """The server said no version ids of them, so what is missing here would be unverifiable."""
    versioned.put("docs/k")
    elsewhere = ["--destination", f"s3://{versioned.ledger}/elsewhere/"]
    other_bucket = versioned.run("replicate", *elsewhere)["run_id"]
    other_prefix = versioned.run("replicate", "--destination", f"s3://{versioned.destination}/other/")["run_id"]
    versioned.client.delete_object(Bucket=versioned.destination, Key="other/docs/k")
    for run_id in (other_bucket, other_prefix):
        mapped = [*pair(versioned), "--versions", "all", "--margin", "0s", "--version-map", run_id]
        result = versioned.sealift("reconcile", *mapped)
        assert (result.code, f"run {run_id} made its copies at s3://" in result.stderr) == (2, True), result.stdout


def tampered(world: World, manifest: str) -> None:
    bucket, _, key = manifest.removeprefix("s3://").partition("/")
    body = world.client.get_object(Bucket=bucket, Key=key)["Body"].read()
    world.client.put_object(Bucket=bucket, Key=key, Body=body + b" ")


def emptied(world: World, manifest: str) -> None:
    bucket, _, key = manifest.removeprefix("s3://").partition("/")
    body = json.loads(world.client.get_object(Bucket=bucket, Key=key)["Body"].read())
    for file in body["files"]:
        world.client.delete_object(Bucket=bucket, Key=file["key"])


@pytest.mark.parametrize("damage", [tampered, emptied])
def test_a_report_that_cannot_be_trusted_ends_in_one_line_and_leaves_no_run(
    world: World, damage: Callable[[World, str], None]
) -> None:
    world.put("a")
    manifests = []
    for bucket in (world.source, world.destination):
        made = world.sealift("inventory", f"s3://{bucket}", "--to", f"s3://{world.ledger}/inventories", "--json")
        manifests.append(made.document["manifest"])
    damage(world, manifests[0])
    one_line(
        world,
        world.sealift("reconcile", "--source-inventory", manifests[0], "--destination-inventory", manifests[1]),
        10,
    )


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "nothing to compare"),
        (["--source-inventory", "s3://LEDGER/none/"], 2, "both"),
        (["--source-inventory", "s3://LEDGER/a/", "--destination-inventory", "s3://LEDGER/b/"], 10, "no complete"),
        (["--source", "s3://SOURCE", "--destination", "s3://SOURCE"], 2, "both in the bucket"),
        (["--source", "s3://SOURCE", "--destination", "s3://DESTINATION", "--margin", "soon"], 2, "not an age"),
        (["--source", "s3://SOURCE", "--destination", "s3://DESTINATION", "--map", "a"], 2, "not a prefix mapping"),
        (["--source", "s3://SOURCE/a", "--destination", "s3://DESTINATION", "--map", "b=b"], 2, "--source s3://SOURCE"),
        (["--source", "s3://SOURCE", "--destination", "s3://DESTINATION/a", "--map", "b=b"], 2, "--destination s3://"),
        (["--source", "s3://SOURCE", "--destination", "s3://DESTINATION", "--repair-different"], 2, "--repair"),
        (["--source", "s3://SOURCE", "--destination", "s3://no-such-bucket-here"], 10, "no-such-bucket-here"),
    ],
)
def test_a_request_that_makes_no_sense_is_told_in_one_line(
    world: World, arguments: list[str], code: int, words: str
) -> None:
    world.put("a")
    names = {"LEDGER": world.ledger, "SOURCE": world.source, "DESTINATION": world.destination}
    given = [arg if "://" not in arg else replaced(arg, names) for arg in arguments]
    result = world.sealift("reconcile", *given)
    one_line(world, result, code)
    assert replaced(words, names) in result.stderr


def replaced(text: str, names: dict[str, str]) -> str:
    for name, value in names.items():
        text = text.replace(f"s3://{name}", f"s3://{value}")
    return text


def one_line(world: World, result: Result, code: int) -> None:
    """The exit code, one line of error, and no run in the ledger."""
    assert (result.code, result.has_no_answer) == (code, True), result.stderr
    assert len([line for line in result.stderr.splitlines() if line.startswith("sealift: ")]) == 1, result.stderr
    assert "Traceback" not in result.stderr
    assert world.sealift("runs", "list", "--json").document["runs"] == []


@pytest.mark.slow
def test_checksums_at_rest_prove_what_inventories_cannot(world: World) -> None:
    body = b"x" * (6 << 20)
    reports = []
    for bucket, part in ((world.source, 5 << 20), (world.destination, 6 << 20)):
        upload_in_parts(world, bucket, "in parts", body, part)
        reports.append(checksum_report(world, bucket, bucket, {"in parts": full_object("CRC32", body)}))
    assert rows(reconcile(world)) == {"unverifiable": 1}
    known = ["--source-checksums", reports[0], "--destination-checksums", reports[1]]
    assert rows(reconcile(world, *pair(world), *known)) == {"same": 1}
    upload_in_parts(world, world.destination, "in parts", body[:-1] + b"y", 6 << 20)  # after the report was made
    assert rows(reconcile(world, *pair(world), *known)) == {"unverifiable": 1}


def test_a_comparison_is_shown_without_what_it_does_not_have(damaged: World) -> None:
    run_id = reconcile(damaged)["run_id"]
    shown = damaged.sealift("runs", "show", run_id).stdout
    plan = shown.partition("need attention")[0].splitlines()
    assert plan[0].startswith(f"Plan of {run_id}: reconcile ")
    assert [line.split()[0] for line in plan[1:-1]] == ["objects"], shown
    assert "shard" not in shown
    listed = damaged.sealift("runs", "list").stdout.splitlines()
    heading, line = listed[0], next(each for each in listed if run_id in each)
    assert line[heading.index("cost") :].split()[0] == "–"
    failures = damaged.sealift("runs", "list", "--json").document["runs"][0]["failures"]
    sql = f"SELECT run_id, failures FROM runs WHERE run_id = '{run_id}'"
    answer = json.loads(damaged.sealift("query", sql, "--format", "json").stdout)
    assert answer == [{"run_id": run_id, "failures": failures}]
    assert failures == 7


def test_a_repair_and_its_verification_are_planned_as_what_they_do(damaged: World) -> None:
    repaired = reconcile(damaged, *pair(damaged), "--repair", "--yes")
    copies, verification = (
        damaged.sealift("runs", "show", repaired[part][0]["run_id"], "--json").document["plan"]
        for part in ("repair", "verification")
    )
    assert copies["rows"] == verification["rows"] > 0
    assert copies["requests"] == {"copy": copies["rows"]}
    assert verification["requests"] == {"head": 2 * copies["rows"]}


@pytest.mark.slow
def test_an_empty_destination_lacks_everything_and_a_repair_fills_it(world: World) -> None:
    for number in range(3):
        world.put(f"k{number}")
    filled = reconcile(world, *pair(world), "--repair", "--yes")
    assert (filled["code"], rows(filled)) == (0, {"missing": 3})
    assert rows(reconcile(world)) == {"same": 3}
    ran = world.sealift("runs", "retry", filled["run_id"])
    assert (ran.code, "only compared" in ran.stderr) == (2, True)
