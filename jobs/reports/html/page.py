"""The page of a report: one HTML file for browser, phone, printer or e-mail."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from jobs.core.outcome import Status
from jobs.core.run import RunState
from jobs.core.words import called, why
from jobs.reports import figures
from jobs.reports.document import (
    LEFT_OUT,
    WOULD_BE_DELETED,
    counts,
    had_no_rows,
    is_empty,
    left_count,
    outcomes_of,
    races,
    reasons_of,
    verdict,
)
from jobs.reports.figures import UNKNOWN, human_bytes, human_seconds, human_time
from jobs.reports.html.elements import (
    Child,
    Head,
    badge,
    code,
    div,
    element,
    fact,
    li,
    n,
    note,
    number,
    p,
    page,
    plain,
    row,
    section,
    small,
    span,
    steps,
    table,
    td,
    tone_of,
    uri,
)
from jobs.reports.html.visible import visible, visible_text

FINDINGS_SHOWN = 200
"""Bounds the page: a person scrolls through no more. The report's files hold the rest."""

DELETIONS_SHOWN = 20
PREFIXES_SHOWN = 20
UNFOLDED_MAX = 20
"""More findings than these are folded by what they are."""

MEANINGS = {
    "same": "at both sides, and equal by all that can be compared",
    "missing": "not at the destination",
    "different": "at both sides, with other content",
    "stale": "the destination holds an older version",
    "extra": "at the destination, not at the source",
    "in flight": "too new to judge by these inventories",
    "unverifiable": "nothing at hand proves it equal or different",
    "excluded": "left out by a filter",
    "copied": "copied by this run",
    "deleted": "a delete marker, reproduced",
    "done": "done by this run",
    "verified": "proven equal",
    "changed": "not what the manifest named, or in the way of it",
    "packed": "in an archive, whose index has it",
    "restored": "proven, then written by this run",
    "expired": "its copy was proven once more, then it was deleted",
    "left": "left alone, for the reason given",
    "unknown": "nothing at hand proves it equal or different",
    "blocked": "could not be done, for the reason given",
    "damaged": "the source's own bytes are not those that S3 keeps checksums of: not copied",
    "would be deleted": "its copy is proven now, and only --yes-delete deletes it",
}

_OF_OUTCOMES = MEANINGS | {
    "missing": "not there, for the reason given",
    "different": "proven different from its source",
}
"""A copy is missing in a run that verifies, a source in one that copies."""

EVIDENCE = {
    "content": "all bytes of both sides were read and compared",
    "checksum": "comparable checksums agree: stored ones, or that of the bytes that were copied",
    "md5_etag": "an ETag is the MD5 of the content, and agrees with the other one or with the bytes that were copied",
    "none": "nothing could be compared, or there is nothing to compare, such as a delete marker",
}


def render(report: Mapping[str, Any], *, findings: Sequence[Mapping[str, Any]]) -> str:
    """The report (`jobs.reports.document.summarize` or `summarize_reconcile`) as a self-contained
    page.

    `findings` are rows with `key`, `category` or `status`, `reason`, and where known
    `destination_key`, `version_id`, `size_bytes`, `etag` and `last_modified` of both sides
    (`source_…`, `destination_…`). The page shows the first `FINDINGS_SHOWN`. After a repair they
    are what it left. The page requests nothing from the network, and its policy forbids that.
    Same arguments, same page.
    """
    is_comparison, is_dry, tone = "categories" in report, bool(report.get("dry_run")), _tone(report)
    repaired = report.get("repaired") or {}
    is_repaired, since = bool(repaired.get("runs")), report.get("since_then")
    sides, job = _places(report), plain(report["job"])
    title = f"{job}{' (dry run)' if is_dry else ''}{', repaired' if is_repaired else ''}"
    kind = (
        f"{job} report{', after the repair' if is_repaired else ''}{', dry run: nothing was deleted' if is_dry else ''}"
    )
    return page(
        f"{title} · {visible_text(sides[0])} → {visible_text(sides[1])} · {visible_text(report['run_id'])}",
        kind,
        tone,
        verdict(report),
        seal="nothing was done" if is_dry and tone == "warn" else "",
        facts=(
            uri("Source", sides[0]),
            uri("Destination", sides[1]),
            fact("Rows", number(report["rows"])),
            fact("Bytes", human_bytes(report["bytes"])),
            fact("Finished", human_time(report["finished_at"])),
            fact("Took", human_seconds(report["seconds"])),
        ),
        body=(
            _since(since) if since else None,
            steps(report.get("next_steps", ())),
            _repair(repaired) if is_repaired else None,
            _tallies(report, is_repaired=is_repaired),
            div(*(_comparison(report) if is_comparison else _worked(report)), class_="grid"),
            _reasons(report),
            _prefixes(report),
            _deletions(report),
            _findings(report, findings, is_repaired=is_repaired),
        ),
        addresses=_addresses(report),
    )


def _findings(report: Mapping[str, Any], findings: Sequence[Mapping[str, Any]], *, is_repaired: bool) -> Markup:
    found, shown = max(left_count(report), len(findings)), findings[:FINDINGS_SHOWN]
    lines: list[Child] = []
    if found and not report.get("since_then") and report["state"] == RunState.COMPLETE:
        when = "the end of the repair" if report.get("repaired") else human_time(report["finished_at"])
        command = code(f"sealift runs show {report['run_id']}")
        options = element("code", "--html"), element("code", "--open")
        lines.append(
            note(
                *(f"This page says how it was at {when}. What was repaired since is in ", command),
                *(", and on the page that its ", options[0], " or ", options[1], " makes."),
            )
        )
    if shown:
        lines += _groups(shown, found)
    else:
        lines.append(p(f"{found:,}; they are in the files named below." if found else "None."))
    return section("findings", "Findings that are left" if is_repaired else "Findings", *lines)


_TOOLS = Markup(
    '<form class="tools" hidden><label>Filter <input type="search" autocomplete="off" spellcheck="false" '
    'placeholder="key, reason, ETag …"></label><output aria-live="polite"></output></form>'
)
_ESCAPES = Markup(
    '<p class="note">In keys, characters that cannot be seen are written out and underlined, such as '
    '<code><b class="esc">\\n</b></code> for a newline or <code><b class="esc">\\u202e</b></code> for one that turns '
    "the reading direction; a backslash is written twice.</p>"
)


def _groups(shown: Sequence[Mapping[str, Any]], found: int) -> Iterator[Markup]:
    """The first findings, folded by what they are."""
    more = f"The first {len(shown):,} of {found:,}; {found - len(shown):,} more are in the files named below."
    yield p(more if len(shown) < found else all_of(found))
    yield _TOOLS
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for each in shown:
        groups.setdefault(name_of(each), []).append(each)
    heads = ("Key", ("", "wide"), "Size", "Modified (UTC)", "ETag")
    for name, rows in sorted(groups.items(), key=lambda group: (-len(group[1]), group[0])):
        yield element(
            "details",
            element("summary", badge(name), f" {len(rows):,}"),
            table(heads, map(_finding, rows), "findings"),
            class_="group",
            open=len(shown) <= UNFOLDED_MAX,
        )
    yield _ESCAPES


def _finding(found: Mapping[str, Any]) -> Markup:
    sizes, times, etags = (
        [found.get(f"{side}_{what}") for side in ("source", "destination")]
        for what in ("size_bytes", "last_modified", "etag")
    )
    other, key = found.get("destination_key"), found["key"]
    return row(
        [
            code(key_of(found), "key"),
            small("at the destination ", code(other, "key")) if other and key is not None and other != key else None,
            _version(found),
            small(visible(why(found)), class_="why") if found.get("reason") else None,
        ],
        td(span("source"), span("destination"), class_="wide side"),
        _both(*map(human_bytes, sizes)),
        _both(*(human_time(each).removesuffix(" UTC") for each in times), is_compared=False),
        _both(*map(_etag, etags)),
    )


def _version(found: Mapping[str, Any]) -> Markup | None:
    is_named = found.get("version_id") not in (None, "", "null")
    return small("version ", code(found["version_id"])) if is_named else None


def _both(source: str, destination: str, *, is_compared: bool = True) -> Markup:
    is_off = is_compared and source != destination and UNKNOWN not in (source, destination)
    return td(span(source), span(destination, class_="off" if is_off else None), class_="two")


def _etag(etag: str | None) -> str:
    if not etag:
        return UNKNOWN
    is_long = len(etag) > 16
    short = (visible(etag[:10]), "…", visible(etag[-4:])) if is_long else (visible(etag),)
    return element("code", *short, title=visible_text(etag) if is_long else None)


def name_of(found: Mapping[str, Any]) -> str:
    """A finding's category or status."""
    return str(found.get("category") or found.get("status") or "finding")


def key_of(found: Mapping[str, Any]) -> str:
    """A finding's key at the source, else at the destination."""
    key = found["key"] if found["key"] is not None else found.get("destination_key")
    return str(key if key is not None else "")


def all_of(rows: int) -> str:
    """What is said of a list that has all rows."""
    return "There is one." if rows == 1 else f"All {rows:,} of them."


def _places(report: Mapping[str, Any]) -> tuple[str, str]:
    """Source and destination, with their prefixes where the report knows them."""
    sides = report["source"], report["destination"]
    source, destination = (
        str(side.get("location") or side["bucket"]) if isinstance(side, Mapping) else str(side) for side in sides
    )
    return source, destination


def _tone(report: Mapping[str, Any]) -> str:
    if report["state"] != RunState.COMPLETE:
        return "warn"
    if left_count(report):
        return "warn" if report.get("since_then", {}).get("is_repaired") else "bad"
    if had_no_rows(report) and not report.get(LEFT_OUT):
        return "calm"
    if report.get("dry_run"):  # nothing was done, so nothing has ended well
        return "warn"
    unproven = report.get("categories", {}).get("unverifiable", {"rows": 0})["rows"]
    unsure = (
        unproven
        or report.get(LEFT_OUT)
        or any(each["rows"] for each in report.get("unjudged", ()))
        or ("categories" in report and is_empty(report))
    )
    return "warn" if unsure else "good"


def _tallies(report: Mapping[str, Any], *, is_repaired: bool) -> Markup:
    """The rows and bytes of each category or status that has any, and what was left out."""
    if is_comparison := "categories" in report:
        title, meanings = "What was found before the repair" if is_repaired else "Categories", MEANINGS
        counted = {name: (each["rows"], each["bytes"]) for name, each in report["categories"].items()}
    else:
        is_dry = report.get("dry_run")
        title, meanings = "What the same command with --yes-delete would do" if is_dry else "Outcomes", _OF_OUTCOMES
        outcomes, sizes = outcomes_of(report), report.get("outcome_bytes", {})
        if WOULD_BE_DELETED in outcomes:  # what else is left was not read
            sizes = {**sizes, WOULD_BE_DELETED: sizes.get(Status.LEFT), Status.LEFT: 0}
        counted = {called(name, report["job"]): (rows, sizes.get(name)) for name, rows in outcomes.items()}
    lines = [
        row(
            [badge(name), " ", small(meanings.get(name, ""))],
            n(f"{rows:,}"),
            n(_share(name, rows, report["rows"]), "n wide"),
            n(human_bytes(size_bytes)),
        )
        for name, (rows, size_bytes) in counted.items()
        if rows
    ]
    nothing = "No row has an outcome yet." if report["rows"] else "No row was in this run."
    heads = ("Category" if is_comparison else "Status", ("Rows", "n"), ("Share", "n wide"), ("Bytes", "n"))
    notes = [f"Left out: {each['archive']}: {each['reason']}." for each in report.get(LEFT_OUT, ())]
    if ignored := report.get("ignored_conditions"):
        notes.insert(0, f"Warning: {races(report['destination'], ignored)}.")
    if excluded := report.get("excluded"):
        names = ", ".join(f"{rows:,} by {name}" for name, rows in excluded.items())
        notes.append(f"Left out before the run began: {names}.")
    body = lines or [element("tr", td(nothing, colspan="4"))]
    return section("counts", title, table(heads, body, "tally"), *(note(visible(each)) for each in notes))


def _share(name: str, rows: int, whole: int) -> Markup:
    bar = element("i", style=f"width:{100 * rows / (whole or 1):.2f}%")
    return div(span(bar, aria_hidden="true"), figures.human_share(rows, whole), class_=f"share {tone_of(name)}")


def _worked(report: Mapping[str, Any]) -> Iterator[Markup]:
    """What proves the outcomes, and the plan beside what happened."""
    if proofs := report.get("evidence"):
        lines = (
            row([plain(name), " ", small(EVIDENCE.get(name, ""))], n(f"{rows:,}")) for name, rows in proofs.items()
        )
        yield section("evidence", "Evidence", table(("Proven by", ("Rows", "n")), lines))
    if not (planned := report.get("planned")):
        return
    least, most = planned["seconds"], planned.get("seconds_most")
    between = f"{human_seconds(least)} to " if least >= 1 else "up to "
    figures_of = (
        row("Objects", n(number(planned["rows"])), n(number(report["accounted"]))),
        row("Bytes", n(human_bytes(planned["bytes"])), n(human_bytes(report["bytes"]))),
        row(
            "Duration",
            n(f"{between}{human_seconds(most)}" if most else human_seconds(least)),
            n(human_seconds(report.get("worked_seconds", report["seconds"]))),
        ),
        row(["Dollars ", small("estimated")], n(figures.human_dollars(planned["dollars"])), n(UNKNOWN)),
    )
    requests = ", ".join(f"{count:,} {plain(kind)}" for kind, count in planned["requests"].items() if count)
    yield section(
        "plan",
        "Plan and actual",
        table(("", ("Planned", "n"), ("Actual", "n")), figures_of),
        note(
            f"Requests planned: {requests}. " if requests else "",
            *("Prices: ", visible(planned["price_table"]), ". What was really billed is on the bill, not here."),
        ),
    )


def _comparison(report: Mapping[str, Any]) -> Iterator[Markup]:
    """How fresh the inventories were, and what they could not say."""
    sides = [report["source"], report["destination"]]

    def listed(side: Mapping[str, Any]) -> Markup:
        lag = _lag(side["created_at"], report["created_at"])
        return td(human_time(side["created_at"]), *((" ", small(f"{lag} before this run")) if lag else ()))

    def rows_of(side: Mapping[str, Any]) -> Markup:
        repeated = side.get("repeated_rows")
        return td(number(side["rows"]), *((" ", small(f"{repeated:,} listed more than once")) if repeated else ()))

    lines = (
        row("Bucket", *(td(code(side["bucket"])) for side in sides)),
        row("Listed from", *map(listed, sides)),
        row("Rows", *map(rows_of, sides)),
        row("Format", *(td(visible(side["format"] or UNKNOWN)) for side in sides)),
        row("Manifest", *(td(code(side["manifest"]) if side["manifest"] else UNKNOWN) for side in sides)),
    )
    margin = human_seconds(report["margin_seconds"])
    yield section(
        "inventories",
        "How fresh the inventories were",
        table(("", "Source", "Destination"), lines, "sides"),
        note(f"Nothing newer than the older listing less {margin} was judged."),
    )
    unjudged = [row(visible(why(each)), n(f"{each['rows']:,}")) for each in report["unjudged"]]
    limits = [li(visible(each)) for each in report["limits"]]
    yield section(
        "unjudged",
        "What could not be judged",
        table(("Why", ("Rows", "n")), unjudged) if unjudged else p("Nothing: every row was judged."),
        *((element("h3", "What the inventories do not say"), element("ul", *limits)) if limits else ()),
    )


def _reasons(report: Mapping[str, Any]) -> Markup | None:
    """Why rows ended as they did."""
    lines = [
        element(
            "tr",
            td(badge(called(each["status"], report["job"], each["reason"]))),
            td(visible(why(each)) or UNKNOWN, class_="why"),
            n(f"{each['rows']:,}"),
        )
        for each in reasons_of(report)
    ]
    return section("reasons", "Reasons", table(("Status", "Reason", ("Rows", "n")), lines)) if lines else None


def _prefixes(report: Mapping[str, Any]) -> Markup | None:
    """The prefixes with the most findings, each with its categories."""
    totals: dict[str, dict[str, Any]] = {}
    for each in report["prefixes"]:
        total = totals.setdefault(each["prefix"], {"prefix": each["prefix"], "rows": 0, "bytes": 0, "categories": {}})
        total["rows"] += each["rows"]
        total["bytes"] += each["bytes"]
        if each["category"] is not None:
            total["categories"][each["category"]] = total["categories"].get(each["category"], 0) + each["rows"]
    worst = sorted(totals.values(), key=lambda total: (-total["rows"], total["prefix"]))[:PREFIXES_SHOWN]
    is_sorted_out = any(total["categories"] for total in worst)
    lines = []
    for total in worst:
        kinds = ", ".join(f"{rows:,} {plain(name)}" for name, rows in total["categories"].items())
        prefix = code(total["prefix"], "key") if total["prefix"] else element("em", "no folder")
        lines.append(
            row(
                [prefix, small(kinds, class_="narrow") if is_sorted_out else None],
                td(kinds, class_="wide") if is_sorted_out else None,
                n(f"{total['rows']:,}"),
                n(human_bytes(total["bytes"])),
            )
        )
    of_which: list[Head] = [("Of which", "wide")] if is_sorted_out else []
    heads = ("Prefix", *of_which, ("Rows", "n"), ("Bytes", "n"))
    return section("prefixes", "Worst prefixes", table(heads, lines)) if lines else None


def _deletions(report: Mapping[str, Any]) -> Markup | None:
    """What was deleted, or would be."""
    deletions = report.get("deletions") or {"shown": ()}
    if not (shown := deletions["shown"][:DELETIONS_SHOWN]):
        return None
    is_dry, reasons, rows = report["dry_run"], deletions["reasons"], deletions["rows"]
    lines: list[Child] = []
    if reasons:
        counted = (
            row(
                [visible(why(each)), small(f"copy proven by {_proof(each['evidence'])}")],
                n(f"{each['rows']:,}"),
                n(human_bytes(each["bytes"])),
            )
            for each in reasons
        )
        what = "What would become of them" if is_dry else "What became of them"
        lines.append(table((what, ("Rows", "n"), ("Bytes", "n")), counted))
    more = f"The first {len(shown):,} of {rows:,}; all are in the files named below."
    undo = code(f"sealift expire --undo {report['run_id']} --source {report['source']}")
    is_hidden = any(each["detail"] == "hidden" for each in reasons)
    lines.append(
        p(
            more if len(shown) < rows else all_of(rows),
            *((" What is hidden comes back with ", undo) if is_hidden else ()),
            class_="note" if reasons else None,
        )
    )
    deleted = (
        row(
            [code(each["key"], "key"), _version(each), small("copy ", code(each["copy"], "key"))],
            n(human_bytes(each["size_bytes"])),
            td(plain(each["evidence"]), class_="wide"),
        )
        for each in shown
    )
    lines.append(table(("Key", ("Size", "n"), ("Proof", "wide")), deleted, "findings deletions"))
    return section("deletions", f"What {'would be' if is_dry else 'was'} deleted", *lines, class_="warn")


def _proof(evidence: str) -> str:
    return f"{plain(evidence)}: {EVIDENCE[evidence]}" if evidence in EVIDENCE else plain(evidence)


def _repair(repaired: Mapping[str, Any]) -> Markup:
    """What a repair after the comparison came to."""
    lines = (
        row(badge(name), n(f"{each['repaired']:,}"), n(f"{each['left']:,}"))
        for name, each in repaired["categories"].items()
        if each["repaired"] or each["left"]
    )
    more: list[Child] = []
    if shown := repaired["shown"]:
        is_part = len(shown) < repaired["rows"]
        title = f"The first {len(shown):,} of {repaired['rows']:,}" if is_part else f"All {repaired['rows']:,}"
        keys = (row([code(key_of(each), "key"), _version(each)], td(plain(name_of(each)))) for each in shown)
        more.append(element("details", element("summary", f"{title} repaired rows"), table(("Key", "Was"), keys)))
    return section(
        "repair",
        "What the repair came to",
        table(("Finding", ("Repaired", "n"), ("Left", "n")), lines),
        note("Repaired is what was copied and then verified. Each row counts once."),
        element("h3", "Its runs"),
        table(("Run", "Came to"), map(_run, repaired["runs"])),
        *more,
    )


def _since(since: Mapping[str, Any]) -> Markup:
    """What later runs made of the failures."""
    mended = (
        "A retry brought all rows that needed attention to a good end. The rest of this page is about the run itself."
    )
    runs = table(("Run", "Came to"), map(_run, since["runs"]))
    return section("since", "Since then", runs, note(mended) if since["is_repaired"] else None)


def _run(run: Mapping[str, Any]) -> Markup:
    is_over = run.get("state", "complete") == "complete"
    came_to = run["verdict"] if run["job"] == "reconcile" else counts(run["outcomes"], run["job"])
    head = [plain(run["job"]), " ", small(code(run["run_id"]))]
    unfinished = "" if is_over else f" ({run['state']})"
    return row(head, td(visible(f"{came_to}{unfinished}")))


def _addresses(report: Mapping[str, Any]) -> Iterable[Child]:
    deletions = report.get("deletions") or {}
    if "categories" in report:
        named = {f"Differences, {name}": report["differences"][name.lower()] for name in ("Parquet", "CSV")}
    else:
        named = {
            "Failed rows": report.get("failures_manifest"),
            "Deletions, CSV": deletions.get("csv"),
            "Deletions, Parquet": deletions.get("parquet"),
            "Manifest": report["manifest"],
            "Retry of": report["retry_of"],
            "Ledger": report.get("ledger"),
        }
    named = {"Run": report["run_id"], **named, "Report": report.get("report"), "This page": report.get("report_html")}
    return (uri(label, address) for label, address in named.items())


def _lag(earlier: Any, later: Any) -> str:
    """How long before `later` something was: `27 h 05 min`."""
    one, other = figures.parse_time(earlier), figures.parse_time(later)
    return human_seconds(max(0.0, (other - one).total_seconds())) if one and other else ""
