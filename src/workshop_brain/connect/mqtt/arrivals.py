"""When unacknowledged messages came first, so that a second delivery gets the same time.

Written before the samples leave, without a sync: it outlives a killed process, not a power cut.
"""

import struct
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

_ROW = struct.Struct("<H8sq")
_MOST_BYTES = 4 * 1024 * 1024


def _digest(topic: str, payload: bytes) -> bytes:
    return blake2b(topic.encode() + b"\0" + payload, digest_size=8).digest()


@dataclass(slots=True, eq=False)
class Arrivals:
    """The last arrival of every packet id, in memory and in a file."""

    path: Path
    _by_id: dict[int, tuple[bytes, int]] = field(default_factory=dict)
    _fresh: bytearray = field(default_factory=bytearray)
    _size: int = 0

    def __post_init__(self) -> None:
        data = self.path.read_bytes() if self.path.is_file() else b""
        whole = len(data) // _ROW.size * _ROW.size
        for mid, digest, arrival_ns in _ROW.iter_unpack(data[:whole]):
            self._by_id[mid] = digest, arrival_ns
        self._size = _MOST_BYTES  # begin with a file of whole rows

    def known(self, mid: int, topic: str, payload: bytes) -> int | None:
        """When this message came first, ns; None when it is not known."""
        found = self._by_id.get(mid)
        return found[1] if found and found[0] == _digest(topic, payload) else None

    def note(self, mid: int, topic: str, payload: bytes, arrival_ns: int) -> None:
        """Remember one message."""
        digest = _digest(topic, payload)
        self._by_id[mid] = digest, arrival_ns
        self._fresh += _ROW.pack(mid, digest, arrival_ns)

    def flush(self) -> None:
        """Write what is new; a file grown too long is written anew."""
        if not self._fresh:
            return
        if self._size >= _MOST_BYTES:
            data = b"".join(_ROW.pack(mid, *row) for mid, row in self._by_id.items())
            pending = self.path.with_suffix(".new")
            pending.parent.mkdir(parents=True, exist_ok=True)
            pending.write_bytes(data)
            pending.replace(self.path)
            self._size = len(data)
        else:
            with self.path.open("ab") as file:
                file.write(self._fresh)
            self._size += len(self._fresh)
        self._fresh.clear()
