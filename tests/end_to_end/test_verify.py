"""`sealift verify` on a real server: it finds exactly what is wrong, and says what it cannot judge."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.conftest import World

MIB = 1024 * 1024


@pytest.fixture
def pair(world: World) -> World:
    """Forty objects and their copies."""
    for number in range(40):
        world.put(f"k{number:02d}", f"content {number}".encode())
    assert world.run("replicate")["outcomes"] == {"copied": 40}
    return world


def flip(world: World, key: str) -> None:
    body = bytearray(world.copy_of(key))
    body[-1] ^= 1
    world.client.put_object(Bucket=world.destination, Key=key, Body=bytes(body))


@pytest.mark.parametrize("how", [[], ["--deep"]])
def test_exactly_the_damaged_copies_are_found_and_repaired(pair: World, how: list[str]) -> None:
    assert pair.run("verify", *how)["outcomes"] == {"verified": 40}
    flip(pair, "k07")
    flip(pair, "k21")
    pair.client.put_object(Bucket=pair.destination, Key="k22", Body=b"another size")
    pair.client.delete_object(Bucket=pair.destination, Key="k30")
    found = pair.run("verify", *how)
    assert (found["code"], found["outcomes"]) == (3, {"verified": 36, "mismatched": 3, "missing": 1})
    assert {row["key"]: row["status"] for row in pair.failed_rows(found)} == {
        "k07": "mismatched",
        "k21": "mismatched",
        "k22": "mismatched",
        "k30": "missing",
    }
    retried = pair.sealift("runs", "retry", found["run_id"], "--json")
    assert (retried.code, retried.document["outcomes"]) == (0, {"copied": 4})
    assert pair.run("verify", *how)["outcomes"] == {"verified": 40}


def test_a_repair_replaces_only_what_was_condemned(pair: World) -> None:
    flip(pair, "k07")
    flip(pair, "k08")
    found = pair.run("verify")
    pair.client.put_object(Bucket=pair.destination, Key="k08", Body=b"somebody wrote this since")
    retried = pair.sealift("runs", "retry", found["run_id"], "--json")
    assert (retried.code, retried.document["outcomes"]) == (3, {"copied": 1, "changed": 1})
    assert pair.copy_of("k08") == b"somebody wrote this since"


def test_a_source_changed_or_gone_since_the_manifest_is_changed(pair: World) -> None:
    manifest = pair.sealift("inventory", f"s3://{pair.source}", "--to", f"s3://{pair.ledger}/inv", "--json").document
    pair.put("k01", b"new")
    pair.client.delete_object(Bucket=pair.source, Key="k02")
    found = pair.run("verify", "--manifest", manifest["manifest"])
    assert (found["code"], found["outcomes"]) == (3, {"verified": 38, "changed": 2})


def test_what_cannot_be_compared_is_unverifiable_until_it_is_read(world: World) -> None:
    body = bytes(range(256)) * (11 * MIB // 256)
    for bucket, part in ((world.source, 5 * MIB), (world.destination, 6 * MIB)):
        upload = world.client.create_multipart_upload(Bucket=bucket, Key="parts")["UploadId"]
        parts = []
        for number, start in enumerate(range(0, len(body), part), 1):
            answer = world.client.upload_part(
                Bucket=bucket, Key="parts", UploadId=upload, PartNumber=number, Body=body[start : start + part]
            )
            parts.append({"PartNumber": number, "ETag": answer["ETag"]})
        world.client.complete_multipart_upload(
            Bucket=bucket, Key="parts", UploadId=upload, MultipartUpload={"Parts": parts}
        )
    found = world.run("verify")
    assert (found["code"], found["outcomes"]) == (3, {"unverifiable": 1})
    assert "nothing comparable" in found["reasons"][0]["reason"]
    deep = world.run("verify", "--deep")
    assert (deep["code"], deep["outcomes"], deep["evidence"]) == (0, {"verified": 1}, {"content": 1})


@pytest.mark.slow
def test_a_run_of_no_row_says_so_and_is_no_success(pair: World, tmp_path: Path) -> None:
    sides = ["--source", f"s3://{pair.source}", "--destination", f"s3://{pair.destination}"]
    ran = pair.sealift("verify", *sides, "--sample", "1/100000", "--yes")
    assert ran.code == 0, ran.stderr
    rows = len(pair.client.list_objects_v2(Bucket=pair.source)["Contents"])
    nothing = f"Nothing was done: no row was in this run ({rows} left out by the sample)."
    assert nothing in ran.stdout
    assert "ended well" not in ran.stdout
    assert "outcomes" not in ran.stdout
    page = tmp_path / "report.html"
    assert nothing in pair.sealift("runs", "show", "latest", "--html", str(page)).stdout
    text = page.read_text()
    assert '<header class="calm">' in text
    assert 'aria-label="nothing was done"' in text
    assert "No row was in this run." in text
    assert "No row has an outcome yet" not in text


def test_a_rotating_sample_takes_everything_once_in_n_runs(pair: World) -> None:
    rows = [pair.run("verify", "--sample", "1/4", "--rotate")["rows"] for _ in range(4)]
    assert sum(rows) == 40
    again = pair.run("verify", "--sample", "1/4", "--rotate")
    assert again["rows"] == rows[0]
    assert pair.run("verify", "--sample", "1/4")["rows"] == rows[0]


def test_a_rota_goes_on_with_the_report_of_the_next_day(world: World) -> None:
    """Each is another manifest.json, and the rota began with the first slice again."""
    for number in range(8):
        world.put(f"k{number}")
        world.client.put_object(Bucket=world.destination, Key=f"k{number}", Body=b"content")
    made = world.sealift("inventory", f"s3://{world.source}", "--to", f"s3://{world.ledger}/reports", "--json")
    folder, minute, _ = made.document["manifest"].removeprefix(f"s3://{world.ledger}/").rsplit("/", 2)
    rows = []
    for day in (1, 2, 3):
        dated = f"{folder}/2026-11-0{day}T01-00Z"
        for name in ("manifest.json", "manifest.checksum"):
            report = {"Bucket": world.ledger, "Key": f"{folder}/{minute}/{name}"}
            world.client.copy_object(Bucket=world.ledger, Key=f"{dated}/{name}", CopySource=report)
        manifest = f"s3://{world.ledger}/{dated}/manifest.json"
        rows.append(world.run("verify", "--manifest", manifest, "--sample", "1/3", "--rotate")["rows"])
    assert sum(rows) == 8, f"{rows} rows of 8 in three turns"


def test_a_deep_verify_against_what_the_ledger_knows_needs_no_source(pair: World) -> None:
    proven = pair.run("verify", "--deep")
    for number in range(40):
        pair.client.delete_object(Bucket=pair.source, Key=f"k{number:02d}")
    flip(pair, "k11")
    found = pair.run("verify", "--deep", "--manifest", f"proven:{proven['run_id']}")
    assert (found["code"], found["outcomes"]) == (3, {"verified": 39, "mismatched": 1})
    assert found["evidence"] == {"checksum": 39}
    assert "not the one proven before" in found["reasons"][0]["reason"]
    [row] = pair.failed_rows(found)
    assert row["key"] == "k11"


def test_what_the_ledger_knows_of_an_object_says_nothing_against_the_copy_of_the_next(pair: World) -> None:
    """It was called `mismatched`, and the copy of the newer object was condemned."""
    proven = pair.run("verify", "--deep")
    for key in ("k03", "k04"):
        pair.put(key, b"a newer object")
    pair.client.put_object(Bucket=pair.destination, Key="k03", Body=b"a newer object")
    found = pair.run("verify", "--deep", "--manifest", f"proven:{proven['run_id']}")
    assert (found["code"], found["outcomes"]) == (3, {"verified": 39, "changed": 1})
    assert found["reasons"][0]["reason"] == "the source is another object by now, whose copy may be there"
    flip(pair, "k05")
    found = pair.run("verify", "--deep", "--manifest", f"proven:{proven['run_id']}")
    assert found["outcomes"] == {"verified": 38, "changed": 1, "mismatched": 1}


@pytest.mark.slow
def test_histories_are_compared_version_by_version(versioned: World) -> None:
    for body in (b"1", b"22", b"333"):
        versioned.put("a", body)
    versioned.client.delete_object(Bucket=versioned.source, Key="a")
    versioned.put("b", b"1")
    assert versioned.run("replicate", "--versions", "all")["outcomes"] == {"copied": 4, "deleted": 1}
    assert versioned.run("verify", "--versions", "all", "--deep")["outcomes"] == {"verified": 5}
    [first, *_] = versioned.history(versioned.destination, "a")
    versioned.client.delete_object(Bucket=versioned.destination, Key="a", VersionId=first.version_id)
    found = versioned.run("verify", "--versions", "all", "--deep")
    assert (found["code"], found["outcomes"]) == (3, {"verified": 4, "missing": 1})
    [row] = versioned.failed_rows(found)
    assert (row["key"], row["size_bytes"]) == ("a", 1)
    versioned.client.put_object(Bucket=versioned.destination, Key="b", Body=b"2")
    found = versioned.run("verify", "--versions", "all", "--include", "b")
    assert found["outcomes"] == {"mismatched": 1}, "the version is there, and readers get another one"
    retried = versioned.sealift("runs", "retry", found["run_id"], "--json")
    assert retried.document["outcomes"] == {"copied": 1}, retried.stderr
    bodies = [
        versioned.client.get_object(Bucket=versioned.destination, Key="b", VersionId=each.version_id)["Body"].read()
        for each in versioned.history(versioned.destination, "b")
    ]
    assert bodies == [b"1", b"2", b"1"]  # nothing is lost
    assert versioned.run("verify", "--versions", "all", "--include", "b")["outcomes"] == {"verified": 1}


@pytest.mark.slow
def test_many_large_objects_are_read_within_a_small_buffer(world: World) -> None:
    body = bytes(range(256)) * (25 * MIB // 256)
    for number in range(4):
        world.put(f"large{number}", body)
    assert world.run("replicate")["outcomes"] == {"copied": 4}
    deep = world.run("verify", "--deep", SEALIFT_BUFFER_MIB="33", SEALIFT_PROCESSES="1")
    assert (deep["outcomes"], deep["bytes"]) == ({"verified": 4}, 4 * len(body))


@pytest.mark.parametrize("job", ["verify", "replicate"])
def test_one_bucket_by_two_spellings_is_no_copy_of_itself(world: World, job: str) -> None:
    world.put("k", b"only one")
    other = world.server.endpoint.replace("127.0.0.1", "LOCALHOST")
    assert other != world.server.endpoint
    for place in (world.source, f"{world.source}/copies") if job == "replicate" else (world.source,):
        places = ["--source", f"s3://{world.source}", "--destination", f"s3://{place}"]
        result = world.sealift(job, *places, "--destination-endpoint", other, "--yes")
        assert result.code == 2, result.stdout
        assert "name two places" in result.stderr or "overlap" in result.stderr
    assert len(world.client.list_objects_v2(Bucket=world.source)["Contents"]) == 1


def test_copies_of_other_sizes_are_one_reason_and_each_row_has_both_sizes(world: World) -> None:
    """The reason had the sizes: it was a line of its own for each row, or had "…" for each number."""
    for number in (1, 2, 3):
        world.put(f"k{number}", b"x" * number)
        world.client.put_object(Bucket=world.destination, Key=f"k{number}", Body=b"y" * (number + 5))
    report = world.run("verify")
    reason = {"status": "mismatched", "reason": "size differs", "rows": 3, "keys": ["k1", "k2", "k3"]}
    assert report["reasons"] == [reason]
    bucket, _, key = report["report_html"][5:].partition("/")
    page = world.client.get_object(Bucket=bucket, Key=key)["Body"].read().decode().replace("\N{NO-BREAK SPACE}", " ")
    assert '<span>3 B</span><span class="off">8 B</span>' in page
