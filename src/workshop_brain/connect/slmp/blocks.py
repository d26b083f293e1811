"""Where the tags of a Mitsubishi PLC lie, and how their words become values. Pure.

All is read in words, low byte first and low word first; bits come sixteen to a word.
"""

from workshop_brain.connect.blocks import Field, Span, plain_text
from workshop_brain.connect.slmp.frames import DEVICES
from workshop_brain.connect.slmp.settings import SlmpTag


def span(tag: SlmpTag, poll_ms: int) -> Span:
    """Device and words of a tag; of a bit device the word that holds the bit.

    >>> span(SlmpTag(path="a", address="X1F"), 1000)
    Span(poll_ms=1000, place=('X',), start=1, count=1)
    """
    at = tag.place
    start = at.number // 16 if DEVICES[at.device].is_bit else at.number
    return Span(tag.poll_ms or poll_ms, (at.device,), start, tag.width)


def meaning(tag: SlmpTag) -> Field:
    """How the bytes of its words become the value of a tag."""
    at, type_ = tag.place, tag.kind_of_value
    if type_ == "string":
        return Field("", text=plain_text)
    if type_ == "bool":
        bit = at.number % 16 if DEVICES[at.device].is_bit else at.bit
        mask = 1 << bit if bit >= 0 else 0xFFFF
        return Field("<u2", (0, 1), mask, tag.scale, tag.offset)
    order = tuple(range(2 * tag.width))
    return Field(f"<{type_[0]}{2 * tag.width}", order, 0, tag.scale, tag.offset)
