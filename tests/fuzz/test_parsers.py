"""What the fuzzer found, and a little of what it does, without it: nothing but our own errors comes out of a parser."""

from __future__ import annotations

import contextlib
import json
import random

import pytest

from tests.fuzz.__main__ import CORPUS, folder_name
from tests.fuzz.parsers import PARSERS, Parser, parquet

BY_NAME = {parser.name: parser for parser in PARSERS}
MUTATIONS = 300
STRANGE = [b"null", b"-1", b'"', b"<", b"\xff", b"%", b"9" * 30, b"[]"]


def _seed(name: str, **changes: object) -> bytes:
    """The well-formed document of a parser, with these values."""
    return json.dumps(json.loads(BY_NAME[name].seeds[0]) | changes).encode()


DEEP = b"[" * 100_000
FINDINGS = [
    ("policy", b"pairs:\n  - a\npairs: text\npairs: []\n"),
    ("policy", b"version: 1\nname: sealift\nis:\n  - name: pair\n pair\npairs: \n  - n,,,"),
    ("answers", b"<CopyObjectResult><ETag>&qt;e&q\xfcot;</ETag></CopyObjectResult>"),
    ("answers", b"<CopyObjectResult><ETag>e</ETag><ChecksumCRC32>\xfc</ChecksumCRC32></CopyObjectResult>"),
    ("headers", b"content-length:3\nx-amz-tagging-count:2th"),
    ("headers", b"x-amz-mp-parts-count:two"),
    ("headers", b"content-length:" + b"9" * 5_000),
    ("spec", b'{"spec_version": 1, "run_id": "r"}'),
    ("spec", b"[]"),
    ("plan", b'{"spec_version": 1, "rows": 1, "size_bytes": 2, "shards": [{"rows": 1}]}'),
    ("plan", b'{"spec_version": 1, "rows": 1, "size_bytes": 2, "shards": [], "zequests": {}}'),
    ("report", b""),
    ("report", b"3"),
    ("outcomes", b"PAR1"),
    ("own index", parquet(key=[b"k"], size_bytes=[b"three"])),
    ("own index", parquet(key=["k"])),
    ("own index", parquet(key=["kkkk"], size_bytes=[3]).replace(b"kkkk", b"k\xe9kk")),
    ("shard", BY_NAME["outcomes"].seeds[0]),
    ("outcomes", BY_NAME["shard"].seeds[0]),
    ("tombstones", b"PAR1"),
    ("tombstones", BY_NAME["shard"].seeds[0]),
    ("claim", b"[]"),
    ("claim", b"{}"),
    ("claim", b"\xff"),
    ("checkpoint", "a-²-0-0-0.parquet".encode()),
    (
        "inventory",
        json.dumps(json.loads(BY_NAME["inventory"].seeds[0]) | {"creationTimestamp": "9" * 5_000}).encode(),
    ),
    ("backlog", _seed("backlog", version_id=[])),
    ("backlog manifest", _seed("backlog manifest", taken=[[]])),
    ("backlog manifest", b"[]"),
    ("submission", _seed("submission", shards=[[0, -(10**9)], [0, 10**9]])),
    ("submission", _seed("submission", per_child=0)),
    ("submission", _seed("submission", placement={"queue": 1})),
    ("archive directory", b'[["a.tar.zst", "e", []]]'),
    ("archive directory", BY_NAME["archive directory"].seeds[0].replace(b'"s3://archives/a.tar.zst"', b'"a"')),
    ("archive directory", BY_NAME["archive directory"].seeds[0].replace(b'"first_key": "a/b"', b'"first_key": 1')),
    ("night record", _seed("night record", written_at="now")),
    ("night record", b"{}"),
    ("night claim", _seed("night claim", sample=7)),
    ("night summary", _seed("night summary", stages=[7])),
    ("night message", _seed("night message", stages=7)),
    ("report message", _seed("report message", outcomes=[7])),
    ("report message", b"[7]"),
    ("proof", _seed("proof", member=[[]])),
    ("proof", _seed("proof", key=7)),
    ("proof", _seed("proof", proven_at=10**400)),
    ("expired rows", BY_NAME["shard"].seeds[0]),
    ("archive index", BY_NAME["shard"].seeds[0]),
    ("shard", parquet(row=[None], key=[None])),
    *(
        (name, DEEP)
        for name in (
            *("backlog", "backlog manifest", "submission", "archive directory", "night record", "report message"),
            *("proof", "start", "launch", "lease"),
        )
    ),
    *(
        (name, DEEP)
        for name in ("events", "claim", "inventory", "spec", "plan", "report", "locator", "policy", "checksum report")
    ),
]


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)
def test_what_is_well_formed_is_read(parser: Parser):
    for seed in parser.seeds:
        parser.parse(seed)


@pytest.mark.parametrize(("name", "data"), FINDINGS, ids=lambda value: str(value)[:40])
def test_what_the_fuzzer_found_is_told_as_an_error_of_ours(name: str, data: bytes):
    _attempt(BY_NAME[name], data)


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)
def test_what_the_fuzzer_kept_is_read_or_told_as_an_error_of_ours(parser: Parser):
    for path in sorted((CORPUS / folder_name(parser.name)).glob("*")):
        _attempt(parser, path.read_bytes())


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)
def test_what_is_damaged_is_told_as_an_error_of_ours(parser: Parser):
    chance = random.Random(parser.name)
    for _ in range(MUTATIONS):
        _attempt(parser, _damaged(chance.choice(parser.seeds), chance))


def _attempt(parser: Parser, data: bytes) -> None:
    with contextlib.suppress(*parser.raises):
        parser.parse(data)


def _damaged(data: bytes, chance: random.Random) -> bytes:
    """Bytes changed, taken out, doubled, moved, cut off: up to four times over."""
    for _ in range(chance.randint(1, 4)):
        start = chance.randint(0, len(data))
        end = min(len(data), start + chance.choice([1, 1, 2, 8, 64]))
        piece = data[start:end]
        other = chance.choice([b"", chance.randbytes(1), piece * 2, piece[::-1], *STRANGE])
        data = data[:start] if chance.random() < 0.05 else data[:start] + other + data[end:]
    return data
