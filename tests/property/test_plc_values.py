"""S7 and SLMP: every tag is in one request within the limit, what was encoded is decoded."""

import asyncio
import struct
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workshop_brain.connect.blocks import Block, Decoder, Field, Span, plan
from workshop_brain.connect.poller import RefusedError
from workshop_brain.connect.s7 import blocks as s7
from workshop_brain.connect.s7.settings import NUMBERS, S7Tag
from workshop_brain.connect.s7.source import S7Link
from workshop_brain.connect.slmp import blocks as slmp
from workshop_brain.connect.slmp.frames import Frame
from workshop_brain.connect.slmp.settings import WIDTHS, SlmpTag
from workshop_brain.connect.slmp.source import SlmpLink
from workshop_brain.errors import SourceError

LETTERS = {1: "B", 2: "W", 4: "D", 8: "D"}


def decoded(spans: list[Span], fields: list[Field], memory: bytes, size: int) -> list[float]:
    """Values of all tags, read block by block as the poller does it."""
    out = np.full(len(spans), np.nan)
    seen: list[int] = []
    for block in plan(spans, 16, lambda place: 222):
        assert block.count <= 222
        decoder = Decoder.of(block, spans, fields, size)
        data = memory[block.start * size : (block.start + block.count) * size]
        out[decoder.tags] = decoder.numbers(data)
        seen += block.tags
    assert sorted(seen) == list(range(len(spans)))
    return out.tolist()


def number(dtype: str, data: st.DataObject) -> float:
    if dtype[-2] == "f":
        return data.draw(st.floats(width=8 * int(dtype[-1]), allow_nan=False))  # type: ignore[arg-type]
    info = np.iinfo(dtype)
    return data.draw(st.integers(int(info.min), int(info.max)))


@settings(max_examples=60)
@given(st.lists(st.sampled_from(sorted(set(NUMBERS) - {"BOOL"})), min_size=1, max_size=40),
       st.data())  # fmt: skip
def test_s7_numbers_come_back(types: list[str], data: st.DataObject) -> None:
    memory, tags, values = bytearray(), [], []
    for k, type_ in enumerate(types):
        memory += bytes(data.draw(st.integers(0, 40)))
        letter = LETTERS[int(NUMBERS[type_][-1])]
        tags.append(S7Tag(path=f"a/{k}", address=f"DB1.DB{letter}{len(memory)}", type=type_))
        assert tags[-1].fault() == ""
        values.append(number(NUMBERS[type_], data))
        memory += np.array(values[-1], NUMBERS[type_]).tobytes()
    spans = [s7.span(tag, 100) for tag in tags]
    fields = [s7.meaning(tag, "latin-1") for tag in tags]
    assert decoded(spans, fields, bytes(memory), 1) == [float(v) for v in values]


@settings(max_examples=60)
@given(st.lists(st.sampled_from(sorted(set(WIDTHS) - {"bool"})), min_size=1, max_size=40),
       st.data())  # fmt: skip
def test_slmp_numbers_come_back(types: list[str], data: st.DataObject) -> None:
    memory, tags, values = bytearray(), [], []
    for k, type_ in enumerate(types):
        memory += bytes(2 * data.draw(st.integers(0, 40)))
        tags.append(SlmpTag(path=f"a/{k}", address=f"D{len(memory) // 2}", type=type_))
        values.append(number(np.dtype(type_).str, data))
        memory += np.array(values[-1], np.dtype(type_).newbyteorder("<")).tobytes()
    spans = [slmp.span(tag, 100) for tag in tags]
    fields = [slmp.meaning(tag) for tag in tags]
    assert decoded(spans, fields, bytes(memory), 2) == [float(v) for v in values]


@given(st.sampled_from(["X", "Y", "B", "M", "L"]), st.integers(0, 0xFFFF), st.booleans())
def test_a_bit_is_found_in_its_word(device: str, number: int, is_on: bool) -> None:
    form = "X" if device in "XYB" else "d"
    tag = SlmpTag(path="a", address=f"{device}{number:{form}}")
    word = (1 << number % 16) ^ (0 if is_on else 0xFFFF)
    span = slmp.span(tag, 100)
    assert span.start == number // 16
    block = Block(100, span.place, span.start, 1, (0,))
    decoder = Decoder.of(block, [span], [slmp.meaning(tag)], 2)
    assert decoder.numbers(struct.pack("<H", word)).tolist() == [float(is_on)]


class _Line:
    """The writing side of a connection whose answers are known beforehand."""

    def write(self, data: bytes) -> None:
        pass


@settings(max_examples=60)
@given(st.booleans(), st.binary(max_size=40), st.booleans())
def test_bytes_that_are_no_slmp_answer_end_the_connection(
    is_4e: bool, answer: bytes, begins_well: bool
) -> None:
    async def read() -> None:
        reader = asyncio.StreamReader()
        start = (b"\xd4\0\x01\0\0\0" if is_4e else b"\xd0\0") if begins_well else b""
        reader.feed_data(start + answer)
        reader.feed_eof()
        link = SlmpLink(Frame(is_4e=is_4e), reader, _Line())  # type: ignore[arg-type]
        with suppress(RefusedError, SourceError):
            await link.read(Block(100, ("D",), 0, 3, ()))

    asyncio.run(read())


@settings(max_examples=200)
@given(st.binary(max_size=60), st.booleans())
def test_bytes_that_are_no_s7_answer_end_the_connection(answer: bytes, begins_well: bool) -> None:
    from snap7 import AsyncClient
    from snap7.async_client import AsyncISOTCPConnection

    class Canned(AsyncISOTCPConnection):
        async def send_data(self, data: bytes) -> None:
            pass

        async def receive_data(self) -> bytes:
            head = b"\x32\x03\0\0\0\x01\0\x02" if begins_well else b""
            return head + answer

    async def read() -> None:
        client = AsyncClient()
        client.connection = Canned("")
        client.connected = client.connection.connected = True
        with pytest.raises((RefusedError, SourceError)):
            await S7Link(client).read(Block(100, ("DB", 1), 0, 100, ()))

    asyncio.run(read())
