"""`sealift replicate` on a real server: a pair's old objects, where the policy says, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.conftest import World
from tests.end_to_end.pair_policy import runs, write_policy

OURS = ["docs/a", "docs/b[1]*?", "docs/é ü", "drafts/c"]


@pytest.fixture
def filled(world: World) -> World:
    for key in (*OURS, "docs/tmp/d", "logs/e", "other"):
        world.put(key, key.encode())
    return world


def test_all_of_a_pair_is_copied_and_nothing_that_the_policy_leaves_out(filled: World, tmp_path: Path) -> None:
    given = ["replicate", "--pair", "docs", "--policy", write_policy(filled, tmp_path), "--json"]
    plan = filled.sealift(*given, "--dry-run")
    assert plan.code == 0, plan.stderr
    assert (plan.document["rows"], filled.keys(filled.destination)) == (4, [])
    report = filled.sealift(*given).document
    assert report["outcomes"] == {"done": 4}
    assert sorted(filled.keys(filled.destination)) == sorted(f"copies/{key}" for key in OURS)
    assert filled.copy_of("copies/docs/é ü") == "docs/é ü".encode()
    again = filled.sealift(*given).document
    assert (again["outcomes"], again["excluded"]) == ({"same": 4}, {"exclude": 1})
    assert runs(filled)[0]["run_id"] == report["run_id"]


def lowered(objects: int, cost: float) -> dict[str, object]:
    return {"limits": {"max_objects": objects, "max_cost": cost}}


@pytest.mark.parametrize(
    ("limits", "options", "allowed"),
    [
        (lowered(3, 100), [], "limits.max_objects allows 3"),
        (lowered(1000, 0.000001), ["--max-cost", "50"], "limits.max_cost allows under $0.0001"),
    ],
)
def test_the_policys_limits_hold_unless_options_are_tighter(
    filled: World, tmp_path: Path, limits: dict[str, object], options: list[str], allowed: str
) -> None:
    policy = write_policy(filled, tmp_path, docs=limits)
    result = filled.sealift("replicate", "--pair", "docs", "--policy", policy, *options)
    assert (result.code, result.stdout) == (2, "")
    assert allowed in result.stderr
    assert (runs(filled), filled.keys(filled.destination)) == ([], [])


def test_a_manifest_of_the_backlog_is_copied_at_any_cost_since_enqueue_has_bounded_it(
    filled: World, tmp_path: Path
) -> None:
    policy = write_policy(filled, tmp_path, docs=lowered(1000, 0.000001))
    rows = f"{filled.source},docs/a,\n".encode()
    filled.client.put_object(Bucket=filled.ledger, Key="runs/manifests/docs/late.csv", Body=rows)
    manifest = f"s3://{filled.ledger}/runs/manifests/docs/late.csv"
    result = filled.sealift("replicate", "--pair", "docs", "--policy", policy, "--manifest", manifest, "--json")
    assert (result.code, result.document["accounted"]) == (0, 1), result.stderr
