"""Parentage: how a process makes one that it starts end with it."""

from __future__ import annotations

PARENT_PIPE = "SEALIFT_PARENT_PIPE"
"""The variable that is set where stdin is a pipe whose other end the parent holds for as long as it
lives."""
LENDING = "SEALIFT_PARENT_LENDS"
"""The variable that is set where the parent also answers questions for credentials by that pipe."""
TIED = {PARENT_PIPE: "1"}
