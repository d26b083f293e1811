"""The documentation is whole: both READMEs tell the same, every page is listed, links lead on."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
ENGLISH, CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"
PAGES = sorted(p for p in DOCS.rglob("*.md") if p != DOCS / "index.md")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.M | re.S)


def headings(page: Path) -> list[int]:
    """Depth of each heading, in order."""
    text = FENCE.sub("", page.read_text("utf-8"))
    return [len(found) for found in re.findall(r"^(#+) ", text, re.M)]


def section_shapes(page: Path) -> list[tuple[int, int, int]]:
    """Numbered steps, points and table rows of each section, in order."""
    sections = re.split(r"^## .*$", page.read_text("utf-8"), flags=re.M)
    kinds = (r"^\d+\. ", r"^- ", r"^\| ")
    return [tuple(len(re.findall(k, s, re.M)) for k in kinds) for s in sections]  # type: ignore[misc]


def code(page: Path) -> set[str]:
    """What stands in back quotes: commands, files, identifiers."""
    return set(re.findall(r"`([^`\n]+)`", page.read_text("utf-8")))


def test_both_readmes_begin_with_the_two_commands() -> None:
    for page in (ENGLISH, CHINESE):
        first, second = page.read_text("utf-8").splitlines()[:2]
        assert first.split("#")[0].strip() == "make run", page.name
        assert second.split("#")[0].strip() == "make test", page.name


def test_the_chinese_readme_has_the_sections_and_steps_of_the_english_one() -> None:
    assert headings(CHINESE) == headings(ENGLISH)
    assert section_shapes(CHINESE) == section_shapes(ENGLISH)
    assert section_shapes(ENGLISH)[1][0] == 8, "the tour has eight steps"


def test_the_chinese_readme_names_every_command_and_file_of_the_english_one() -> None:
    assert code(ENGLISH) - code(CHINESE) == set()


def test_the_index_lists_every_page() -> None:
    index = (DOCS / "index.md").read_text("utf-8")
    listed = set(re.findall(r"^([\w/.-]+)$", index, re.M))
    pages = {str(p.relative_to(DOCS).with_suffix("")) for p in PAGES}
    assert listed == pages


@pytest.mark.parametrize("page", [ENGLISH, CHINESE, *PAGES], ids=lambda p: p.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text("utf-8"))
    targets = [t.split("#")[0] for t in LINK.findall(text) if "://" not in t and t[0] != "#"]
    missing = [t for t in targets if not (page.parent / t).exists()]
    assert missing == []
