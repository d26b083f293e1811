"""The list of Sparkplug assertions is complete, and the tests that pages name exist."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
REFERENCE = TESTS.parent / "docs" / "reference"


def test_every_assertion_has_a_test_or_a_reason() -> None:
    text = (REFERENCE / "sparkplug-assertions.md").read_text("utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| (\w+) \| (.+) \|$", text, re.M)
    listed = text.split("```text\n", 1)[1].split("```")[0].split()
    assert len(listed) == 299
    assert sorted(id for id, _, _ in rows) == sorted(listed)
    assert {who for _, who, _ in rows} == {"host", "node", "both", "plant", "server"}


@pytest.mark.parametrize("page", ["sparkplug-assertions.md", "bad-input.md"])
def test_every_test_that_a_page_names_exists(page: str) -> None:
    names = re.findall(r"`(test_\w+::\w+)`", (REFERENCE / page).read_text("utf-8"))
    assert len(names) > 20
    for name in sorted(set(names)):
        file, test = name.split("::")
        found = list(TESTS.rglob(f"{file}.py"))
        assert len(found) == 1, name
        assert re.search(rf"^(async )?def {test}\(", found[0].read_text("utf-8"), re.M), name
