"""Parentage: an environment variable that ties a started process to the one that started it."""

from __future__ import annotations

PARENT = "SEALIFT_PARENT"
"""Set where stdin is a pipe from the parent, which closes when the parent ends. `LENDS`: the parent
also sends credentials through it."""
LENDS = "lends"
TIED = {PARENT: "watches"}
TIED_WITH_LOANS = {PARENT: LENDS}
