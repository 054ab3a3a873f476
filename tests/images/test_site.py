"""`make site`: the documents as a site. A link that leads nowhere fails the build."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SPHINX = ROOT / ".venv-site" / "bin" / "sphinx-build"
NO_SPHINX = f"THE SITE WAS NOT BUILT: {SPHINX.parent.parent.name} is not here (`make site` makes it)"
LINKED = ("docs", "terraform", "jobs/__init__.py", "jobs/reports/report.schema.json", "LICENSE", "policy.example.yaml")


if not SPHINX.exists():
    pytest.skip(NO_SPHINX, allow_module_level=True)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The documents and what they link to."""
    for name in (*LINKED, *(file.name for file in ROOT.glob("*.md"))):
        source, target = ROOT / name, tmp_path / "clone" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns(".terraform*"))
        else:
            shutil.copyfile(source, target)
    return tmp_path / "clone"


def build(clone: Path) -> subprocess.CompletedProcess[str]:
    """As the Makefile does it."""
    target = next(line for line in (ROOT / "Makefile").read_text().splitlines() if "bin/sphinx-build" in line)
    arguments = target.split()[1:]
    return subprocess.run([SPHINX, *arguments], cwd=clone, capture_output=True, text=True, check=False)


def test_each_document_is_a_page_and_a_link_to_nowhere_fails(clone: Path) -> None:
    done = build(clone)
    assert (done.returncode, done.stderr) == (0, "")
    pages = {file.relative_to(clone / "build/site").with_suffix(".md") for file in clone.glob("build/site/**/*.html")}
    documents = {file.relative_to(clone) for file in [*clone.glob("*.md"), *clone.glob("docs/*.md")]}
    assert documents <= pages
    first = (clone / "build/site/README.html").read_text()
    assert 'href="docs/replicate.html"' in first
    with (clone / "docs/verify.md").open("a") as page:
        page.write("\n[a file](no-such-file.md), [a heading](replicate.md#no-such-heading)\n")
    broken = build(clone)
    assert broken.returncode != 0
    assert "no-such-file.md" in broken.stderr
    assert "no-such-heading" in broken.stderr
