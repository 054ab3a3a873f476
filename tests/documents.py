"""Documents as tests read them, by CommonMark: blocks, commands, inline code, tables, links and anchors."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
"""The documents for users, for which the rules of prose hold."""

_MARKDOWN = MarkdownIt().enable("table")
_MARK = re.compile(r"<!-- exit (\d+(?:, \d+)*) -->")


class Block(NamedTuple):
    """A fenced block: its first line's number, its text, its language, and how its commands end.

    A block without a language has commands. `exits`: one exit code for all of them, or one for each.
    """

    number: int
    text: str
    language: str = ""
    exits: tuple[int, ...] = (0,)


class Row(NamedTuple):
    """A row of a table: its line, the heads of the table, and its cells, as they are written."""

    number: int
    heads: list[str]
    cells: list[str]


def _tokens(page: Path) -> Iterator[tuple[int, Token]]:
    """What a document consists of, each with the number of the line in which it, or what it is in, begins."""
    number = 1
    for token in _MARKDOWN.parse(page.read_text()):
        number = token.map[0] + 1 if token.map else number
        yield number, token


def blocks(page: Path) -> list[Block]:
    """The fenced blocks. `<!-- exit 3 -->` or `<!-- exit 0, 3 -->` in the line above says how the commands end."""
    found, above = list[Block](), ""
    for number, token in _tokens(page):
        if token.type == "fence":
            mark = _MARK.fullmatch(above)
            exits = tuple(map(int, mark[1].split(", "))) if mark else (0,)
            found.append(Block(number + 1, token.content.rstrip("\n"), token.info, exits))
        above = token.content.strip() if token.type == "html_block" else ""
    return found


def rows(page: Path) -> Iterator[Row]:
    """The rows of all tables."""
    table = list[list[str]]()
    for number, token in _tokens(page):
        if token.type in ("table_open", "table_close"):
            table = []
        elif token.type == "tr_open":
            table.append([])
        elif token.type == "inline" and table:
            table[-1].append(token.content)
        elif token.type == "tr_close" and len(table) > 1:
            yield Row(number, table[0], table[-1])


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


def _inline(page: Path, kind: str) -> Iterator[tuple[int, Token]]:
    for number, token in _tokens(page):
        yield from ((number, child) for child in token.children or () if child.type == kind)


def inline_code(page: Path) -> list[tuple[int, str]]:
    """(line, code) of the inline code outside of fenced blocks."""
    return [(number, child.content) for number, child in _inline(page, "code_inline")]


def inline_commands(page: Path) -> list[tuple[int, list[str]]]:
    """(line, words) of inline code that begins with `sealift `, which may be a part of a command line."""
    return [(number, shlex.split(code)) for number, code in inline_code(page) if code.startswith("sealift ")]


def links(page: Path) -> list[tuple[int, str]]:
    """(line, target) of the links to files of the repository."""
    targets = [(number, unquote(str(child.attrs["href"]))) for number, child in _inline(page, "link_open")]
    return [each for each in targets if not re.match(r"[a-z]+:", each[1])]


def anchors(page: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    tokens, names, seen = [token for _, token in _tokens(page)], set[str](), Counter[str]()
    for before, token in pairwise(tokens):
        if before.type == "heading_open":
            text = "".join(child.content for child in token.children or ()).lower()
            anchor = re.sub(r"[^\w\- ]", "", text).strip().replace(" ", "-")
            names.add(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
            seen[anchor] += 1
    return names
