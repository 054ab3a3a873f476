"""The registry: which module has which kind of work."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from jobs.core.run import RunSpec
from jobs.errors import ConfigError
from jobs.runs.kind import Kind, Opened
from jobs.runs.worker import Job

KINDS: Mapping[tuple[str, str | None], str] = {
    ("replicate", "from_events"): "jobs.backup.kind",
    ("replicate", None): "jobs.replicate.kind",
    ("verify", "archives"): "jobs.verify.archives_kind",
    ("verify", None): "jobs.verify.kind",
    ("compact", None): "jobs.compact.kind",
    ("restore", None): "jobs.restore.kind",
    ("expire", None): "jobs.expire.kind",
    ("reconcile", None): "jobs.reconcile.kind",
}
"""Maps (a run's job, an option that makes it another kind) to the module of its `KIND`.

A module loads when it is used.
"""


def find_kind(job: str, options: Mapping[str, Any]) -> Kind:
    """The kind of work of a job with these options. Raises ConfigError for an unknown job."""
    for (name, option), module in KINDS.items():
        if name == job and (option is None or options.get(option)):
            kind: Kind = import_module(module).KIND
            return kind
    raise ConfigError(f"{job!r} is a kind of run that this version of Sealift does not know: use a newer version")


def kind_of(spec: RunSpec) -> Kind:
    """The kind of work of a run. Raises ConfigError."""
    return find_kind(spec.job, spec.options)


def open_job(opened: Opened) -> Job:
    """The job of one worker. Raises ConfigError for a run that has no workers."""
    kind = kind_of(opened.spec)
    if kind.open_job is None:
        raise ConfigError(f"run {opened.spec.run_id} is a {kind.name} run: no worker works on it")
    return kind.open_job(opened)
