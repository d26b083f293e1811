"""Every tag is in exactly one request, none too long; what was encoded is decoded."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workshop_brain.connect.blocks import Decoder
from workshop_brain.connect.modbus.blocks import MOST_BITS, meaning, plan, span
from workshop_brain.connect.modbus.settings import MOST_REGISTERS, TABLES, WIDTHS, ModbusTag

CODES = {
    "int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "q", "uint64": "Q",
    "float32": "f", "float64": "d",
}  # fmt: skip


@st.composite
def lists(draw: st.DrawFn) -> list[ModbusTag]:
    tags = []
    for k in range(draw(st.integers(1, 40))):
        table = draw(st.sampled_from(TABLES))
        bits = table in ("coil", "discrete")
        tags.append(
            ModbusTag(
                path=f"s/{k}",
                table=table,
                address=draw(st.integers(0, 3000)),
                type="bool" if bits else draw(st.sampled_from(sorted(WIDTHS))),
                unit_id=draw(st.integers(1, 2)),
                poll_ms=draw(st.sampled_from([0, 100])),
            )
        )
    return tags


def decoded(tag: ModbusTag, words: np.ndarray) -> float | str:
    """The value of one tag from its registers."""
    block = plan([tag], 100, 0)[0]
    decoder = Decoder.of(block, [span(tag, 100)], [meaning(tag)], 2)
    data = words.astype(">u2").tobytes()
    return decoder.texts(data)[0][1] if tag.type == "string" else float(decoder.numbers(data)[0])


@given(lists(), st.integers(0, 200))
def test_every_tag_is_read_once_by_requests_within_the_limit(
    tags: list[ModbusTag], gap: int
) -> None:
    blocks = plan(tags, 500, gap)
    assert sorted(k for block in blocks for k in block.tags) == list(range(len(tags)))
    for block in blocks:
        assert block.count <= (MOST_BITS if block.place[1] in TABLES[2:] else MOST_REGISTERS)
        for k in block.tags:
            tag = tags[k]
            assert (tag.unit_id, tag.table) == block.place
            assert (tag.poll_ms or 500) == block.poll_ms
            assert block.start <= tag.address
            assert tag.address + tag.width <= block.start + block.count
        halves = block.split([span(tag, 500) for tag in tags])
        assert sorted(k for half in halves for k in half.tags) == sorted(block.tags)


@given(st.sampled_from(sorted(CODES)), st.sampled_from(["big", "little"]), st.data())
def test_values_come_back(type: str, order: str, data: st.DataObject) -> None:
    code = CODES[type]
    if type.startswith("float"):
        value = data.draw(st.floats(width=32 if type == "float32" else 64, allow_nan=False))
    else:
        size = 8 * struct.calcsize(code)
        low = -(2 ** (size - 1)) if code.islower() else 0
        value = data.draw(st.integers(low, low + 2**size - 1))
    words = np.frombuffer(struct.pack(f">{code}", value), ">u2").astype(np.uint16)
    tag = ModbusTag(path="a", address=3, type=type, word_order=order)
    assert decoded(tag, words if order == "big" else words[::-1]) == float(value)


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=12))
def test_texts_come_back(value: str) -> None:
    raw = value.encode().ljust(14, b"\0")
    tag = ModbusTag(path="a", address=0, type="string", length=7)
    assert decoded(tag, np.frombuffer(raw, ">u2")) == value


@pytest.mark.parametrize(("bit", "value"), [(0, 1.0), (1, 0.0), (3, 1.0), (-1, 1.0)])
def test_bits_of_a_register(bit: int, value: float) -> None:
    tag = ModbusTag(path="a", address=0, type="bool", bit=bit)
    assert decoded(tag, np.array([0b1001], np.uint16)) == value
