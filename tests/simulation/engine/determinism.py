"""Clocks, dice and ids that a schedule's seed decides, and other stand-ins, wherever the product has the real ones."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import pkgutil
import random
import secrets
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from tests.simulation.engine.loop import LABEL

if TYPE_CHECKING:
    from tests.simulation.engine.world import World

Swap = tuple[Any, Any]
PACKAGES = ("jobs", "scheduler")
EPOCH = 1_700_000_000.0


def swaps_of(world: World) -> list[Swap]:
    """Python's own clocks, dice and ids, and those of the world: a process has a clock of its own."""
    numbers = iter(range(1, 10_000_000))

    def wall() -> float:
        process: Any = LABEL.get()
        return EPOCH + world.loop.now if process is None else float(process.clock())

    return [
        (time.time, wall),
        (time.monotonic, world.loop.time),
        (time.clock_gettime, lambda clock: world.loop.time()),
        (time.time_ns, lambda: int(wall() * 1e9)),
        (random.random, world.chance),
        (secrets.token_hex, lambda size_bytes=16: f"{next(numbers):0{2 * size_bytes}x}"),
    ]


@contextlib.contextmanager
def replaced(swaps: Iterable[Swap], constants: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Have others in the place of some functions, wherever a module of the product has them, under whatever name, or a
    function takes them unless it is given another. `constants`: values of all that have these names there.
    """
    index, before = _index(), list[tuple[Any, str, Any]]()

    def replace(owner: Any, name: str, value: Any) -> None:
        before.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    try:
        for own, instead in swaps:
            assert index[id(own)], f"nobody has {own}"
            for owner, name in {(id(owner), name): (owner, name) for owner, name in index[id(own)]}.values():
                value = getattr(owner, name)
                replace(owner, name, _with(value, own, instead) if name.startswith("__") else instead)
        for module, name in _constants(frozenset(constants or ())):
            replace(module, name, (constants or {})[name])
        for module, name in ((gc, "freeze"), (gc, "set_threshold"), (os, "sched_setscheduler")):
            replace(module, name, lambda *given: None)
        yield
    finally:
        for owner, name, value in reversed(before):
            setattr(owner, name, value)


def _with(defaults: Any, own: Any, instead: Any) -> Any:
    """Default values of a function's arguments."""
    if isinstance(defaults, dict):
        return {name: instead if value is own else value for name, value in defaults.items()}
    return tuple(instead if value is own else value for value in defaults)


@cache
def _modules() -> list[Any]:
    """All of the product's, since what is imported later would keep what stands in for clocks."""
    for package in map(importlib.import_module, PACKAGES):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    own = [each for name, each in list(sys.modules.items()) if name.partition(".")[0] in PACKAGES]
    return [*own, *map(sys.modules.__getitem__, ("time", "random", "secrets", "duckdb"))]


@cache
def _constants(names: frozenset[str]) -> list[tuple[Any, str]]:
    return [(module, name) for module in _modules() for name in sorted(names & vars(module).keys())]


@cache
def _index() -> Mapping[int, list[tuple[Any, str]]]:
    """By id of a function: the modules and names that have it, and functions of which it is an argument's default."""
    found: dict[int, list[tuple[Any, str]]] = defaultdict(list)
    for module in _modules():
        for name, value in list(vars(module).items()):
            found[id(value)].append((module, name))
            for function in [value, *vars(value).values()] if isinstance(value, type) else [value]:
                for attribute in ("__defaults__", "__kwdefaults__"):
                    defaults = getattr(function, attribute, None)
                    values: Any = defaults.values() if isinstance(defaults, dict) else defaults
                    for each in values if isinstance(defaults, dict | tuple) else ():
                        found[id(each)].append((function, attribute))
    return found
