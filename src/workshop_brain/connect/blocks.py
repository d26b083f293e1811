"""Which requests read a list of tags of a polled device, and what their answers mean. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Place = tuple[int | str, ...]
"""What one request cannot cross: a unit and its table, a data block, a kind of device."""


@dataclass(frozen=True, slots=True)
class Span:
    """Where a tag lies: ``count`` elements (registers, bytes, bits) from ``start`` of a place."""

    poll_ms: int
    place: Place
    start: int
    count: int


@dataclass(frozen=True, slots=True)
class Block:
    """One request: the elements that it reads, and the indices of the tags in it."""

    poll_ms: int
    place: Place
    start: int
    count: int
    tags: tuple[int, ...]

    def split(self, spans: Sequence[Span]) -> tuple["Block", ...]:
        """Two halves by tags; itself when it has one tag."""
        if len(self.tags) < 2:
            return (self,)
        middle = len(self.tags) // 2
        return tuple(self._of(part, spans) for part in (self.tags[:middle], self.tags[middle:]))

    def _of(self, part: tuple[int, ...], spans: Sequence[Span]) -> "Block":
        start = min(spans[k].start for k in part)
        end = max(spans[k].start + spans[k].count for k in part)
        return Block(self.poll_ms, self.place, start, end - start, part)


def plan(spans: Sequence[Span], gap: int, most: Callable[[Place], int]) -> list[Block]:
    """As few requests as reach all tags, none longer than ``most`` of its place allows.

    Up to ``gap`` elements nobody asked for are read over. A tag longer than a request stands alone.

    >>> spans = [Span(1000, ("holding",), 0, 1), Span(1000, ("holding",), 5, 1)]
    >>> [(b.start, b.count) for b in plan(spans, 8, lambda place: 125)]
    [(0, 6)]
    >>> len(plan(spans, 3, lambda place: 125))
    2
    """
    order = sorted(range(len(spans)), key=lambda k: (_key(spans[k]), spans[k].start))
    blocks: list[Block] = []
    open_: list[int] = []
    start = end = 0

    def close() -> None:
        if open_:
            poll_ms, place = _key(spans[open_[-1]])
            blocks.append(Block(poll_ms, place, start, end - start, tuple(open_)))

    for k in order:
        span = spans[k]
        new_end = max(end, span.start + span.count)
        fits = open_ and _key(spans[open_[-1]]) == _key(span)
        if fits and span.start <= end + gap and new_end - start <= most(span.place):
            open_.append(k)
            end = new_end
            continue
        close()
        open_, start, end = [k], span.start, span.start + span.count
    close()
    return blocks


def _key(span: Span) -> tuple[int, Place]:
    return span.poll_ms, span.place


@dataclass(frozen=True, slots=True)
class Field:
    """How a tag's own bytes become its value.

    Attributes
    ----------
    dtype
        numpy's word for the number: ``>f4``, ``<i2``; of a text its bytes are taken whole.
    order
        Of the number's bytes: where each stands in the tag's bytes.
    mask
        Of a bool: which bits make it true; 0 for numbers.
    text
        Of a text: its characters from the tag's bytes.
    """

    dtype: str
    order: tuple[int, ...] = ()
    mask: int = 0
    scale: float = 1.0
    offset: float = 0.0
    text: Callable[[bytes], str] | None = None


@dataclass(slots=True)
class _Group:
    """Numbers of one type in a block.

    Attributes
    ----------
    tags : ndarray, shape (n,)
    at : ndarray, shape (n, width)
        Where their bytes are.
    """

    dtype: np.dtype[np.generic]
    is_bool: bool
    tags: NDArray[np.int64]
    at: NDArray[np.int64]
    mask: NDArray[np.uint64]
    scale: NDArray[np.float64]
    offset: NDArray[np.float64]


@dataclass(slots=True, eq=False)
class Decoder:
    """Values of all tags of a block from the bytes of its answer, a type at a time.

    Parameters
    ----------
    size
        Bytes of one element: 2 for registers, 1 for bytes and for bits given as bytes.
    """

    block: Block
    tags: NDArray[np.int64]
    """Tags with numbers, in the order of the columns."""
    _groups: list[_Group] = field(default_factory=list)
    _texts: list[tuple[int, slice, Callable[[bytes], str]]] = field(default_factory=list)

    @classmethod
    def of(
        cls, block: Block, spans: Sequence[Span], fields: Sequence[Field], size: int
    ) -> "Decoder":
        """The decoder of a block."""
        groups: dict[tuple[str, bool], list[int]] = {}
        out = cls(block, np.zeros(0, np.int64))
        for k in block.tags:
            own = fields[k]
            if own.text is None:
                groups.setdefault((own.dtype, own.mask != 0), []).append(k)
                continue
            first = (spans[k].start - block.start) * size
            out._texts.append((k, slice(first, first + spans[k].count * size), own.text))
        for (dtype, is_bool), tags in groups.items():
            first_bytes = [(spans[k].start - block.start) * size for k in tags]
            rows = [
                [first + at for at in fields[k].order]
                for k, first in zip(tags, first_bytes, strict=True)
            ]
            out._groups.append(
                _Group(
                    np.dtype(dtype),
                    is_bool,
                    np.array(tags),
                    np.array(rows),
                    np.array([fields[k].mask for k in tags], np.uint64),
                    np.array([fields[k].scale for k in tags]),
                    np.array([fields[k].offset for k in tags]),
                )
            )
        if out._groups:
            out.tags = np.concatenate([group.tags for group in out._groups])
        return out

    def numbers(self, data: bytes) -> NDArray[np.float64]:
        """Scaled values of ``tags``; bools as 0 and 1."""
        raw = np.frombuffer(data, np.uint8)
        columns = []
        for group in self._groups:
            value = np.ascontiguousarray(raw[group.at]).view(group.dtype)[:, 0]
            if group.is_bool:
                column = ((value.astype(np.uint64) & group.mask) != 0).astype(np.float64)
            else:
                column = value.astype(np.float64)
            columns.append(column * group.scale + group.offset)
        return np.concatenate(columns) if columns else np.zeros(0)

    def texts(self, data: bytes) -> list[tuple[int, str]]:
        """(tag, characters) of each text."""
        return [(k, read(data[part])) for k, part, read in self._texts]


def plain_text(data: bytes) -> str:
    """Characters up to the first zero; bytes that are no UTF-8 as their replacement sign.

    >>> plain_text(b"OK\\0rest")
    'OK'
    """
    return data.split(b"\0")[0].decode("utf-8", "replace").strip()
