"""Replaced runs: which of a ledger's latest runs take the place of earlier ones. Pure.

A run takes another's place only if it looked at all of its rows: it retried them, or it worked
between the same places on no smaller a selection. A run of no rows takes nobody's place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from jobs.core.model import Location
from jobs.core.outcome import Status
from jobs.core.run import ROWS_SHA256, RunSpec, RunState, may_name_old_versions

Summary = Mapping[str, Any]


def scope_of(spec: RunSpec) -> dict[str, Any]:
    """Which rows between its places a run looked at, and how, as the list of runs shows it.

    `manifest`: None for all that the source has. `rows_sha256`: of the rows that it named, empty
    for those of a place, None if the spec does not say. `filters`: those that were given, None if
    the spec does not record them. `old_versions`: rows may name versions that were not current.
    `reached_by`: one bucket name may be two buckets on two servers.
    """
    options = spec.options
    reached_by = [[side.endpoint, side.profile] for side in (spec.source, spec.destination)]
    if "destination_manifest" in options:  # a comparison: another day's inventories list the same places
        filters = {name: options.get(name) for name in ("maps", "margin")}
        return {
            "manifest": None,
            "rows_sha256": "",
            "old_versions": False,
            "filters": filters,
            "all_versions": options.get("versions") == "all",
            "deep": False,
            "at_rest": any(options.get(f"{side}_checksums") for side in ("source", "destination")),
            "reached_by": reached_by,
        }
    is_listing = spec.manifest == f"listing of {spec.source.location}"
    filters = options.get("filters")
    if options.get("archives") and options.get("sample") and isinstance(filters, Mapping):
        filters = {**filters, "sample": options["sample"]}  # of archives, which no filter of rows takes
    return {
        "manifest": None if is_listing else spec.manifest,
        "rows_sha256": options.get(ROWS_SHA256),
        "old_versions": may_name_old_versions(spec),
        "filters": filters,
        "all_versions": bool(options.get("all_versions")),
        "deep": bool(options.get("deep")),
        "at_rest": any(options.get(f"{side}_checksums") for side in ("source", "destination")),
        "reached_by": reached_by,
    }


def covers(later: Summary, earlier: Summary) -> bool:
    """Whether a run looked at all rows of an earlier one, as closely."""
    if later["state"] != RunState.COMPLETE or not later["rows"] or later["job"] != earlier["job"]:
        return False
    new, old = later["scope"], earlier["scope"]
    if new is None or old is None or not _has_all_places(later, earlier):
        return False
    return (
        new["reached_by"] == old["reached_by"]
        and (_has_all_rows(new, old) or _has_same_rows(new, old))
        and new["filters"] in ({}, old["filters"])
        and new["all_versions"] >= old["all_versions"]
        and new["deep"] >= old["deep"]
        and (new["deep"] or new["at_rest"] >= old["at_rest"])
    )


def repaired(runs: Sequence[Summary], is_proof_only: Callable[[str], bool]) -> set[str]:
    """The ids of the runs all of whose bad rows a retry brought to a good end.

    `runs`: the latest first. `is_proof_only`: whether a job writes nothing, so that none of its
    runs repairs what another one left. A run counts as repaired too if what its retry left was
    repaired. The repair of a reconciliation has a run for each prefix, and may leave out
    differences. No retry repairs a damaged source: only a later look that covers it does.
    """
    done: set[str] = set()
    rows: Counter[str] = Counter()
    failures = {run["run_id"]: run["failures"] for run in runs}
    damaged = {run["run_id"] for run in runs if run["outcomes"].get(Status.DAMAGED)}
    for run in runs:
        first = run["retry_of"]
        is_well = run["state"] == RunState.COMPLETE and (not run["failures"] or run["run_id"] in done)
        if (
            first is None
            or first in damaged
            or not run["rows"]
            or not is_well
            or run["scope"] is None
            or is_proof_only(run["job"])
        ):
            continue
        rows[first] += run["rows"]
        if run["scope"]["manifest"] == f"run:{first}" or rows[first] >= failures.get(first, 0):
            done.add(first)
    return done


def repaired_since(runs: Sequence[Summary], run_ids: Collection[str], is_proof_only: Callable[[str], bool]) -> str:
    """The id of the latest run that ended well and copied what one of `run_ids` left. Else empty.

    It retried that run, or its manifest is a file of it. `runs`: the latest first.
    """
    for run in runs:
        if run["state"] != RunState.COMPLETE or run["failures"] or not run["rows"] or is_proof_only(run["job"]):
            continue
        manifest = str((run["scope"] or {}).get("manifest"))
        if run["run_id"] not in run_ids and any(each in (run["retry_of"], *manifest.split("/")) for each in run_ids):
            return str(run["run_id"])
    return ""


def _has_all_rows(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Whether a run took all that is in its places, and so the other one's rows.

    A listing of current objects has no old version.
    """
    return new["manifest"] is None and (new["all_versions"] or not old["old_versions"])


def _has_same_rows(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Whether two runs were given the same rows. A file keeps its name when it gets other ones."""
    return (
        new["manifest"] == old["manifest"]
        and new["rows_sha256"] is not None
        and new["rows_sha256"] == old["rows_sha256"]
    )


def _has_all_places(later: Summary, earlier: Summary) -> bool:
    """Whether the later run has each key of the earlier one, with the same copy.

    `s3://b/docs` has the keys below `s3://b/docs/`, and `docs2` besides.
    """
    rests = set()
    for side in ("source", "destination"):
        new, old = Location.parse(str(later[side])), Location.parse(str(earlier[side]))
        if new.bucket != old.bucket or not old.key.startswith(new.key):
            return False
        rests.add(old.key[len(new.key) :])
    return len(rests) == 1
