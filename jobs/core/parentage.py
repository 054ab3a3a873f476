"""Parentage: environment variables that tie a started process to the one that started it."""

from __future__ import annotations

PARENT_PIPE = "SEALIFT_PARENT_PIPE"
"""The variable that is set where stdin is a pipe from the parent. It closes when the parent ends."""
LENDING = "SEALIFT_PARENT_LENDS"
"""The variable that is set where the parent also sends credentials through that pipe."""
TIED = {PARENT_PIPE: "1"}
