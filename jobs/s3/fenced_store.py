"""Store whose writes first ask whether they may still be sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast

from jobs.s3.store import Store

_READS = frozenset(
    {"head", "get", "get_tags", "list_objects", "list_parts", "list_versions", "is_versioned", "region_of"}
)
_CLEANUPS = frozenset({"abort_multipart", "close"})
_DELETES = frozenset({"delete", "delete_versions"})


class Hold(Protocol):
    """Returns when a write, or a delete, may be sent. Else it raises."""

    def __call__(self, *, deletes: bool = False) -> Awaitable[None]:
        """Ask for one request."""
        ...


def fenced(store: Store, hold: Hold) -> Store:
    """The store, with `hold` before each write.

    Reads pass, and so does what only cleans up. All else is a write.
    """
    return cast(Store, _FencedStore(store, hold))


class _FencedStore:
    """The Store protocol, request by request."""

    def __init__(self, store: Store, hold: Hold):
        self._store, self._hold = store, hold

    def __getattr__(self, name: str) -> Callable[..., Any]:
        send: Callable[..., Any] = getattr(self._store, name)
        if name in _READS or name in _CLEANUPS:
            return send

        async def write(*arguments: Any, **named: Any) -> Any:
            await self._hold(deletes=name in _DELETES)
            return await send(*arguments, **named)

        return write
