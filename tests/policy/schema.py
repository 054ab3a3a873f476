"""Makes docs/policy.schema.json, the JSON Schema of the policy file for editors, from the types of `jobs.policy.model`.

python -m tests.policy.schema > docs/policy.schema.json
"""

from __future__ import annotations

import json
import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from types import UnionType
from typing import Any

from jobs.policy.model import POLICY_VERSION, Policy
from jobs.policy.words import Count, Dollars, Word

FILE = Path(__file__).resolve().parents[2] / "docs" / "policy.schema.json"
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def make_schema() -> dict[str, Any]:
    """The JSON Schema of a policy file."""
    definitions: dict[str, Any] = {}
    root = _schema(Policy, definitions)
    definitions["Policy"]["properties"]["version"] = {"const": POLICY_VERSION, "description": "This format: 1."}
    for section, name in (("Policy", "pairs"), ("Archive", "rules"), ("Source", "prefixes")):
        definitions[section]["properties"][name]["minItems"] = 1
    return {"$schema": DIALECT, "title": "Sealift policy", **root, "$defs": definitions}


def _schema(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    inner = typing.get_args(kind)
    if isinstance(kind, UnionType):
        return {"anyOf": [_schema(each, definitions) for each in inner]}
    if typing.get_origin(kind) is tuple:
        return {"type": "array", "items": _schema(inner[0], definitions)}
    if typing.get_origin(kind) is Mapping:
        names, values = (_schema(each, definitions) for each in inner)
        return {"type": "object", "propertyNames": names, "additionalProperties": values}
    if is_dataclass(kind):
        name = typing.cast(type, kind).__name__
        if name not in definitions:
            definitions[name] = {}
            definitions[name].update(_section(kind, definitions))
        return {"$ref": f"#/$defs/{name}"}
    if issubclass(kind, Word):
        return word_schema(kind)
    if issubclass(kind, StrEnum):
        return {"enum": [each.value for each in kind]}
    return {"type": {bool: "boolean", str: "string", type(None): "null"}[kind]}


def _section(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(kind, include_extras=True)
    known = fields(kind)
    required = [each.name for each in known if each.default is MISSING and each.default_factory is MISSING]
    return {
        "type": "object",
        "description": " ".join((kind.__doc__ or "").split()),
        "properties": {each.name: _property(each, hints[each.name], definitions) for each in known},
        "required": required,
        "additionalProperties": False,
    }


def _property(field: Field[Any], hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    about = getattr(hint, "__metadata__", ())
    schema = _schema(hint.__origin__ if about else hint, definitions)
    if about:
        schema["description"] = about[0]
    if field.default is not MISSING and not is_dataclass(field.default):
        schema["default"] = _as_written(field.default)
    return schema


def _as_written(value: Any) -> Any:
    """A default as one would write it in the file."""
    if isinstance(value, tuple):
        return [_as_written(each) for each in value]
    return value.as_written() if isinstance(value, Word) else value


def word_schema(kind: type[Word]) -> dict[str, Any]:
    if kind is Count:
        return {"type": "integer", "minimum": 1, "exclusiveMaximum": 10**12}
    text = {"type": "string", "pattern": kind.pattern, "errorMessage": f"expected {kind.expected}"}
    if kind is Dollars:
        return {"anyOf": [{"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1e9}, text]}
    return text


def as_text() -> str:
    """The schema as it is in `FILE`."""
    return json.dumps(make_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(as_text(), end="")
