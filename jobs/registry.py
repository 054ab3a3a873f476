"""The registry: which module has which kind of work."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

from jobs.core.run import RunSpec
from jobs.errors import ConfigError
from jobs.runs.kind import Kind
from jobs.runs.request import Request

KINDS: Mapping[tuple[str, str | None], str] = {
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


def kind_of(run: RunSpec | Request) -> Kind:
    """The kind of work of a run. Raises ConfigError for an unknown job."""
    return kind_named(run.job, run.options)


def kind_named(job: str, options: Mapping[str, object] = MappingProxyType({})) -> Kind:
    """The kind of work of a job with these options. Raises ConfigError for an unknown job."""
    for (name, option), module in KINDS.items():
        if name == job and (option is None or options.get(option)):
            kind: Kind = import_module(module).KIND
            return kind
    raise ConfigError(
        f"{job!r} is a kind of run that this version of Sealift does not know", advice="use a newer version"
    )
