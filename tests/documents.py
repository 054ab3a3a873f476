"""Documents as tests read them: blocks, commands, links and anchors."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
"""The documents for users, for which the rules of prose hold."""

_FENCE = "```"
_MARK = re.compile(r"<!-- exit (\d+(?:, \d+)*) -->")


class Line(NamedTuple):
    """A line of a document, its number from 1, and whether it is in a fenced block."""

    number: int
    text: str
    is_fenced: bool


class Block(NamedTuple):
    """A fenced block: its first line's number, its text, its language, and how its commands end.

    A block without a language has commands. `exits`: one exit code for all of them, or one for each.
    """

    number: int
    text: str
    language: str = ""
    exits: tuple[int, ...] = (0,)


def lines(page: Path) -> Iterator[Line]:
    """All lines of a document. A fence itself counts as fenced."""
    is_fenced = False
    for number, text in enumerate(page.read_text().splitlines(), 1):
        is_fence = text.startswith(_FENCE)
        yield Line(number, text, is_fenced or is_fence)
        is_fenced ^= is_fence


def blocks(page: Path) -> list[Block]:
    """The fenced blocks. `<!-- exit 3 -->` or `<!-- exit 0, 3 -->` in the line above says how the commands end."""
    closed: list[Block] = []
    content: list[str] | None = None
    exits: tuple[int, ...] = (0,)
    start, language, above = 0, "", ""
    for number, text in enumerate(page.read_text().splitlines(), 1):
        if not text.startswith(_FENCE):
            if content is not None:
                content.append(text)
        elif content is None:
            mark = _MARK.fullmatch(above)
            content, start, language = [], number + 1, text.removeprefix(_FENCE)
            exits = tuple(map(int, mark[1].split(", "))) if mark else (0,)
        else:
            closed.append(Block(start, "\n".join(content), language, exits))
            content = None
        above = text
    return closed


def command_lines(block: Block) -> list[tuple[str, int]]:
    """(command line, exit code) of a block's commands: continued lines as one, without comments."""
    if block.language:
        return []
    joined = re.sub(r"\s*\\\n\s*", " ", block.text)
    texts = [text for line in joined.splitlines() if (text := re.sub(r"(^|\s+)# .*", "", line).strip())]
    exits = block.exits * len(texts) if len(block.exits) == 1 else block.exits
    return list(zip(texts, exits, strict=True))


def commands(block: Block, program: str) -> list[list[str]]:
    """The command lines of a block that call `program`, as words, without pipes and redirections."""
    calls = []
    for line in block.text.replace("\\\n", " ").splitlines():
        if not re.search(rf"\b{program}\b", line):
            continue
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|;<>")
        lexer.whitespace_split, lexer.commenters = True, "#"
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("|;"):
                while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                    words.pop(0)
                if words[:1] == [program]:
                    end = next((place for place, each in enumerate(words) if set(each) <= set("<>")), len(words))
                    calls.append(words[:end])
                words = []
            else:
                words.append(word)
    return calls


def inline_commands(page: Path) -> list[tuple[int, list[str]]]:
    """(line, words) of inline code that begins with `sealift `, which may be a part of a command line."""
    prose = "\n".join("" if line.is_fenced else line.text for line in lines(page))
    return [
        (prose.count("\n", 0, span.start()) + 1, shlex.split(span[1]))
        for span in re.finditer(r"`(sealift\s[^`]+)`", prose)
    ]


def inline_code(page: Path) -> list[tuple[int, str]]:
    """(line, code) of the inline code outside of fenced blocks."""
    outside = [line for line in lines(page) if not line.is_fenced]
    return [(line.number, code) for line in outside for code in re.findall(r"`([^`]+)`", line.text)]


def links(page: Path) -> list[tuple[int, str]]:
    """(line, target) of the links to files of the repository."""
    local = []
    for line in lines(page):
        if not line.is_fenced:
            targets = re.findall(r"\]\(([^)\s]+)\)", line.text)
            local += [(line.number, target) for target in targets if not re.match(r"[a-z]+:", target)]
    return local


def anchors(page: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    names: set[str] = set()
    for line in lines(page):
        if not line.is_fenced and (heading := re.match(r"#+ (.*)", line.text)):
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1]).lower()
            anchor = re.sub(r"[^\w\- ]", "", text).strip().replace(" ", "-")
            again = sum(each == anchor or bool(re.fullmatch(rf"{re.escape(anchor)}-\d+", each)) for each in names)
            names.add(f"{anchor}-{again}" if again else anchor)
    return names
