"""The policy file's reader: YAML in, a `Policy` or all mistakes out.

msgspec checks each value by its type. It stops at the first mistake, so this module walks over the file value by value,
and parses what people write as a text (`100 MiB`).
"""

from __future__ import annotations

import hashlib
import json
import os.path
import typing
from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import UnionType
from typing import Any

import msgspec
from msgspec import UNSET, Meta, Struct, structs

from jobs.errors import Mistake, PolicyError, UsageError
from jobs.policy.model import Policy, PolicyFile
from jobs.policy.resolved import ResolvedPolicy, decode_policy, load_bytes, read_bytes
from jobs.policy.rules import Finding, Steps, find_mistakes
from jobs.policy.yaml_document import Document

if typing.TYPE_CHECKING:
    from jobs.s3.store import Store


async def load_policy(uri: str, store: Store) -> Policy:
    """The policy at an s3:// URI. Raises PolicyError, and StoreError when S3 refuses."""
    return parse_policy(await load_bytes(uri, store), uri)


def read_policy(path: str) -> Policy:
    """The policy in a local file. Raises PolicyError."""
    return parse_policy(read_bytes(path), path)


def resolve_policy(path: str) -> ResolvedPolicy:
    """The policy in a local YAML file, as policy.json has it. Raises PolicyError."""
    data = read_bytes(path)
    digest = hashlib.sha256(data).hexdigest()
    return ResolvedPolicy(file=os.path.basename(path), sha256=digest, policy=parse_policy(data, path))


def parse_policy(data: bytes, name: str) -> Policy:
    """The policy in the bytes of a file called `name`: YAML, or what was made of it where that ends in `.json`.

    Raises PolicyError with all mistakes: of single values, or else those between them.
    """
    if name.endswith(".json"):
        return decode_policy(data, name)
    document = Document(data, name)
    findings = document.findings
    if document.data is None and not findings:
        raise PolicyError(name, [Mistake("", "", "is empty: write a policy as in policy.example.yaml")])
    values = {} if findings else read_value(document.data, PolicyFile, (), findings)
    if not findings:
        policy = msgspec.convert(_completed(values), Policy)
        findings += find_mistakes(policy)
    if findings:
        raise PolicyError(name, _mistakes(document, findings))
    return policy


def read_value(value: Any, annotated: Any, steps: Steps, findings: list[Finding]) -> Any:
    """The value as JSON has it. What does not fit the type is added to the findings."""
    kind, metas = _unwrapped(annotated)
    if typing.get_origin(kind) in (typing.Union, UnionType):  # the only unions of a policy are with None
        if value is None:
            return None
        kind, own = _unwrapped(next(each for each in typing.get_args(kind) if each is not type(None)))
        metas = [*own, *metas]
    inner = typing.get_args(kind)
    if isinstance(kind, type) and issubclass(kind, Struct) and isinstance(value, dict):
        return _section(value, kind, steps, findings)
    if typing.get_origin(kind) is Mapping and isinstance(value, dict):
        for name in value:
            read_value(name, inner[0], (*steps, name), findings)
        return {name: read_value(each, inner[1], (*steps, name), findings) for name, each in value.items()}
    if typing.get_origin(kind) is tuple and isinstance(value, list) and value:
        return [read_value(each, inner[0], (*steps, place), findings) for place, each in enumerate(value)]
    parse = next(filter(None, ((meta.extra or {}).get("parse") for meta in metas)), lambda text: text)
    try:
        parsed = parse(value)
        msgspec.convert(parsed, typing.Annotated[(kind, *metas)] if metas else kind)
    except (ValueError, UsageError, LookupError, TypeError, OSError):  # of msgspec, of sizes, and of time zones
        findings.append(Finding(steps, value, _expected(kind, metas, value)))
        return value
    return parsed


def _section(value: dict[str, Any], kind: type[Struct], steps: Steps, findings: list[Finding]) -> dict[str, Any]:
    known = {field.name: field for field in structs.fields(kind)}
    for name in value.keys() - known.keys():
        hint = _suggest(name, known) or f": there are {', '.join(known)}"
        findings.append(Finding((*steps, name), UNSET, f"there is no such name{hint}"))
    for name, field in known.items():
        if field.required and name not in value:
            findings.append(Finding((*steps, name), UNSET, f"missing: write {_expected(*_unwrapped(field.type))}"))
    return {
        name: read_value(value[name], known[name].type, (*steps, name), findings) for name in value if name in known
    }


def _unwrapped(annotated: Any) -> tuple[Any, list[Meta]]:
    """A type, and what is said of its values."""
    if typing.get_origin(annotated) is typing.Annotated:
        kind, *metas = typing.get_args(annotated)
        return kind, metas
    return annotated, []


def _expected(kind: Any, metas: Iterable[Meta], value: Any = None) -> str:
    said = [text for meta in metas if (text := (meta.extra or {}).get("expected"))]
    origin = typing.get_origin(kind)
    if origin is tuple:
        return said[-1] if said and value == [] else "a list"
    if said:
        return str(said[-1])
    if origin is Mapping:
        return "a mapping, name: value"
    if origin is typing.Literal or issubclass(kind, StrEnum):
        names = [str(each) for each in typing.get_args(kind) or kind]
        if len(names) == 1:
            return f"{names[0]}, which this program reads"
        return f"one of {', '.join(names)}{_suggest(value, names)}"
    if issubclass(kind, Struct):
        return f"a section with {', '.join(kind.__struct_fields__)}"
    return "true or false" if kind is bool else "a text (in quotes where it looks like a number)"


def _completed(values: dict[str, Any]) -> dict[str, Any]:
    """The policy, with its defaults in each pair, field by field, and the owner of each bucket: mostly the system's."""
    shared: dict[str, Any] = values.get("defaults", {})

    def completed(pair: dict[str, Any]) -> dict[str, Any]:
        own = dict(pair)
        for name in shared.keys() & pair.keys():
            own[name] = shared[name] | pair[name] if isinstance(pair[name], dict) else pair[name]
        for name in ("source", "destination", "replica", "archive"):
            if side := own.get(name):
                own[name] = side | {"account": side.get("account") or values.get("account")}
        return shared | own

    return values | {"pairs": list(map(completed, values["pairs"]))}


def _suggest(name: Any, known: Iterable[str]) -> str:
    import difflib  # only a mistake needs it

    near = difflib.get_close_matches(str(name), list(known), 1)
    return f" (did you mean {near[0]}?)" if near else ""


def _mistakes(document: Document, findings: list[Finding]) -> list[Mistake]:
    """The findings as people read them, each once, in the file's order."""
    mistakes = dict.fromkeys(mistake_of(each, document.data, document.line(each.steps)) for each in findings)
    return sorted(mistakes, key=lambda mistake: mistake.line or 0)


def mistake_of(finding: Finding, data: Any, line: int | None = None) -> Mistake:
    """A finding in a file with this data, for people."""
    steps, value, expected = finding
    text = "" if value is UNSET else json.dumps(value, default=str, ensure_ascii=False)
    text = text if len(text) <= 100 else text[:99] + "…"
    return Mistake(path_of(steps), text, expected, line, _pair_name(data, steps))


def path_of(steps: Steps) -> str:
    """A place in the file: `pairs[1].destination.bucket`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).removeprefix(".")


def _pair_name(data: Any, steps: Steps) -> str | None:
    try:
        return str(data["pairs"][steps[1]]["name"]) if steps[0] == "pairs" else None
    except (LookupError, TypeError):
        return None
