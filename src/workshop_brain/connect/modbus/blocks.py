"""Which requests read a list of tags, and what their answers mean. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workshop_brain.connect.modbus.settings import MOST_REGISTERS, ModbusTag

MOST_BITS = 2000
Words = NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Block:
    """One request.

    Attributes
    ----------
    start, count
        First address and number of registers, or bits.
    tags
        Indices of the tags in it.
    """

    poll_ms: int
    unit_id: int
    table: str
    start: int
    count: int
    tags: tuple[int, ...]

    def split(self, tags: Sequence[ModbusTag]) -> tuple["Block", ...]:
        """Two halves by tags; itself when it has one tag."""
        if len(self.tags) < 2:
            return (self,)
        middle = len(self.tags) // 2
        return tuple(self._of(part, tags) for part in (self.tags[:middle], self.tags[middle:]))

    def _of(self, part: tuple[int, ...], tags: Sequence[ModbusTag]) -> "Block":
        start = min(tags[k].address for k in part)
        end = max(tags[k].address + tags[k].width for k in part)
        return Block(self.poll_ms, self.unit_id, self.table, start, end - start, part)


def plan(tags: Sequence[ModbusTag], poll_ms: int, gap: int) -> list[Block]:
    """As few requests as reach all tags, none longer than the protocol allows.

    >>> tags = [ModbusTag(path="a", address=0), ModbusTag(path="b", address=5)]
    >>> [(b.start, b.count) for b in plan(tags, 1000, 8)], len(plan(tags, 1000, 3))
    ([(0, 6)], 2)
    """
    keys = [(t.poll_ms or poll_ms, t.unit_id, t.table) for t in tags]
    order = sorted(range(len(tags)), key=lambda k: (keys[k], tags[k].address, tags[k].width))
    blocks: list[Block] = []
    open_: list[int] = []
    start = end = 0
    for k in order:
        tag = tags[k]
        most = MOST_BITS if tag.is_bit else MOST_REGISTERS
        new_end = max(end, tag.address + tag.width)
        fits = open_ and keys[open_[-1]] == keys[k]
        if fits and tag.address <= end + gap and new_end - start <= most:
            open_.append(k)
            end = new_end
            continue
        if open_:
            blocks.append(Block(*keys[open_[-1]], start, end - start, tuple(open_)))
        open_, start, end = [k], tag.address, tag.address + tag.width
    if open_:
        blocks.append(Block(*keys[open_[-1]], start, end - start, tuple(open_)))
    return blocks


def number(tag: ModbusTag, words: Words) -> float:
    """The scaled value of one tag from its own registers, or its bit.

    >>> number(ModbusTag(path="a", address=0, type="float32"), np.array([0x41BC, 0], np.uint16))
    23.5
    """
    if tag.is_bit:
        return float(words[0] != 0)
    if tag.type == "bool":
        raw = float(words[0] >> tag.bit & 1) if tag.bit >= 0 else float(words[0] != 0)
    else:
        ordered = words if tag.word_order == "big" else words[::-1]
        bytes_ = np.ascontiguousarray(ordered).astype(">u2").tobytes()
        code = {"i": "i", "u": "u", "f": "f"}[tag.type[0]]
        raw = float(np.frombuffer(bytes_, f">{code}{len(bytes_)}")[0])
    return raw * tag.scale + tag.offset


def text(words: Words) -> str:
    """A string of registers, two characters each, ended by a zero; bytes that are no text as ?.

    >>> text(np.array([0x4f4b, 0x0041], np.uint16))
    'OK'
    """
    return words.astype(">u2").tobytes().split(b"\0")[0].decode("utf-8", "replace").strip()


def own_words(tag: ModbusTag, block: Block, words: Words) -> Words:
    """The registers of one tag in the answer to its block."""
    first = tag.address - block.start
    return words[first : first + tag.width]
