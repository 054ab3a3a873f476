"""Messages about what is not on a server: each names the thing and says what to do."""

from __future__ import annotations

from tests.end_to_end.conftest import World

NOWHERE = "s3://no-such-bucket-anywhere"


def test_a_missing_bucket_is_named_with_what_to_check(world: World) -> None:
    here = f"s3://{world.source}"
    for arguments in (
        ["reconcile", "--source", NOWHERE, "--destination", here],
        ["inventory", NOWHERE, "--to", here],
        ["archives", "reindex", "--archives", NOWHERE],
    ):
        result = world.sealift(*arguments)
        assert (result.code, "check the name of the bucket" in result.stderr) == (10, True), result.stderr
    world.put("a")
    target = world.sealift("inventory", here, "--to", f"{NOWHERE}/i")
    assert (target.code, f"--to {NOWHERE}/i: the bucket" in target.stderr) == (10, True)


def test_archives_that_nobody_knows_are_named(world: World) -> None:
    listed = world.sealift("archives", "list", "--archives", NOWHERE)
    assert f"no archives below {NOWHERE}/ in the index" in listed.stdout
    found = world.sealift("archives", "find", "key")
    assert (found.code, "has no archives: name their place with --archives" in found.stderr) == (10, True)
    restore = world.sealift(
        "restore", "--archives", NOWHERE, "--key", "a", "--destination", f"s3://{world.destination}"
    )
    assert (restore.code, f"sealift archives reindex --archives {NOWHERE}" in restore.stderr) == (2, True)


def test_an_unknown_run_or_table_is_named_with_its_ledger(world: World) -> None:
    said = {
        " ".join(arguments): world.sealift(*arguments).stderr.removeprefix("sealift: ")
        for arguments in (
            ["runs", "show", "nonsense"],
            ["runs", "retry", "20261125T003345Z-verify-1f3a02"],
            ["runs", "cancel", "nonsense"],
            ["query", "SELECT * FROM outcomes", "--run", "nonsense"],
        )
    }
    wrong = [text for text in said.values() if not text.startswith(f"the ledger s3://{world.ledger}/runs has no run ")]
    assert wrong == []
    assert "spec.json" not in "".join(said.values())
    table = world.sealift("query", "SELECT * FROM nosuch")
    assert (table.code, "`sealift query --tables`" in table.stderr) == (2, True)


def test_filters_that_leave_nothing_are_named_as_options(world: World) -> None:
    world.put("a")
    places = ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}"]
    result = world.sealift("replicate", *places, "--include-class", "COLD")
    assert (result.code, "1 by --include-class" in result.stderr) == (10, True)
    assert "GLACIER" in result.stderr
    missing = world.sealift("replicate", *places, "--manifest", "nowhere.csv")
    assert (missing.code, missing.stderr.count("nowhere.csv"), "correct the path" in missing.stderr) == (10, 1, True)
