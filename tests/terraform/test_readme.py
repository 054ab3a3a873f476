"""The module's README says what its variables and outputs are."""

from __future__ import annotations

import re

from tests.terraform.readme import MODULE, blocks, render


def test_tables_are_made_from_the_code():
    text = (MODULE / "README.md").read_text()
    assert render(text) == text, "run python -m tests.terraform.readme"
    for kind in ("variable", "output"):
        names = [name for name, _ in blocks(f"{kind}s.tf", kind)]
        written = re.findall(rf'^{kind} "(\w+)"', (MODULE / f"{kind}s.tf").read_text(), re.MULTILINE)
        assert names == written
        assert len(names) > 8


def test_every_file_has_its_line():
    text = (MODULE / "README.md").read_text()
    told = set(re.findall(r"^\| `(\w+\.tf)` \|", text, re.MULTILINE))
    assert {path.name for path in MODULE.glob("*.tf")} == told | {"versions.tf", "variables.tf", "outputs.tf"}
