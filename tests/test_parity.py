"""docs/parity.md names only files, tests and headings that are there."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
TEXT = (DOCS / "parity.md").read_text(encoding="utf-8")


def _anchors(page: str) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_files_and_tests_are_there() -> None:
    files = set(re.findall(r"`((?:tests|data|deit_configs)/[\w/]+\.(?:py|yaml))`", TEXT))
    assert len(files) > 15
    for file in files:
        root = DOCS.parent / ("deit_fast" if file.startswith("data/") else "")
        assert (root / file).is_file(), file
    tests = "".join(path.read_text(encoding="utf-8") for path in (DOCS.parent / "tests").rglob("test_*.py"))
    for name in re.findall(r"`(test_\w+)`", TEXT):
        assert f"def {name}(" in tests, name


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((\w+\.md)(?:#([\w-]+))?\)", TEXT)
    assert len(links) > 10
    for page, anchor in links:
        assert (DOCS / page).is_file(), page
        assert not anchor or anchor in _anchors(page), (page, anchor)


def test_each_row_of_a_table_is_whole() -> None:
    for table in re.findall(r"(?:^\|.*\n)+", TEXT, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1
