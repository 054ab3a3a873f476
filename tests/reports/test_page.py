"""The report's documents and their page, without a browser."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from jobs.core.run import RunState
from jobs.errors import ExitCode
from jobs.reports import figures
from jobs.reports.document import counts, exit_code, verdict
from jobs.reports.html.page import render
from jobs.reports.html.visible import visible, visible_text
from tests.doubles.examples import examples
from tests.doubles.report_schema import schema
from tests.reports.samples import (
    HOSTILE,
    HOSTILE_SHOWN,
    dry_expire,
    finding,
    findings,
    inventory,
    prefix,
    reconciliation,
    repaired,
    run,
    unjudged,
)

FREE_TEXT = st.text(st.characters(codec=None), max_size=40)  # with lone surrogates: what a broken input may hold


class Page(HTMLParser):
    """What a page's markup comes to: tags with attributes, and text outside style and script."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.pieces: list[str] = []
        self.inside = ""
        self.feed(page)
        self.close()

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside not in ("style", "script"):
            self.pieces.append(data)


def test_documents_of_both_kinds_satisfy_the_published_schema():
    published = schema()
    Draft202012Validator.check_schema(published)
    validator = Draft202012Validator(published)
    documents = [
        reconciliation(),
        reconciliation(missing=0, differences={"parquet": None, "csv": None}, report=None, report_html=None),
    ]
    documents += [
        repaired(),
        run(),
        run({}, RunState.INCOMPLETE, report=None, failures_manifest=None, outcome_bytes={}),
    ]
    for document in documents:
        validator.validate(document)
    assert not validator.is_valid(run() | {"outcomes": {"done": -1}})
    assert not validator.is_valid(reconciliation() | {"findings": None})


@given(
    st.dictionaries(
        st.sampled_from(["same", "missing", "extra", "different", "stale", "in flight", "unverifiable", "excluded"]),
        st.tuples(st.integers(0, 10**9), st.integers(0, 10**15)),
    )
)
def test_a_reconciliation_adds_up_and_its_verdict_agrees(categories: dict[str, tuple[int, int]]):
    report = reconciliation(categories=categories)
    assert report["rows"] == sum(rows for rows, _ in categories.values())
    assert report["bytes"] == sum(size for _, size in categories.values())
    found = sum(categories.get(name, (0, 0))[0] for name in ("missing", "different", "stale", "extra"))
    assert report["findings"] == found
    rows = {name: count for name, (count, _) in categories.items() if name != "excluded"}
    is_judged = sum(rows.values()) > rows.get("in flight", 0) and 2 * rows.get("unverifiable", 0) <= sum(rows.values())
    assert exit_code(report) is (ExitCode.FINDINGS if found or not is_judged else ExitCode.DONE)
    sentence = verdict(report)
    assert bool(re.search("needs? attention", sentence)) == bool(found)
    assert sentence.startswith(("All", "The only")) == bool(
        not found and report["rows"] == categories.get("same", (0, 0))[0] > 0
    )


@pytest.mark.parametrize(
    ("excluded", "why"),
    [
        ({}, ""),
        ({"sample": 7}, " (7 left out by the sample)"),
        ({"prefix": 1200, "older_than": 1}, " (1,200 left out by prefix, 1 by older than)"),
    ],
)
def test_a_run_of_no_row_is_nothing_done_and_not_green(excluded: dict[str, int], why: str):
    report = run({}) | {"rows": 0, "accounted": 0, "failures": 0, "excluded": excluded}
    assert verdict(report) == f"Nothing was done: no row was in this run{why}."
    page = render(report, findings=[])
    assert '<header class="calm">' in page


def test_verdicts_are_one_plain_sentence():
    assert verdict(reconciliation()) == (
        "1,465 of 5,000,000 rows need attention: 1,204 missing, 41 extra, 17 different, 203 stale."
    )
    assert verdict(reconciliation(categories={"same": (5, 1)})) == "All 5 rows are the same at both sides."
    assert verdict(reconciliation(categories={})) == "Nothing was compared: both inventories are empty."
    assert verdict(reconciliation(categories={"excluded": (2, 9), "same": (0, 0)})) == (
        "Nothing was compared: --map, --source and --destination, or deletes, exclude all rows."
    )
    assert verdict(reconciliation(categories={"same": (4, 0), "in flight": (1, 0)})) == (
        "No difference was found: 4 of 5 rows are the same, 1 in flight."
    )
    assert verdict(reconciliation(categories={"same": (1, 1)})) == "The only row is the same at both sides."
    assert verdict(run()) == "87 of 100,000 rows need attention: 87 blocked."
    assert counts({"blocked": 2, "done": 1_000}, "replicate") == "1,000 copied, 2 blocked"


def test_a_report_after_a_repair_is_about_what_is_left():
    assert verdict(repaired()) == (
        "62 of 1,465 findings still need attention: 4 missing, 41 extra, 17 different. 1,403 are repaired or gone."
    )
    assert verdict(repaired(is_whole=True)) == "All 1,204 findings are repaired, or the source object is gone."
    assert [exit_code(repaired()), exit_code(repaired(is_whole=True))] == [ExitCode.FINDINGS, ExitCode.DONE]
    one = repaired(is_whole=True)
    one["repaired"] |= {"rows": 0, "left": 1, "categories": {"extra": {"repaired": 0, "left": 1}}}
    assert verdict(one) == "1 of 1 finding still needs attention: 1 extra."


def test_a_failed_replication_is_a_finding_of_any_category():
    report = reconciliation(categories={"same": (5, 1), "unverifiable": (2, 1), "stale": (1, 1)}, findings=3)
    assert verdict(report) == "3 of 8 rows need attention: 1 stale, 2 whose replication FAILED."
    report = reconciliation(categories={"same": (5, 1)}, findings=1)
    assert verdict(report) == "1 of 5 rows needs attention: 1 whose replication FAILED."


def unwritten(shown: str) -> str:
    """The inverse of `visible_text`, by the rules that the page states."""
    short = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}

    def character(match: re.Match[str]) -> str:
        return short[match[1]] if match[1] in short else chr(int(match[1][1:], 16))

    return re.sub(r"\\([nrt\\]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})", character, shown)


@given(FREE_TEXT)
def test_what_is_shown_can_be_read_back(text: str):
    """So two keys never look the same."""
    shown = visible_text(text)
    assert unwritten(shown) == text
    assert not any(ord(c) < 32 or 0xD800 <= ord(c) < 0xE000 or c in "\u202a\u202e\u2066\u200b\xa0\x7f" for c in shown)
    assert shown == Page(visible(text)).text


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("caf\u00e9", "caf\u00e9"),
        ("cafe\u0301", "cafe\\u0301"),
        ("\u212b", "\\u212b"),  # the Ångström sign, which composed text spells Å
        ("a b", "a b"),
        (" a  b ", "\\x20a\\x20\\x20b\\x20"),
        ("a\u00a0b\u200bc\ufeff", "a\\xa0b\\u200bc\\ufeff"),
        ("\u0928\u093f\u092f\u092e", "\u0928\u093f\u092f\u092e"),  # Hindi keeps its marks
        ("a\\n", "a\\\\n"),
        ("\ud800\U000e0041\x00", "\\ud800\\U000e0041\\x00"),
        (HOSTILE, HOSTILE_SHOWN),
    ],
)
def test_hidden_characters_are_written_out(key: str, shown: str):
    assert visible_text(key) == shown


@given(FREE_TEXT | st.text("<>&\"'/= abc{}%#-!", max_size=40))
@settings(max_examples=examples(50), deadline=None)
def test_nothing_that_comes_from_a_bucket_becomes_markup(text: str):
    def pages(word: str) -> list[str]:
        known = {"reason": word, "detail": word, "destination_key": word + "!", "version_id": word, "source_etag": word}
        rows = [finding(word, "missing", destination_etag=word, source_last_modified=word, **known)]
        lists: dict[str, Any] = {
            "prefixes": [prefix(word, 1, 1)],
            "unjudged": [unjudged(word, word, 1)],
            "limits": [word],
        }
        reasons = [{"status": word, "reason": word, "rows": 1}]
        named: dict[str, Any] = {"ledger": word, "evidence": {word: 1}, "reasons": reasons, "failures_manifest": word}
        source = inventory(word, 0.0, 1, word) | {"manifest": word}
        both = [reconciliation(report=word, source=source, **lists), run({"done": 1, "blocked": 1}, **named)]
        return [render(document, findings=rows) for document in both]

    harmless = {("bdi", ()), ("small", ())}
    for page, calm in zip(pages(text), pages("calm"), strict=True):
        page.encode()  # a lone surrogate would raise
        shapes, known = ({(tag, tuple(sorted(names))) for tag, names in Page(each).tags} for each in (page, calm))
        assert shapes <= known | harmless
        assert visible_text(text) in Page(page).text


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (
            render(reconciliation(), findings=findings(40)),
            ["1,465 of 5,000,000 rows need attention", "4,874,703", "37.8 TiB", "too new to judge by these inventories",
             "albums/2025/11/", "exports/<b>raw</b>/\\u202etpl/", "Parquet, listed 2025-11-23 23:45 UTC, 27 h", "ORC",
             "15 min", "no checksum or ETag can be compared (no MD5: in parts)", "has no EncryptionStatus",
             "The first 40 of 1,465; 1,425 more are in the files named below.", HOSTILE_SHOWN, "3HL4kqtJlcpXroDTDm",
             "the sizes differ", "differences.parquet", "differences.csv"],
        ),
        (
            render(run(outcome_bytes={"done": 7 << 30}), findings=[finding("albums/2025/a", "", status="blocked")]),
            ["7.0 GiB", "md5_etag", "39,000", "AccessDenied: kms:Decrypt", "SlowDown after 8 tries <img src=x>",
             "Objects 100,000100,000", "Bytes 310.0 GiB309.0 GiB", "Duration 21 min25 min", "$6.7016",
             "100,000 copy, 4,000 head.", "312 by --older-than", "albums/2025/", "no folder", "failures.parquet"],
        ),
    ],
    ids=["reconciliation", "run"],
)  # fmt: skip
def test_a_page_says_it_all_without_script(page: str, words: list[str]):
    text = re.sub(r"\s+", " ", Page(page).text)
    assert [each for each in words if each not in text] == []


def test_page_is_bounded_and_says_how_much_more_there_is():
    page = render(reconciliation(), findings=findings(1_465))
    assert len(page) < 1_000_000
    assert "The first 200 of 1,465; 1,265 more are in the files named below." in page
    assert "All 87 of them." in render(run(), findings=findings(87))
    assert [("<details open>" in render(reconciliation(), findings=findings(count))) for count in (40, 20)] == [
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("document", "seal"),
    [
        (reconciliation(), "needs attention"),
        (reconciliation(categories={"same": (1, 1)}, unjudged=[]), "nothing is wrong"),
        (reconciliation(categories={"same": (1, 1), "unverifiable": (1, 1)}), "not certain"),
        (run({"done": 100_000}), "nothing is wrong"),
        (run({"done": 99}, RunState.INCOMPLETE), "not certain"),
        (run({}, RunState.FAILED), "not certain"),
        (repaired(), "needs attention"),
        (repaired(is_whole=True), "nothing is wrong"),
    ],
)
def test_seal_says_in_a_word_how_it_stands(document: dict[str, Any], seal: str):
    page = Page(render(document, findings=[]))
    assert [each["aria-label"] for _, each in page.tags if each.get("class") == "seal"] == [seal]


def test_page_holds_no_address():
    page = render(reconciliation(), findings=findings())
    assert set(re.findall(r"\w+://[^\s\"'<]*", page.replace("s3://", ""))) == set()
    assert not [tag for tag, _ in Page(page).tags if tag in ("link", "img", "iframe", "object", "base", "a")]


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (figures.human_bytes(None), "–"),
        (figures.human_bytes(1536), "1.5 KiB"),
        (figures.human_seconds(3), "3.0 s"),
        (figures.human_seconds(97_500), "27 h 05 min"),
        (figures.human_seconds(400_000), "4 days 15 h"),
        (figures.human_dollars(0.00002), "under $0.0001"),
        (figures.human_dollars(12.5), "$12.5000"),
        (figures.human_time(0), "1970-01-01 00:00 UTC"),
        (figures.human_time("2025-11-25T01:00:00+02:00"), "2025-11-24 23:00 UTC"),
        (figures.human_time(datetime(2025, 1, 2, tzinfo=UTC)), "2025-01-02 00:00 UTC"),
        (figures.human_time("never"), "–"),
        (figures.human_time(1e300), "–"),
    ],
)
def test_figures(shown: str, expected: str):
    assert shown == expected


def test_the_page_of_a_dry_run_is_no_success_of_something_done() -> None:
    page = Page(render(dry_expire(), findings=[]))
    assert "left" not in page.text
    assert "dry run: nothing was deleted" in page.text
    assert "What the same command with --yes-delete would do" in page.text
    assert "would be deleted" in page.text
    assert "\N{CHECK MARK}" not in page.text


def test_the_page_of_deletions_says_what_was_hidden_and_how_it_comes_back() -> None:
    report = dry_expire() | {"dry_run": False, "outcomes": {"done": 5}}
    report["deletions"] = dry_expire()["deletions"] | {"rows": 5, "hidden": 4}
    page = Page(render(report, findings=[]))
    assert "Hidden: 4, removed for good: 1." in page.text
    undo = f"sealift expire --undo {report['run_id']} --source {report['source']}"
    assert f"What is hidden comes back with {undo}" in page.text
    report["deletions"]["hidden"] = 0
    assert "--undo" not in Page(render(report, findings=[])).text
