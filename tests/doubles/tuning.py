"""SEALIFT_TUNING of an environment, from entries by the names of its settings."""

from __future__ import annotations

from collections.abc import Mapping

from jobs.config import TUNING, TUNING_NAMES


def tuned(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment, with entries such as `in_flight` in SEALIFT_TUNING, where they replace what is there."""
    own = dict(each.split("=") for each in environment.get(TUNING, "").split())
    own |= {name: value for name, value in environment.items() if name in TUNING_NAMES}
    others = {name: value for name, value in environment.items() if name not in (*TUNING_NAMES, TUNING)}
    return others | ({TUNING: " ".join(f"{name}={value}" for name, value in own.items())} if own else {})
