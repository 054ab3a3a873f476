"""Elements of a page, as escaped HTML, and the frame that all pages have.

No template engine: to load one and to compile its templates takes a sixth of the CPU of a small run.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from functools import partial
from importlib.resources import files

from markupsafe import Markup

from jobs.core.outcome import GOOD
from jobs.core.words import DELETED, DONE
from jobs.reports import figures
from jobs.reports.document import WOULD_BE_DELETED
from jobs.reports.html.visible import visible, visible_text

ICONS = {"good": "✓", "bad": "✕", "warn": "!", "calm": "·"}
SEALS = {"good": "all well", "bad": "needs attention", "warn": "not certain", "calm": "nothing was done"}
_GOOD = {*GOOD, DELETED, *DONE.values()}
_UNCERTAIN = frozenset({"unverifiable", "unknown", "blocked", "changed", "stale", "extra", WOULD_BE_DELETED})
_WAITING = frozenset({"in flight", "excluded", "left"})

Child = str | Markup | None
"""What is inside an element. A text is escaped, None is left out."""
Head = tuple[str, str] | str
"""The words above a column, or words and class. An empty one has no words."""


def element(name: str, *children: Child, **attributes: str | bool | None) -> Markup:
    """An HTML element. Attributes have `_` for each `-`: `class_`, `aria_label`. True: without a value."""
    named = Markup("").join(
        Markup(" {}").format(key.rstrip("_").replace("_", "-"))
        if value is True
        else Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), value)
        for key, value in attributes.items()
        if value
    )
    inside = Markup("").join(child for child in children if child is not None)
    return Markup("<{0}{1}>{2}</{0}>\n" if name in _BLOCKS else "<{0}{1}>{2}</{0}>").format(name, named, inside)


_BLOCKS = frozenset({"section", "header", "footer", "table", "tr", "p", "ul", "li", "div", "dl", "h2", "h3", "details"})
p, small, li, td, span, div = (partial(element, name) for name in ("p", "small", "li", "td", "span", "div"))
note = partial(p, class_="note")


def code(value: object, class_: str | None = None) -> Markup:
    """A text from outside, every character of which can be seen."""
    return element("code", visible(value), class_=class_)


def number(count: int | None) -> str:
    """`1,000`, unknown → `–`."""
    return figures.UNKNOWN if count is None else f"{count:,}"


def plain(name: object) -> str:
    """A name of ours, without its underscores."""
    return visible_text(str(name).replace("_", " "))


def n(value: Child, class_: str = "n") -> Markup:
    """A cell with a figure."""
    return td(value, class_=class_)


def row(head: Child | Sequence[Child], *cells: Child) -> Markup:
    """A line of a table, with its head."""
    heads = [head] if head is None or isinstance(head, str) else head
    return element("tr", element("th", *heads, scope="row"), *cells)


def table(heads: Iterable[Head], rows: Iterable[Markup], class_: str | None = None) -> Markup:
    """A table with its heads."""
    cells = ((head, None) if isinstance(head, str) else head for head in heads)
    line = (element("th", words, scope="col", class_=kind) if words else td(class_=kind) for words, kind in cells)
    return element("table", element("thead", element("tr", *line)), element("tbody", *rows), class_=class_)


def section(name: str, title: str, *children: Child, class_: str | None = None) -> Markup:
    """A part of a page with its title."""
    return element("section", element("h2", title, id=name), *children, aria_labelledby=name, class_=class_)


def tone_of(name: str) -> str:
    """The tone of a category or status: `good`, `bad`, `warn` (look at it), `calm` (no action)."""
    if name in _WAITING:
        return "calm"
    if name in _UNCERTAIN:
        return "warn"
    return "good" if name in _GOOD else "bad"


def badge(name: str) -> Markup:
    """A category or a status in its colour."""
    tone = tone_of(name)
    return span(element("i", ICONS[tone], aria_hidden="true"), plain(name), class_=f"badge {tone}")


def fact(label: str, value: Child) -> Markup:
    """A line of a list of facts."""
    return div(element("dt", label), element("dd", value))


def uri(label: str, value: object) -> Markup | None:
    """The fact that is an address. None: there is none."""
    return fact(label, code(value, "copy")) if value else None


def steps(sentences: Iterable[str]) -> Markup | None:
    """What to do now. None: nothing."""
    lines = []
    for sentence in sentences:
        why, colon, command = sentence.partition(": sealift ")
        lines.append(li(visible(why), *((":", code(f"sealift {command}", "copy")) if colon else ())))
    return section("now", "What to do now", element("ul", *lines)) if lines else None


def page(
    title: str,
    kind: Child,
    tone: str,
    verdict: str,
    *,
    facts: Iterable[Child],
    body: Iterable[Child],
    addresses: Iterable[Child],
    seal: str = "",
    remark: str = "",
) -> str:
    """A page without foreign resources, whose policy forbids them. `title`: its characters can be seen."""
    folder = files("jobs.reports.html")
    script, style = (Markup(folder.joinpath(f"report.{end}").read_text("utf-8")) for end in ("js", "css"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    words = Markup(re.sub(r"(?<=\d) ", "\N{NO-BREAK SPACE}", visible(verdict)))
    header = element(
        "header",
        p("Sealift ", span("/", aria_hidden="true"), " ", kind, class_="kind"),
        div(
            span(ICONS[tone], class_="seal", role="img", aria_label=seal or SEALS[tone]),
            element("h1", words),
            class_="verdict",
        ),
        element("dl", *facts, class_="facts"),
        note(remark) if remark else None,
        class_=tone,
    )
    footer = element("footer", element("h2", "Files"), element("dl", *addresses, class_="facts"))
    main = element("main", header, *body, footer)
    title = f"{ICONS[tone]} {title}"
    return str(_FRAME.format(digest=digest, title=title, style=style, script=script, main=main))


_FRAME = Markup("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
{main}
<script>{script}</script>
</body>
</html>
""")  # noqa: E501  the policy is one attribute
