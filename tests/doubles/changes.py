"""Changes of functions: other arguments, other answers. Breaks of the program and of servers are made of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

Change = Callable[..., Any]
"""What is called instead of a function: with the function itself, then its arguments."""


def sending(**changes: Any) -> Change:
    """Call it with other arguments: values, or functions of the values given."""

    def change(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        bound = inspect.signature(original).bind(*args, **kwargs)
        bound.apply_defaults()
        for name, value in changes.items():
            bound.arguments[name] = value(bound.arguments[name]) if callable(value) else value
        return original(*bound.args, **bound.kwargs)

    return change


def answering(alter: Callable[[Any], Any]) -> Change:
    """Alter what it returns."""

    def change(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        answer = original(*args, **kwargs)
        if not inspect.isawaitable(answer):
            return alter(answer)

        async def wait() -> Any:
            return alter(await answer)

        return wait()

    return change
