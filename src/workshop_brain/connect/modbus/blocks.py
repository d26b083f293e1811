"""Where the tags of a Modbus device lie, and how their registers become values. Pure."""

from collections.abc import Sequence

from workshop_brain.connect.blocks import Block, Field, Place, Span, plain_text
from workshop_brain.connect.blocks import plan as plan_spans
from workshop_brain.connect.modbus.settings import MOST_REGISTERS, ModbusTag

MOST_BITS = 2000
BIT_TABLES = ("coil", "discrete")


def span(tag: ModbusTag, poll_ms: int) -> Span:
    """Unit and table, and the registers or bits that a tag takes."""
    return Span(tag.poll_ms or poll_ms, (tag.unit_id, tag.table), tag.address, tag.width)


def most(place: Place) -> int:
    """Registers or bits that one request may read."""
    return MOST_BITS if place[1] in BIT_TABLES else MOST_REGISTERS


def size(place: Place) -> int:
    """Bytes of an element: a bit is given as a byte."""
    return 1 if place[1] in BIT_TABLES else 2


def plan(tags: Sequence[ModbusTag], poll_ms: int, gap: int) -> list[Block]:
    """The requests that reach all tags."""
    return plan_spans([span(tag, poll_ms) for tag in tags], gap, most)


def meaning(tag: ModbusTag) -> Field:
    """How the bytes of its registers, high byte first, become the value of a tag.

    >>> meaning(ModbusTag(path="a", address=0, type="float32", word_order="little")).order
    (2, 3, 0, 1)
    """
    if tag.is_bit:
        return Field("u1", (0,), mask=0xFF)
    if tag.type == "string":
        return Field("", text=plain_text)
    if tag.type == "bool":
        mask = 1 << tag.bit if tag.bit >= 0 else 0xFFFF
        return Field(">u2", (0, 1), mask, tag.scale, tag.offset)
    words = range(tag.width) if tag.word_order == "big" else range(tag.width - 1, -1, -1)
    order = tuple(2 * word + byte for word in words for byte in (0, 1))
    return Field(f">{tag.type[0]}{2 * tag.width}", order, 0, tag.scale, tag.offset)
