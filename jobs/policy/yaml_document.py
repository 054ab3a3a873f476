"""YAML documents as plain data, with the line of each value. Aliases and doubled names are findings."""

from __future__ import annotations

from typing import Any

import yaml
from msgspec import UNSET

from jobs.errors import Mistake, PolicyError
from jobs.policy.rules import Finding, Steps

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DEPTH = 40


class Document:
    """A parsed YAML file.

    `data`: mappings, lists and scalars. `lines`: the line of each value. `findings`: what YAML
    allows and a policy does not. Raises PolicyError where the file `name` cannot be read as YAML at
    all.
    """

    def __init__(self, text: bytes, name: str):
        self.lines: dict[Steps, int] = {}
        self.findings: list[Finding] = []
        self._seen: set[int] = set()
        try:
            loader = _Loader(text.decode())
            try:
                node = loader.get_single_node()
                self._walk(node, ())
                self.data = None if node is None or self.findings else loader.construct_document(node)
            finally:
                loader.dispose()
        except UnicodeDecodeError as error:
            raise PolicyError(name, [Mistake("", "", f"not UTF-8 (byte {error.start}): save it as UTF-8")]) from None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
            last = len(text.decode().splitlines())  # an open bracket is noticed behind the end
            line = min(mark.line + 1, max(1, last)) if mark else None
            what = " ".join(str(getattr(error, "problem", None) or error).split())
            advice = "close each bracket and quote, and indent by spaces"
            raise PolicyError(name, [Mistake("", "", f"not YAML: {what}: {advice}", line)]) from None
        except (RecursionError, ValueError) as error:  # a number that Python does not read
            why = "nested too deeply for a policy" if isinstance(error, RecursionError) else f"not YAML: {error}"
            raise PolicyError(name, [Mistake("", "", why)]) from None

    def line(self, steps: Steps) -> int | None:
        """The line of the value, or of the nearest one around it."""
        around = (steps[:length] for length in range(len(steps), -1, -1))
        return next((self.lines[place] for place in around if place in self.lines), None)

    def _walk(self, node: Any, steps: Steps) -> None:
        """Note the lines. An alias could make a small file endless, and YAML takes the last of two same names."""
        if node is None:
            return
        self.lines.setdefault(steps, node.start_mark.line + 1)
        if len(steps) > _DEPTH:
            raise RecursionError
        if id(node) in self._seen:
            self.findings.append(Finding(steps, UNSET, "an alias: write the value itself"))
            return
        self._seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            for place, each in enumerate(node.value):
                self._walk(each, (*steps, place))
        for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
            name = key.value if isinstance(key, yaml.ScalarNode) else ""
            there = (*steps, name)
            if there in self.lines:
                self.findings.append(Finding(there, UNSET, "given twice: write it once"))
            self.lines[there] = key.start_mark.line + 1
            self._walk(value, there)
