"""The policy file's reader: YAML in, a `Policy` or all mistakes out.

msgspec converts the values into the types. It stops at the first mistake and ignores names that a
dataclass does not have, so this module walks over everything first.

The Lambdas import this module: nothing heavy here.
"""

from __future__ import annotations

import json
import typing
import zoneinfo
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any

import msgspec

from jobs.core.model import Location, ObjectRef
from jobs.errors import Mistake, NotFound, PolicyError
from jobs.policy.model import POLICY_VERSION, Defaults, Policy
from jobs.policy.rules import Finding, Steps, find_mistakes
from jobs.policy.words import TimeZone, Word
from jobs.policy.yaml_document import Document

if TYPE_CHECKING:
    from jobs.s3.store import Store

MAX_BYTES = 1_000_000


async def load_policy(uri: str, store: Store) -> Policy:
    """The policy at an s3:// URI. Raises PolicyError, and StoreError when S3 refuses."""
    location = Location.parse(uri)
    try:
        body = await store.get(ObjectRef(location.bucket, location.key), end=MAX_BYTES + 1)
    except NotFound as error:
        raise PolicyError(uri, [Mistake("", "", f"not there ({error.code}): correct the address")]) from None
    return parse_policy(body.data, uri)


def read_policy(path: str) -> Policy:
    """The policy in a local file. Raises PolicyError."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise PolicyError(path, [Mistake("", "", f"not readable ({reason}): correct the path")]) from None
    return parse_policy(data, path)


def parse_policy(data: bytes, name: str) -> Policy:
    """The policy in the bytes of a file called `name`. Raises PolicyError with all mistakes."""
    if len(data) > MAX_BYTES:
        raise PolicyError(name, [Mistake("", "", f"larger than {MAX_BYTES:,} bytes: this is not a policy")])
    document = Document(data, name)
    if document.data is None and not document.findings:
        raise PolicyError(name, [Mistake("", "", "is empty: write a policy as in policy.example.yaml")])
    findings = [*document.findings, *_version(document.data), *_shape(document.data, Policy, ())]
    policy, numbers = _sound_part(document.data, findings)
    if policy is not None:
        findings += (_renumbered(finding, numbers) for finding in find_mistakes(policy))
    if findings or policy is None:
        raise PolicyError(name, _mistakes(document, findings))
    return policy


def _version(raw: Any) -> Iterator[Finding]:
    """Another version than the one that this program reads, however broken the rest is."""
    version = raw.get("version", POLICY_VERSION) if isinstance(raw, dict) else POLICY_VERSION
    if type(version) is int and version > 0 and version != POLICY_VERSION:
        yield Finding(("version",), version, f"{POLICY_VERSION}, the version that this program reads")


def _shape(value: Any, kind: Any, steps: Steps) -> Iterator[Finding]:
    """Everything in the value that does not fit the type, with its place."""
    if isinstance(kind, UnionType):  # the only unions of a policy are with None
        kind = next(option for option in typing.get_args(kind) if option is not type(None))
        if value is None:
            return
    inner = typing.get_args(kind)
    if is_dataclass(kind):
        yield from _section(value, kind, steps)
    elif typing.get_origin(kind) is tuple:
        if not isinstance(value, list):
            yield Finding(steps, value, "a list")
            return
        for place, each in enumerate(value):
            yield from _shape(each, inner[0], (*steps, place))
    elif typing.get_origin(kind) is Mapping:
        if not isinstance(value, dict):
            yield Finding(steps, value, "a mapping, name: value")
            return
        for name, each in value.items():
            yield from _shape(name, inner[0], (*steps, name))
            yield from _shape(each, inner[1], (*steps, name))
    else:
        yield from _scalar(value, kind, steps)


def _section(value: Any, kind: Any, steps: Steps) -> Iterator[Finding]:
    known = _fields(kind)
    if not isinstance(value, dict):
        yield Finding(steps, value, _expected(kind, value))
        return
    for name, each in value.items():
        if name in known:
            yield from _shape(each, known[name][1], (*steps, name))
        else:
            hint = _suggest(name, known) or f": there are {', '.join(known)}"
            yield Finding((*steps, name), MISSING, f"there is no such name{hint}")
    for name, (field, hint) in known.items():
        if name not in value and field.default is MISSING and field.default_factory is MISSING:
            wanted = str(POLICY_VERSION) if (*steps, name) == ("version",) else _expected(hint, None)
            yield Finding((*steps, name), MISSING, f"missing: write {wanted}")


def _scalar(value: Any, kind: Any, steps: Steps) -> Iterator[Finding]:
    try:
        converted = _convert(value, kind)
    except msgspec.ValidationError:
        yield Finding(steps, value, _expected(kind, value))
        return
    if isinstance(converted, TimeZone) and not _is_zone(converted):
        hint = _suggest(value, sorted(zoneinfo.available_timezones()))
        yield Finding(steps, value, f"{kind.expected}{hint}")


def _expected(kind: Any, value: Any) -> str:
    if kind is bool:
        return "true or false"
    if kind is str:
        return "a text (in quotes where it looks like a number)"
    if not isinstance(kind, type):
        return "a list"
    if is_dataclass(kind):
        return f"a section with {', '.join(_fields(kind))}"
    if issubclass(kind, Word):
        return kind.expected
    names = [each.value for each in typing.cast(Iterable[Any], kind)]
    return f"one of {', '.join(names)}{_suggest(value, names)}"


def _sound_part(raw: Any, findings: list[Finding]) -> tuple[Policy | None, list[int]]:
    """The policy without its broken pairs and sections, and the numbers of the remaining pairs."""
    broken = {finding.steps[:2] if finding.steps[:1] == ("pairs",) else finding.steps[:1] for finding in findings}
    if broken & {(), ("version",), ("ledger",), ("pairs",)}:
        return None, []
    whole = {name: value for name, value in raw.items() if (name,) not in broken}
    numbers = [number for number in range(len(raw["pairs"])) if ("pairs", number) not in broken]
    if broken and not numbers:
        return None, []
    shared = {name: whole.get("defaults", {}).get(name, MISSING) for name in _fields(Defaults)}
    pairs = [_owned(_inherit(raw["pairs"][number], shared), whole.get("account")) for number in numbers]
    return _convert(whole | {"pairs": pairs}, Policy), numbers


def _inherit(pair: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    """The pair, completed from the shared sections, field by field."""
    inherited = {name: value for name, value in shared.items() if value is not MISSING}
    for name in inherited.keys() & pair.keys():
        inherited[name] = inherited[name] | pair[name] if isinstance(pair[name], dict) else pair[name]
    return pair | inherited


def _owned(pair: dict[str, Any], account: str | None) -> dict[str, Any]:
    """The pair, whose buckets are the system's where they name no other account."""
    sections = {name: pair[name] for name in ("source", "destination", "replica", "archive") if pair.get(name)}
    return pair | {name: each | {"account": each.get("account") or account} for name, each in sections.items()}


def _convert(value: Any, kind: Any) -> Any:
    return msgspec.convert(value, kind, dec_hook=lambda word, text: word.parse(text))


@cache
def _fields(kind: type[Any]) -> dict[str, tuple[Field[Any], Any]]:
    hints = typing.get_type_hints(kind)
    return {field.name: (field, hints[field.name]) for field in fields(kind)}


def _is_zone(name: str) -> bool:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _suggest(name: Any, known: Iterable[str]) -> str:
    import difflib  # only a mistake needs it

    near = difflib.get_close_matches(str(name), list(known), 1)
    return f" (did you mean {near[0]}?)" if near else ""


def _renumbered(finding: Finding, numbers: list[int]) -> Finding:
    if finding.steps[0] != "pairs" or len(finding.steps) < 2:
        return finding
    return finding._replace(steps=("pairs", numbers[int(finding.steps[1])], *finding.steps[2:]))


def _mistakes(document: Document, findings: list[Finding]) -> list[Mistake]:
    """The findings as people read them, each once, in the file's order."""
    mistakes: dict[Mistake, None] = {}
    for steps, value, expected in findings:
        text = "" if value is MISSING else json.dumps(value, default=str, ensure_ascii=False)
        text = text if len(text) <= 100 else text[:99] + "…"
        path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).removeprefix(".")
        mistake = Mistake(path, text, expected, document.line(steps), _pair_name(document.data, steps))
        mistakes[mistake] = None
    return sorted(mistakes, key=lambda mistake: mistake.line or 0)


def _pair_name(raw: Any, steps: Steps) -> str | None:
    if len(steps) < 2 or steps[0] != "pairs" or not isinstance(steps[1], int):
        return None
    pairs = raw["pairs"]  # of a key given twice, YAML may keep another value than was read first
    pair = pairs[steps[1]] if isinstance(pairs, list) and steps[1] < len(pairs) else None
    name = pair.get("name") if isinstance(pair, dict) else None
    return name if isinstance(name, str) else None
