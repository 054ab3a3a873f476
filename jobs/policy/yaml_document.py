"""YAML documents as plain data, with the line of each value.

It follows the core schema of YAML 1.2, as Terraform's `yamldecode` does: `22:30` is a text and `no`
is not false. Aliases, tags and doubled names, which readers treat differently, are findings.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

import yaml
from msgspec import UNSET

from jobs.errors import Mistake, PolicyError
from jobs.policy.rules import Finding, Steps

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DEPTH = 40


class _Loader(_Base):  # type: ignore[misc]  # libyaml's loader where PyYAML was built with it
    """The safe loader, with the scalars of YAML 1.2's core schema."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


for _tag, _pattern, _first in (
    ("null", r"null|Null|NULL|~|", ("n", "N", "~", "")),
    ("bool", r"true|True|TRUE|false|False|FALSE", ("t", "T", "f", "F")),
    ("int", r"[-+]?(?:0|[1-9][0-9]{0,17})", tuple("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?", tuple("-+.0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first)

_SCALARS: dict[str, Any] = {
    "null": lambda text: None,
    "bool": lambda text: text.lower() == "true",
    "int": int,
    "float": float,
    "str": str,
}


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
            self._loader = _Loader(text.decode())
            try:
                node = self._loader.get_single_node()
                self.data = None if node is None else self._value(node, ())
            finally:
                self._loader.dispose()
        except UnicodeDecodeError as error:
            raise PolicyError(name, [Mistake("", "", f"not UTF-8 (byte {error.start}): save it as UTF-8")]) from None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            what = " ".join(filter(None, (error.context, error.problem)))
            last = len(text.decode().splitlines())  # an open bracket is noticed behind the end
            line = min(mark.line + 1, max(1, last)) if mark else None
            advice = "close each bracket and quote, and indent by spaces"
            raise PolicyError(name, [Mistake("", "", f"not YAML: {what}: {advice}", line)]) from None
        except yaml.YAMLError as error:
            raise PolicyError(name, [Mistake("", "", f"not YAML: {' '.join(str(error).split())}")]) from None
        except RecursionError:
            raise PolicyError(name, [Mistake("", "", "nested too deeply for a policy")]) from None

    def line(self, steps: Steps) -> int | None:
        """The line of the value, or of the nearest one around it."""
        around = (steps[:length] for length in range(len(steps), -1, -1))
        return next((self.lines[place] for place in around if place in self.lines), None)

    def _value(self, node: Any, steps: Steps) -> Any:
        self.lines.setdefault(steps, node.start_mark.line + 1)
        if len(steps) > _DEPTH:
            raise RecursionError
        if id(node) in self._seen:
            return self._refuse(steps, "an alias: write the value itself, so that every reader sees the same")
        self._seen.add(id(node))
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        if isinstance(node, yaml.MappingNode) and kind == "map":
            return self._mapping(node, steps)
        if isinstance(node, yaml.SequenceNode) and kind == "seq":
            return [self._value(each, (*steps, place)) for place, each in enumerate(node.value)]
        plain = self._loader.resolve(yaml.ScalarNode, node.value, (True, False))
        if isinstance(node, yaml.ScalarNode) and (kind == "str" or (kind in _SCALARS and node.tag == plain)):
            return _SCALARS[kind](node.value)
        return self._refuse(steps, f"the tag {node.tag}: write a plain value")

    def _mapping(self, node: Any, steps: Steps) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._refuse(steps, f"no name before the colon in line {key.start_mark.line + 1}: write one")
                continue
            place = (*steps, key.value)
            self.lines[place] = key.start_mark.line + 1
            if key.value in values:
                self._refuse(place, "given twice: write it once")
            values[key.value] = self._value(value, place)
        return values

    def _refuse(self, steps: Steps, expected: str) -> None:
        self.findings.append(Finding(steps, UNSET, expected))
