"""The registry: which module has which kind of work."""

from __future__ import annotations

from importlib import import_module

from jobs.core.run import RunSpec
from jobs.errors import ConfigError
from jobs.runs.kind import Kind
from jobs.runs.request import Request

KINDS = frozenset({"replicate", "verify", "compact", "restore", "expire", "reconcile", "rollback"})
"""The jobs, each a package whose module `kind` has its `KIND`. A module loads when it is used."""


def kind_of(run: RunSpec | Request) -> Kind:
    """The kind of work of a run. Raises ConfigError for an unknown job."""
    if run.job not in KINDS:
        what = f"{run.job!r} is a kind of run that this version of Sealift does not know"
        raise ConfigError(what, advice="use a newer version")
    variant = {"verify": "archives", "rollback": "undo"}.get(run.job, "")
    module = f"{variant}_kind" if run.options.get(variant) else "kind"
    kind: Kind = import_module(f"jobs.{run.job}.{module}").KIND
    return kind
