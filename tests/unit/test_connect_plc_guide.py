"""The examples of the page on PLCs are understood as they stand there."""

import re
import tomllib
from pathlib import Path

import pytest

from workshop_brain import config
from workshop_brain.connect.modbus import blocks as modbus
from workshop_brain.connect.s7 import blocks as s7
from workshop_brain.connect.settings import ModbusSettings, S7Settings, SlmpSettings
from workshop_brain.connect.slmp import blocks as slmp

GUIDE = Path(__file__).parents[2] / "docs/how-to/connect-plc.md"
EXAMPLES = re.findall(r"```toml\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize("text", EXAMPLES, ids=lambda text: tomllib.loads(text)["source"][0]["id"])
def test_an_example_is_a_source_whose_tags_have_places(text: str) -> None:
    (settings,) = config.parse(text, origin="plant.toml").sources
    widths = []
    if isinstance(settings, ModbusSettings):
        widths = [modbus.span(tag, settings.poll_ms).count for tag in settings.tag]
    elif isinstance(settings, S7Settings):
        widths = [s7.span(tag, settings.poll_ms).count for tag in settings.tag]
    elif isinstance(settings, SlmpSettings):
        widths = [slmp.span(tag, settings.poll_ms).count for tag in settings.tag]
    known = {"meter": [2, 1, 1], "press": [4, 4, 1, 18, 1], "oven": [1, 2, 1, 1, 8]}
    assert widths == known[settings.id]


def test_the_guide_has_an_example_of_each_protocol() -> None:
    assert len(EXAMPLES) == 3
