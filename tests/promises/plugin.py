"""A pytest plugin that plants the break SEALIFT_BREAK in its own process. Nothing on disk changes."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import Phase, settings

from tests.promises.breaks import BREAKS, Break
from tests.promises.seams import SEAMS

calls = 0


def plant(broken: Break) -> None:
    """Put the break into each function of its seam, under each name that a module knows it by."""
    for target in SEAMS[broken.seam]:
        module, _, path = target.partition(":")
        *parents, name = path.split(".")
        owner: Any = functools.reduce(getattr, parents, importlib.import_module(module))
        as_stored = inspect.getattr_static(owner, name)
        original = getattr(as_stored, "__func__", as_stored)
        patched: Any = _patched(original, broken.change)
        for each in list(sys.modules.values()) if not parents else []:
            for known_as, value in list(vars(each).items()):
                if value is original:
                    setattr(each, known_as, patched)
        setattr(owner, name, type(as_stored)(patched) if original is not as_stored else patched)


def _patched(original: Callable[..., Any], change: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        global calls
        calls += 1
        return change(original, *args, **kwargs)

    return call


def pytest_sessionstart() -> None:
    """One example that fails is enough: none is made shorter."""
    settings.register_profile("broken", settings(), phases=(Phase.explicit, Phase.generate), database=None)
    settings.load_profile("broken")


def pytest_sessionfinish() -> None:
    Path(os.environ["SEALIFT_REACHED"]).write_text(str(calls))


plant(next(each for each in BREAKS if each.name == os.environ["SEALIFT_BREAK"]))
