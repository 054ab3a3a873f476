"""The tables of terraform/README.md, made from its variables and outputs: python -m tests.terraform.readme"""

from __future__ import annotations

import re
from pathlib import Path

MODULE = Path(__file__).resolve().parent.parent.parent / "terraform"


def blocks(file: str, kind: str) -> list[tuple[str, str]]:
    """(name, body) of the blocks of a kind, as `terraform fmt` lays them out."""
    return re.findall(rf'^{kind} "(\w+)" {{\n(.*?)^}}$', (MODULE / file).read_text(), re.DOTALL | re.MULTILINE)


def attribute(body: str, name: str) -> str | None:
    """The text of an attribute; of one over several lines, all of them in one."""
    found = re.search(rf"^  {name} += (.+?)(?=^  \w|^\s*$|\Z)", body, re.DOTALL | re.MULTILINE)
    return " ".join(found[1].split()) if found else None


def described(body: str) -> str:
    text = attribute(body, "description")
    assert text is not None
    return text.strip('"').replace("|", "\\|")


def variable_table() -> str:
    rows = ["| name | type | default | |", "|---|---|---|---|"]
    for name, body in blocks("variables.tf", "variable"):
        kind, default = attribute(body, "type"), attribute(body, "default")
        shown = "**needed**" if default is None else f"`{default}`"
        rows.append(f"| `{name}` | `{kind}` | {shown} | {described(body)} |")
    return "\n".join(rows)


def output_table() -> str:
    rows = ["| name | |", "|---|---|"]
    rows += [f"| `{name}` | {described(body)} |" for name, body in blocks("outputs.tf", "output")]
    return "\n".join(rows)


def render(text: str) -> str:
    """The README with its tables as they should be."""
    for name, table in (("variables", variable_table()), ("outputs", output_table())):
        pattern = re.compile(rf"(<!-- {name}[^\n]*-->\n).*?(<!-- /{name} -->)", re.DOTALL)
        place = pattern.search(text)
        assert place, f"terraform/README.md has no place for {name}"
        text = f"{text[: place.start()]}{place[1]}{table}\n{place[2]}{text[place.end() :]}"
    return text


if __name__ == "__main__":
    README = MODULE / "README.md"
    README.write_text(render(README.read_text()))
