"""The hash chain of the ledger: each entry seals the one before it. Pure; no file, no clock.

A line is the canonical JSON of an entry, so every byte of it is determined by its content:
a flipped byte is found even where a parser would not care.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

GENESIS = "0" * 64
_KEYS = {"n", "kind", "wall_ns", "body", "prev", "hash"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One link.

    Attributes
    ----------
    n
        1, 2, 3, ... without a gap.
    wall_ns
        Wall time of writing, ns since the epoch, UTC.
    prev, hash
        Hash of the entry before and of this one, 64 hexadecimal digits.
    """

    n: int
    kind: str
    wall_ns: int
    body: dict[str, Any]
    prev: str
    hash: str


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong at a line of the ledger; line 0 is the ledger as a whole."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Head:
    """Number and hash of a last entry, as the anchor keeps it."""

    n: int
    hash: str


def canonical(value: Any) -> bytes:
    """The one JSON text of a value: sorted keys, no spaces, UTF-8, no NaN.

    Raises ValueError for NaN and infinities, TypeError for what JSON cannot say.

    >>> canonical({"b": 1.0, "a": "节拍"}).decode()
    '{"a":"节拍","b":1.0}'
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def entry_hash(prev: str, content: dict[str, Any]) -> str:
    """sha256(previous hash || canonical content), hexadecimal."""
    return hashlib.sha256(prev.encode() + canonical(content)).hexdigest()


def link(head: Head, kind: str, wall_ns: int, body: dict[str, Any]) -> Entry:
    """The entry that follows a head (``Head(0, GENESIS)`` before the first).

    The body is what JSON makes of it (tuples become lists), so that a read entry equals it.
    """
    plain = json.loads(canonical(body))
    n = head.n + 1
    content = {"n": n, "kind": kind, "wall_ns": wall_ns, "body": plain}
    return Entry(**content, prev=head.hash, hash=entry_hash(head.hash, content))


def to_line(entry: Entry) -> bytes:
    """An entry as one line, with its line feed."""
    return canonical({name: getattr(entry, name) for name in Entry.__slots__}) + b"\n"


def from_line(line: bytes) -> Entry:
    """The entry of one line; ValueError says what is wrong with it."""
    try:
        data = json.loads(line)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"is not JSON ({error})") from error
    if not isinstance(data, dict) or set(data) != _KEYS:
        raise ValueError(f"must have the keys {', '.join(sorted(_KEYS))}")
    if canonical(data) + b"\n" != line:
        raise ValueError("bytes differ from what was written")
    return Entry(**data)


def verify(lines: Iterable[bytes], anchor: Head | None = None) -> list[Problem]:
    """Everything that is wrong with a ledger.

    lines
        With their line feeds, in order.
    anchor
        Head kept apart: with it a ledger that was cut short, or replaced as a whole, is found.
        The chain may go on behind the anchor (it is written after the entry).
    """
    problems: list[Problem] = []
    head = Head(0, GENESIS)
    hashes: dict[int, str] = {0: GENESIS}
    number = 0
    for number, line in enumerate(lines, start=1):
        try:
            entry = from_line(line)
        except ValueError as error:
            problems.append(Problem(number, str(error)))
            head = Head(head.n + 1, "")
            continue
        problems += [Problem(number, text) for text in _check(head, entry)]
        head = Head(entry.n, entry.hash)
        hashes[entry.n] = entry.hash
    if anchor is not None:
        problems += _check_anchor(anchor, head, hashes, number)
    return problems


def _check(head: Head, entry: Entry) -> list[str]:
    content = {"n": entry.n, "kind": entry.kind, "wall_ns": entry.wall_ns, "body": entry.body}
    out = []
    if entry_hash(entry.prev, content) != entry.hash:
        out.append(f"entry {entry.n} was changed: its hash does not match its content")
    if entry.n != head.n + 1:
        found = f"expected entry {head.n + 1}, found entry {entry.n}"
        out.append(f"{found}: entries are missing, inserted or out of order")
    elif head.hash and entry.prev != head.hash:
        out.append(f"entry {entry.n} does not follow the entry before it: one of them was replaced")
    return out


def _check_anchor(anchor: Head, head: Head, hashes: dict[int, str], lines: int) -> list[Problem]:
    if anchor.n > head.n:
        missing = f"entries {head.n + 1} to {anchor.n} are missing at the end"
        return [Problem(lines + 1, f"{missing}: the ledger was cut short")]
    found = hashes.get(anchor.n)
    if found is not None and found != anchor.hash:
        other = f"entry {anchor.n} is not the one that the anchor remembers"
        return [Problem(anchor.n, f"{other}: the ledger was replaced")]
    return []
