"""The parts of an endless multipart answer, as they come in."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from workshop_brain.connect.mtconnect.document import MOST_BYTES
from workshop_brain.errors import DecodeError

_BOUNDARY = re.compile(r'boundary="?([^";,]{1,100})"?', re.I)
_LENGTH = re.compile(rb"content-length:\s*(\d{1,12})\s*$", re.I | re.M)
_MOST_HEAD = 16 * 1024


def boundary_of(content_type: str) -> bytes | None:
    """Boundary of a multipart answer; None when it is not one.

    >>> boundary_of("multipart/x-mixed-replace;boundary=abc")
    b'--abc'
    """
    found = _BOUNDARY.search(content_type)
    if not content_type.lower().startswith("multipart/") or found is None:
        return None
    return b"--" + found[1].encode()


@dataclass(slots=True)
class Parts:
    """Cuts a stream of bytes into bodies; needs the length that agents give with each."""

    boundary: bytes
    _buffer: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Bodies that are complete now; DecodeError when the stream cannot be cut."""
        self._buffer += data
        while (body := self._next()) is not None:
            yield body

    def _next(self) -> bytes | None:
        start = self._buffer.find(self.boundary)
        end = self._buffer.find(b"\r\n\r\n", max(start, 0))
        if start < 0 or end < 0:
            if len(self._buffer) > _MOST_HEAD:
                raise DecodeError("the stream has no boundary where a part should begin")
            return None
        found = _LENGTH.search(bytes(self._buffer[start:end]).replace(b"\r", b""))
        if found is None:
            raise DecodeError("a part of the stream does not say its length")
        length = int(found[1])
        if length > MOST_BYTES:
            raise DecodeError(f"a part of the stream has {length} bytes, at most {MOST_BYTES}")
        if len(self._buffer) < end + 4 + length:
            return None
        body = bytes(self._buffer[end + 4 : end + 4 + length])
        del self._buffer[: end + 4 + length]
        return body
