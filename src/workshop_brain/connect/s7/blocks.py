"""Where the tags of an S7 PLC lie, and how their bytes become values. Pure."""

from workshop_brain.connect.blocks import Field, Span
from workshop_brain.connect.s7.settings import NUMBERS, S7Tag


def span(tag: S7Tag, poll_ms: int) -> Span:
    """Area, data block and bytes of a tag.

    >>> span(S7Tag(path="a", address="DB7.DBD4", type="REAL"), 1000)
    Span(poll_ms=1000, place=('DB', 7), start=4, count=4)
    """
    at = tag.place
    return Span(tag.poll_ms or poll_ms, (at.area, at.db), at.byte, tag.width)


def meaning(tag: S7Tag, encoding: str) -> Field:
    """How its bytes become the value of a tag."""
    type_ = tag.kind_of_value
    if type_ == "STRING":
        return Field("", text=lambda data: _text(data[2 : 2 + data[1]], encoding))
    if type_ == "WSTRING":
        return Field("", text=_wide_text)
    order = tuple(range(tag.width))
    mask = 1 << tag.place.bit if type_ == "BOOL" else 0
    return Field(NUMBERS[type_], order, mask, tag.scale, tag.offset)


def _text(data: bytes, encoding: str) -> str:
    return data.decode(encoding, "replace").strip("\0 ")


def _wide_text(data: bytes) -> str:
    count = int.from_bytes(data[2:4], "big")
    return _text(data[4 : 4 + 2 * count], "utf-16-be")
