"""The registry: which module has which kind of work."""

from __future__ import annotations

from importlib import import_module

from jobs.core.run import RunSpec
from jobs.errors import ConfigError
from jobs.runs.kind import Kind
from jobs.runs.request import Request

KINDS = frozenset({"replicate", "verify", "compact", "restore", "expire", "reconcile"})
"""The jobs, each a package whose module `kind` has its `KIND`. A module loads when it is used."""


def kind_of(run: RunSpec | Request) -> Kind:
    """The kind of work of a run. Raises ConfigError for an unknown job."""
    if run.job not in KINDS:
        what = f"{run.job!r} is a kind of run that this version of Sealift does not know"
        raise ConfigError(what, advice="use a newer version")
    module = "archives_kind" if run.job == "verify" and run.options.get("archives") else "kind"
    kind: Kind = import_module(f"jobs.{run.job}.{module}").KIND
    return kind
