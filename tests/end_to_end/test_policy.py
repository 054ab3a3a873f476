"""`sealift policy`, as a person or an editor calls it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.end_to_end.commands import call
from tests.end_to_end.conftest import Result

EXAMPLE = Path(__file__).resolve().parents[2] / "policy.example.yaml"


def sealift(*arguments: str) -> Result:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SEALIFT_")}
    return Result(*call(["policy", *arguments], environment))


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    file = tmp_path / "policy.yaml"
    text = EXAMPLE.read_text().replace("name: customs", "name: scans").replace("rota: 1/7", "rota: weekly")
    file.write_text(text.replace("bucket: example-tracking", "bucket: Tracking"))
    return file


def test_check_in_json(broken):
    wrong = sealift("check", str(broken), "--json")
    assert wrong.code == 10
    assert wrong.document["valid"] is False
    mistake = wrong.document["mistakes"][0]
    lines = broken.read_text().splitlines()
    assert mistake["path"] == "pairs[1].verify.rota"
    assert (mistake["value"], mistake["pair"], mistake["expected"]) == ('"weekly"', "scans", "1/N such as 1/30")
    assert lines[mistake["line"] - 1].strip() == "rota: weekly"


def test_explain_says_where_the_copy_goes_and_why():
    given = ("explain", "s3://example-scans/scans/2026/1Z é+.jpg", "--policy", str(EXAMPLE))
    document = sealift(*given, "--json").document
    assert document["pair"] == "scans"
    assert document["copy"] == "s3://example-hot-fra/delivery/scans/2026/1Z é+.jpg"
    assert document["replica"] == "s3://example-hot-dub/delivery/scans/2026/1Z é+.jpg"
    assert document["archive_rules"] == ["settled-scans"]
    text = sealift(*given).stdout
    assert all(each in text for each in ("the pair scans", document["copy"], document["replica"], "by settled-scans"))


def test_a_policy_is_read_from_s3(world):
    world.client.put_object(Bucket=world.ledger, Key="policy.yaml", Body=EXAMPLE.read_bytes())
    result = world.sealift("policy", "check", SEALIFT_POLICY=f"s3://{world.ledger}/policy.yaml")
    assert result.code == 0, result.stderr
    assert "right" in result.stdout
    missing = world.sealift("policy", "check", f"s3://{world.ledger}/none.yaml")
    assert missing.code == 10
    assert "not there" in missing.stdout
    world.client.delete_object(Bucket=world.ledger, Key="policy.yaml")


def test_a_checked_policy_is_written_beside_its_file_and_read_in_its_place(tmp_path, broken):
    (tmp_path / "right.yaml").write_bytes(EXAMPLE.read_bytes())
    written = tmp_path / "policy.json"
    assert sealift("check", str(tmp_path / "right.yaml"), "--write", str(written)).code == 0
    document = json.loads(written.read_text())
    assert (document["file"], document["policy"]["name"]) == ("right.yaml", "parcels")
    assert sealift("check", str(written)).code == 0
    assert sealift("check", str(broken), "--write", str(tmp_path / "none.json")).code == 10
    assert sealift("check", str(tmp_path / "right.yaml"), "--write", "policy.json").code == 2
    assert not (tmp_path / "none.json").exists()
