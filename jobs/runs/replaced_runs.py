"""Replaced runs: which of a ledger's latest runs take the place of earlier ones. Pure.

A run takes another's place only if it looked at all of its rows: it retried them, or it began after
the other one had ended and worked between the same places on no smaller a selection. A run of no
rows takes nobody's place, nor does one that could not read all, or judged none of its rows.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from jobs.core.category import FINDINGS
from jobs.core.model import Location
from jobs.core.outcome import GOOD, Status
from jobs.core.run import ROWS_SHA256, RunSpec, RunState, may_name_old_versions
from jobs.ledger.agreement import begin_second

Summary = Mapping[str, Any]
_FRACTION = re.compile("([0-9a-f]{3})[0-9a-f]{3}")
"""The end of a run's id: 4096ths of a second, and what tells apart runs of one."""
_LONGEST_SECONDS = 1 << 36
"""Any number may be in the ledger. A run that took longer would have begun before our era."""
_JUDGED = GOOD | FINDINGS | {Status.MISSING, Status.DIFFERENT, Status.DAMAGED}
"""Outcomes and categories of what was looked at."""
_UNREAD = (Status.BLOCKED, Status.UNKNOWN)
"""Outcomes of what a run that reads bytes has not read."""
_PARTS = ("bucket", "tags")
"""Options that take a part of the rows: of a restore from archives of several buckets, and of a
compaction."""


def scope_of(spec: RunSpec) -> dict[str, Any]:
    """Which rows between its places a run looked at, and how, as the list of runs shows it.

    `manifest`: None for all that the source has. `rows_sha256`: of the rows that it named, empty
    for those of a place, None if the spec does not say. `filters`: those that were given, None if
    the spec does not record them. `old_versions`: rows may name versions that were not current.
    `reached_by`: one bucket name may be two buckets on two servers. `deletes`: it was asked to
    delete, where a dry run only says what it would do.
    """
    options = spec.options
    reached_by = [[side.endpoint, side.profile] for side in (spec.source, spec.destination)]
    at_rest = any(options.get(f"{side}_checksums") for side in ("source", "destination"))
    rows = _compared_rows(spec) if "destination_manifest" in options else _worked_rows(spec)
    return rows | {"at_rest": at_rest, "reached_by": reached_by, "deletes": bool(options.get("delete"))}


def _compared_rows(spec: RunSpec) -> dict[str, Any]:
    """The rows of a comparison. Another day's inventories list the same places."""
    return {
        "manifest": None,
        "rows_sha256": "",
        "old_versions": False,
        "filters": {name: spec.options.get(name) for name in ("maps", "margin")},
        "all_versions": spec.options.get("versions") == "all",
        "deep": False,
        "tags": False,
    }


def _worked_rows(spec: RunSpec) -> dict[str, Any]:
    """The rows of a run that works row by row."""
    options, filters = spec.options, spec.options.get("filters")
    if options.get("archives") and options.get("sample") and isinstance(filters, Mapping):
        filters = {**filters, "sample": options["sample"]}  # of archives, which no filter of rows takes
    if isinstance(filters, Mapping):
        filters = {**filters, **{name: options[name] for name in _PARTS if options.get(name)}}
    is_listing = spec.manifest == f"listing of {spec.source.location}"
    return {
        "manifest": None if is_listing else spec.manifest,
        "rows_sha256": options.get(ROWS_SHA256),
        "old_versions": may_name_old_versions(spec),
        "filters": filters,
        "all_versions": bool(options.get("all_versions")),
        "deep": bool(options.get("deep")),
        "tags": bool(options.get("compares_tags")),
    }


def began_at(run: Summary) -> float:
    """When a run began, in epoch seconds. The id of a run has a fraction of the second."""
    second, fraction = begin_second(run["run_id"]), _FRACTION.fullmatch(run["run_id"].rpartition("-")[2])
    if second is not None and fraction is not None:
        return second + int(fraction[1], 16) / 4096
    return datetime.fromisoformat(run["created_at"]).timestamp() if run["created_at"] else 0.0


def ended_at(run: Summary) -> float:
    """When a run had its last outcome, in epoch seconds. Of one that has not ended: when it began.

    A run that was stopped may go on days after it began.
    """
    seconds = run.get("seconds", 0)  # anything may be in the ledger
    return began_at(run) + seconds if isinstance(seconds, int | float) and seconds < _LONGEST_SECONDS else math.inf


def covers(later: Summary, earlier: Summary) -> bool:
    """Whether a run looked at all rows of an earlier one, as closely, and after it."""
    if later["state"] != RunState.COMPLETE or not later["rows"] or later["job"] != earlier["job"]:
        return False
    if began_at(later) < ended_at(earlier) or later["unread"] or _is_unjudged(later):
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
        and new["tags"] >= old["tags"]
        and (new["deep"] or new["at_rest"] >= old["at_rest"])
        and new["deletes"] >= old["deletes"]
    )


def has_judged(run: Summary) -> bool:
    """Whether a run found each of its rows right or wrong. It may have failed at them instead."""
    return all(status in _JUDGED for status, rows in run["outcomes"].items() if rows)


def _is_unjudged(run: Summary) -> bool:
    """Whether a run found nothing, since it could judge none of its rows.

    One that failed at them found that.
    """
    return not run["failures"] and not any(rows and status in _JUDGED for status, rows in run["outcomes"].items())


def find_repaired(runs: Sequence[Summary], is_proof_only: Callable[[str], bool]) -> set[str]:
    """The ids of the runs all of whose bad rows a retry brought to a good end.

    `runs`: the latest first. `is_proof_only`: whether a job writes nothing, so that none of its
    runs repairs what another one left. A run counts as repaired too if what its retry left was
    repaired. The repair of a reconciliation has a run for each prefix, and may leave out
    differences. No retry repairs a damaged source, nor what a run failed to read, or could not:
    only a later look that covers it does.
    """
    done: set[str] = set()
    rows: Counter[str] = Counter()
    failures = {run["run_id"]: run["failures"] for run in runs}
    lasting = {
        run["run_id"]
        for run in runs
        if run["outcomes"].get(Status.DAMAGED) or _has_failed_to_read(run) or run["unread"]
    }
    for run in runs:
        first = run["retry_of"]
        is_well = run["state"] == RunState.COMPLETE and (not run["failures"] or run["run_id"] in done)
        if (
            first is None
            or first in lasting
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


def _has_failed_to_read(run: Summary) -> bool:
    """Whether a run that reads bytes left a row unread. A retry may compare ETags alone."""
    is_deep = bool((run["scope"] or {}).get("deep"))
    return is_deep and any(run["outcomes"].get(status) for status in _UNREAD)


def find_repair(runs: Sequence[Summary], run_ids: Collection[str], is_proof_only: Callable[[str], bool]) -> str:
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
