"""`sealift archives`: what is in the index, and the index made anew from the archives alone."""

from __future__ import annotations

import pytest

from tests.end_to_end.conftest import World
from tests.end_to_end.packed import ALL, archive_keys, compact, contents, index_keys


@pytest.fixture
def packed(world: World) -> World:
    """Three archives of one source."""
    for n in range(3):
        world.put(f"{n}/a.txt", b"a" * 20_000)
        world.put(f"{n}/b.txt", b"b" * 20_000)
    assert compact(world, ALL, "--target-size", "50KB")["outcomes"] == {"done": 6}
    return world


def test_list_show_and_find_agree(packed: World) -> None:
    listed = packed.sealift("archives", "list", "--json").document["archives"]
    assert [each["location"] for each in listed] == [f"s3://{packed.destination}/{key}" for key in archive_keys(packed)]
    assert sum(each["members"] for each in listed) == 6
    keys = []
    for each in listed:
        document = packed.sealift("archives", "list", each["location"], "--json").document
        keys += [member["key"] for member in document["shown"]]
    assert sorted(keys) == [f"{n}/{name}.txt" for n in range(3) for name in "ab"]
    found = packed.sealift("archives", "find", "1/b.txt", "--json").document["found"]
    assert [(each["key"], each["size_bytes"]) for each in found] == [("1/b.txt", 20_000)]
    assert found[0]["archive"] in [each["location"] for each in listed]
    assert found[0]["archive"] in packed.sealift("archives", "find", "1/b.txt").stdout


def test_a_lost_index_is_made_anew_from_the_archives(packed: World) -> None:
    before, found = contents(packed), packed.sealift("archives", "list", "--json").document
    lost = index_keys(packed)
    packed.client.delete_object(Bucket=packed.ledger, Key=lost[0])
    packed.client.put_object(Bucket=packed.ledger, Key=lost[1], Body=b"rubbish")
    assert packed.sealift("archives", "list").code == 3
    archives = f"s3://{packed.destination}/packed"
    document = packed.sealift("archives", "reindex", "--source", archives, "--json").document
    assert (document["known"], document["problems"], len(document["indexed"])) == (1, [], 2)
    assert contents(packed) == before
    assert packed.sealift("archives", "list", "--json").document == found
    again = packed.sealift("archives", "reindex", "--source", archives, "--json").document
    assert (again["known"], again["indexed"]) == (3, [])


@pytest.fixture
def damaged(packed: World) -> World:
    """The index of the archive of `1/` is rubbish, and nobody has a directory of the others."""
    (index_key,) = [key for key in index_keys(packed) if "/packed/1/" in key]
    packed.client.put_object(Bucket=packed.ledger, Key=index_key, Body=b"rubbish" * 100)
    return packed


def test_a_damaged_index_leaves_the_other_archives_verifiable_and_restorable(damaged: World) -> None:
    archives = f"s3://{damaged.destination}/packed"
    verified = damaged.sealift("verify", "--archives", archives, "--json")
    assert (verified.code, verified.document["outcomes"]) == (3, {"verified": 2, "unknown": 1})
    damaged.client.create_bucket(Bucket="back-again")
    wanted = ["restore", "--archives", archives, "--include", "*", "--destination", "s3://back-again", "--json"]
    doubted = damaged.sealift(*wanted)
    assert doubted.code == 10
    assert "/packed/1/" in doubted.stderr
    assert "--skip-damaged" in doubted.stderr
    restored = damaged.sealift(*wanted, "--skip-damaged")
    assert (restored.code, restored.document["outcomes"]) == (3, {"done": 4})
    assert "/packed/1/" in restored.stderr
    (left_out,) = restored.document["left_out_archives"]
    assert "/packed/1/" in left_out["archive"]
    shown = damaged.sealift("runs", "show", restored.document["run_id"])
    assert (shown.code, left_out["archive"] in shown.stdout) == (3, True)
    again = damaged.sealift("runs", "retry", restored.document["run_id"])
    assert (again.code, again.stdout.startswith("Nothing to retry")) == (3, True)
    assert damaged.sealift("status").code == 3  # all 4 rows ended well, and nobody would have heard of the others


@pytest.fixture
def unindexed(packed: World) -> World:
    """The index of the archive of `1/` was removed. Beside it is a tar of another program."""
    (index_key,) = [key for key in index_keys(packed) if "/packed/1/" in key]
    packed.client.delete_object(Bucket=packed.ledger, Key=index_key)
    packed.client.put_object(Bucket=packed.destination, Key="packed/other.tar", Body=b"not ours" * 200)
    return packed


def test_a_key_of_an_archive_without_an_index_is_not_called_absent(unindexed: World) -> None:
    listed = unindexed.sealift("archives", "list", "--json")
    assert (listed.code, len(listed.document["archives"])) == (3, 2)
    (problem,) = listed.document["problems"]
    assert ("/packed/1/" in problem["archive"], problem["code"]) == (True, "missing")
    where = ["--source", f"s3://{unindexed.destination}/packed"]
    for key, code in (("1/a.txt", 10), ("2/a.txt", 3)):
        found = unindexed.sealift("archives", "find", key, *where, "--json")
        assert (found.code, found.document["problems"]) == (code, [problem])
    text = unindexed.sealift("archives", "find", "1/a.txt", *where).stdout
    command = text.splitlines()[-1].partition(": sealift ")[2].split()
    assert unindexed.sealift(*command).code == 3  # beside it is a tar of another program
    assert unindexed.sealift("archives", "find", "1/a.txt", *where).code == 0
    assert unindexed.sealift("archives", "list", *where).code == 0


def test_archives_that_are_gone_or_replaced_are_named(packed: World) -> None:
    """The index keeps their entries, and neither `list` nor `find` may call them whole."""
    gone, replaced, whole = (f"s3://{packed.destination}/{key}" for key in archive_keys(packed))
    first, second, _ = archive_keys(packed)
    packed.client.delete_object(Bucket=packed.destination, Key=first)
    packed.client.put_object(Bucket=packed.destination, Key=second, Body=b"another object")
    listed = packed.sealift("archives", "list", "--json")
    problems = [(each["code"], each["archive"]) for each in listed.document["problems"]]
    assert (listed.code, problems) == (3, [("lost", gone), ("lost", replaced)])
    assert f"lost: {gone}: it is gone" in packed.sealift("archives", "list").stdout
    for key, code, archive, lost in (("0/a.txt", 3, gone, [gone]), ("2/a.txt", 0, whole, [])):
        found = packed.sealift("archives", "find", key, "--json")
        assert (found.code, [each["archive"] for each in found.document["problems"]]) == (code, lost)
        assert [each["archive"] for each in found.document["found"]] == [archive]


def test_a_cut_archive_without_any_index_is_named_and_the_others_are_indexed(packed: World) -> None:
    victim = archive_keys(packed)[1]
    whole = packed.client.get_object(Bucket=packed.destination, Key=victim)
    cut = {"Body": whole["Body"].read()[:-1], "Metadata": whole["Metadata"]}
    packed.client.put_object(Bucket=packed.destination, Key=victim, **cut)
    for key in index_keys(packed):
        packed.client.delete_object(Bucket=packed.ledger, Key=key)
    archives = f"s3://{packed.destination}"
    reindexed = packed.sealift("archives", "reindex", "--source", archives, "--json")
    assert (reindexed.code, len(reindexed.document["indexed"])) == (3, 2)
    assert [each["archive"] for each in reindexed.document["problems"]] == [f"{archives}/{victim}"]
    packed.client.create_bucket(Bucket="whole")
    wanted = ("--archives", archives, "--include", "*", "--destination", "s3://whole", "--skip-damaged", "--json")
    back = packed.sealift("restore", *wanted)
    assert (back.code, back.document["outcomes"]) == (3, {"done": 4})
