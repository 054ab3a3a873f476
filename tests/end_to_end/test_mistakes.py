"""Mistakes that a person on call makes: each message names the thing, says what is wrong and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.conftest import World


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("runs retry", "Missing argument 'RUN': name a run by its id, or as latest (`sealift runs list`)"),
        ("archives find", "Missing argument 'KEY': add it to the command; see `sealift archives find --help`"),
        ("nightly", "Missing option '--pair': add --pair NAME; see `sealift nightly --help`"),
        ("inventory s3://documents", "Missing option '--to': add --to s3://bucket/prefix; see"),
        ("repliacte", "No such command 'repliacte': did you mean replicate? See `sealift --help`"),
        ("replicate --max-cost 0", "'--max-cost': 0.0 has to be above 0; see"),
        ("runs list --limit 0", "'--limit': 0 has to be at least 1; see"),
        ("replicate --priority 10000", "'--priority': 10000 has to be from 0 to 9999; see"),
        (
            "runs list --ledger freight",
            "(--ledger, SEALIFT_LEDGER or the policy): 'freight' is not an S3 URI",
        ),
        ("query --json", "No such option '--json': write --format json; see `sealift query --help`"),
        (
            "replicate s3://documents s3://copies",
            "s3://documents s3://copies): places are options, such as --source s3://bucket/prefix; see",
        ),
        ("local --data /dev/null/x", "--data /dev/null/x: Not a directory; name a folder that can be written to"),
        ("query SELEC", 'syntax error at or near "SELEC"; write one SELECT of DuckDB\'s SQL'),
        ("query FROM's3://b/x.csv'", "a query reads the ledger's tables alone; see `sealift query --tables`"),
    ],
)
def test_a_mistyped_command_says_what_to_type(world: World, line: str, says: str) -> None:
    refused = world.sealift(*line.split())
    assert (refused.code, refused.has_no_answer) == (10 if line.startswith("local") else 2, True)
    assert says in refused.stderr


def test_a_ledger_without_runs_may_be_another_one_than_was_meant(world: World) -> None:
    listed = world.sealift("runs", "list", "--ledger", f"s3://{world.ledger}/typo")
    assert (listed.code, listed.stdout.splitlines()) == (
        0,
        [f"no runs in s3://{world.ledger}/typo: if there should be some, check --ledger or SEALIFT_LEDGER"],
    )


def test_an_endpoint_without_scheme_or_with_the_wrong_one_is_named(world: World) -> None:
    address = world.server.endpoint.removeprefix("http://")
    bare = world.sealift("runs", "list", AWS_ENDPOINT_URL_S3=address)
    assert (bare.code, "AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, the profile or the option" in bare.stderr) == (10, True)
    tls = world.sealift("runs", "list", AWS_ENDPOINT_URL_S3=f"https://{address}")
    assert "TlsFailed: the server does not speak TLS (WRONG_VERSION_NUMBER): write http:// in its" in tls.stderr
    assert "check the network" not in tls.stderr


def test_no_retry_is_advised_for_what_is_gone_at_the_source(world: World, tmp_path: Path) -> None:
    world.put("a")
    manifest = tmp_path / "rows.csv"
    manifest.write_text(f"{world.source},a\n{world.source},gone\n")
    places = ["--source", f"s3://{world.source}/", "--destination", f"s3://{world.destination}/"]
    gone = "What is gone or another object at the source by now is mended by no retry. Verify what is there: "
    command = f"sealift verify {' '.join(places)}"
    both = world.run("verify", *places, "--manifest", str(manifest))
    assert both["outcomes"] == {"missing": 1, "changed": 1}
    assert both["next_steps"] == [gone + command, f"Copy the others again: sealift runs retry {both['run_id']}"]
    assert world.sealift("runs", "retry", both["run_id"]).code == 3
    one = world.run("verify", *places, "--manifest", str(manifest))
    assert (one["outcomes"], one["next_steps"]) == ({"verified": 1, "changed": 1}, [gone + command])


def test_an_index_of_no_archives_is_no_success(world: World) -> None:
    world.put("a")
    nothing = world.sealift("archives", "reindex", "--archives", f"s3://{world.source}/typo")
    assert (nothing.code, nothing.stdout) == (10, "")
    assert f"no archive is below s3://{world.source}/typo: check bucket and prefix" in nothing.stderr


def test_a_manifest_that_cannot_be_used_is_named_with_what_to_do(world: World, tmp_path: Path) -> None:
    places = ["--source", f"s3://{world.source}", "--destination", f"s3://{world.destination}"]
    report, rows = tmp_path / "manifest.json", tmp_path / "rows.csv"
    report.write_text("{}")
    rows.write_text(f"{world.source},a\n{world.destination},b\n")
    unfinished = world.sealift("verify", *places, "--manifest", str(report))
    assert f"{report.with_suffix('.checksum')} does not exist" in unfinished.stderr
    assert "Wait for it, or copy it as well" in unfinished.stderr
    mixed = world.sealift("verify", *places, "--manifest", str(rows))
    assert "a run works on one source bucket. Make a manifest for each" in mixed.stderr


def test_a_verify_of_the_wrong_place_leads_to_a_dismissal(world: World) -> None:
    world.put("a")
    places = ["--source", f"s3://{world.source}/", "--destination", f"s3://{world.destination}/mistyped/"]
    [_, step] = world.run("verify", *places)["next_steps"]
    why, _, command = step.partition(": sealift ")
    assert "nothing is wrong with your copies" in why
    words = command.replace("TEXT", "mistyped").split()
    assert world.sealift(*words).code == 0
    assert world.sealift("status").code == 0
