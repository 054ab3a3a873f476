"""Makes docs/policy.schema.json, the JSON Schema of the policy file for editors, from the types of `jobs.policy.model`.

python -m tests.policy.schema > docs/policy.schema.json
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from jobs.policy.model import PolicyFile

FILE = Path(__file__).resolve().parents[2] / "docs" / "policy.schema.json"
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def make_schema() -> dict[str, Any]:
    """The JSON Schema of a policy file: no other names, and numbers that people write as a text."""
    schema = msgspec.json.schema(PolicyFile)
    for section in schema["$defs"].values():
        if "description" in section:  # a docstring, of which Python 3.13 takes the indent away
            section["description"] = " ".join(section["description"].split())
        if "properties" in section:
            section |= {
                "additionalProperties": False,
                "properties": dict(map(_as_written, section["properties"].items())),
            }
    return {"$schema": DIALECT, "title": "Sealift policy", **schema}


def _as_written(item: tuple[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    name, value = item
    if isinstance(value.get("default"), dict):  # a section whose fields have their own
        del value["default"]
    for each in (value, *value.get("anyOf", ())):
        if "pattern" in each and each["type"] in ("integer", "number"):
            value.pop("default", None)
            for bound in ("minimum", "maximum"):
                each.pop(bound, None)
            each["type"] = "string"
    return name, value


def as_text() -> str:
    """The schema as it is in `FILE`."""
    return json.dumps(make_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(as_text(), end="")
