"""The page of the plant file names every key that the plant file may have."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from workshop_brain import config
from workshop_brain.autonomy.settings import EnvelopeSettings, PlanningSettings
from workshop_brain.connect.settings import PROTOCOLS
from workshop_brain.dispatch.settings import DispatchSettings
from workshop_brain.model.decision import WEIGHT_NAMES

PAGE = Path(__file__).parents[2] / "docs/reference/plant-file.md"


def sections() -> dict[str, str]:
    """Heading to text."""
    parts = re.split(r"^## ", PAGE.read_text("utf-8"), flags=re.M)[1:]
    return {part.split("\n", 1)[0]: part for part in parts}


@pytest.mark.parametrize(
    ("heading", "keys"),
    [
        ("`[[work_center]]`", config._CENTER),
        ("people, buffers", [*config._UNIT[-5:], *config._STEP[-6:]]),
        ("`[planning]`", [*WEIGHT_NAMES, *(f.name for f in fields(PlanningSettings))]),
        ("`[[source]]`", [f.name for kind in PROTOCOLS.values() for f in fields(kind)]),
        ("`[history]`", [*config._HISTORY, "catalog", "catalog_password_env"]),
        ("`[[dispatch]]`", [f.name for f in fields(DispatchSettings)]),
        (
            "`[autonomy]`",
            [f.name for f in fields(EnvelopeSettings)] + ["default", "line", "veto_s"],
        ),
    ],
)
def test_every_key_is_explained(heading: str, keys: list[str]) -> None:
    text = next(text for title, text in sections().items() if heading in title)
    assert [key for key in dict.fromkeys(keys) if f"`{key}`" not in text] == []


def test_every_table_has_its_section() -> None:
    titles = " ".join(re.findall(r"^##+ .*$", PAGE.read_text("utf-8"), flags=re.M))
    assert [name for name in config._TOP if f"[{name}]" not in titles] == []
