"""Instants as people, files and machines write them, as integer nanoseconds."""

import re
from datetime import UTC, datetime, tzinfo
from functools import lru_cache

from workshop_brain.units import NS_PER_DAY, NS_PER_MS, NS_PER_S

FIRST_NS = 946_684_800 * NS_PER_S
"""2000-01-01 UTC: an earlier stamp comes from a clock that was never set (1601, 1970, 1980)."""
LAST_NS = 4_102_444_800 * NS_PER_S
"""2100-01-01 UTC."""
_NS_FROM = 10**15
_MOST_OFFSET_S = 14 * 3600  # Line Islands; the farthest behind is -12:00
_FORMS = (
    re.compile(
        r"(?P<y>\d{4})[-/.年](?P<m>\d{1,2})[-/.月](?P<d>\d{1,2})日?"
        r"(?:[T ]?\s*(?P<h>\d{1,2}):(?P<min>\d{2})(?::(?P<s>\d{2}))?)?"
    ),
    re.compile(
        r"(?P<d>\d{1,2})\.(?P<m>\d{1,2})\.(?P<y>\d{4})"
        r"(?:[T ]\s*(?P<h>\d{1,2}):(?P<min>\d{2})(?::(?P<s>\d{2}))?)?"
    ),
)
_REST = re.compile(r"(?:[.,](?P<part>\d{1,12}))?\s*(?P<zone>Z|z|UTC|[+-]\d{2}:?\d{2})?")
_WHOLE = re.compile(r"[^.,Z+]*?\d{1,2}:\d{2}:\d{2}(?=[.,Z+-]|$)")
_TENS: list[int] = [10 ** (9 - digits) for digits in range(10)]
_EXCEL_ZERO_NS = -2_209_161_600 * NS_PER_S  # 1899-12-30


def text_ns(text: str, zone: tzinfo | None = None) -> int:
    """The instant of a text: ISO 8601, 2026/3/1 8:00, 1.3.2026 08:00, 2026年3月1日.

    Parameters
    ----------
    zone
        Where the text was written when it names no offset; None refuses such texts.

    Raises
    ------
    ValueError
        Says why the text is no instant.

    >>> text_ns("2026-03-01T08:00:00.123456789Z") % NS_PER_S
    123456789
    >>> text_ns("2026-03-01 08:00:00,5 +08:00") - text_ns("2026-03-01T00:00:00Z")
    500000000
    """
    if text[-1:] == "Z" and text[10:11] == "T" and text[19:20] in (".", "Z"):  # as machines write
        part = text[20:-1]
        if part.isdecimal() and part.isascii():
            return _utc_s(text[:19]) * NS_PER_S + int(part[:9]) * _TENS[len(part[:9])]
    text = text.strip()
    whole = _WHOLE.match(text)
    if whole is not None:
        head, tail = whole[0], text[whole.end() :]
    else:
        found = next((f for form in _FORMS if (f := form.match(text))), None)
        if found is None:
            raise ValueError("is not a time; write it as 2026-03-01T08:00:00Z")
        head, tail = text[: found.end()], text[found.end() :]
    rest = _REST.fullmatch(tail)
    if rest is None:
        raise ValueError("has a time that is not understood; write it as 2026-03-01T08:00:00Z")
    if rest["zone"] is None and zone is None:
        raise ValueError("names no time zone; write it with Z or an offset like +08:00")
    part_ns = int(rest["part"].ljust(9, "0")[:9]) if rest["part"] else 0
    if rest["zone"] is None:
        return _local_s(head, zone) * NS_PER_S + part_ns
    return (_local_s(head, UTC) - _offset_s(rest["zone"])) * NS_PER_S + part_ns


@lru_cache(maxsize=4096)
def _local_s(text: str, zone: tzinfo) -> int:
    """Seconds since the epoch of a text to the second; many samples share one."""
    for form in _FORMS:
        if found := form.fullmatch(text):
            numbers = [int(found[k] or 0) for k in ("y", "m", "d", "h", "min", "s")]
            try:
                return round(datetime(*numbers, tzinfo=zone).timestamp())  # type: ignore[misc,arg-type]
            except (ValueError, OverflowError, OSError) as error:
                raise ValueError(f"is a time that does not exist ({error})") from None
    raise ValueError("is not a time; write it as 2026-03-01T08:00:00Z")


@lru_cache(maxsize=4096)
def _utc_s(text: str) -> int:
    return _local_s(text, UTC)


def _offset_s(zone: str) -> int:
    if zone in ("Z", "z", "UTC"):
        return 0
    digits = zone[1:].replace(":", "")
    seconds = int(digits[:2]) * 3600 + int(digits[2:]) * 60
    if seconds > _MOST_OFFSET_S or int(digits[2:]) > 59:
        raise ValueError(f"has the offset {zone}, which no place has; from -14:00 to +14:00")
    return -seconds if zone[0] == "-" else seconds


def epoch_ns(number: float) -> int:
    """The instant of a number since the epoch, in ms, or in ns from 10**15 on.

    >>> epoch_ns(1_790_000_000_000) == epoch_ns(1_790_000_000_000_000_000)
    True
    """
    if abs(number) >= _NS_FROM:
        return int(number)
    return round(number * NS_PER_MS)


def guessed_ns(number: float) -> int:
    """The instant of a number in a file: Excel's days, else s, ms, us or ns by its size.

    >>> guessed_ns(46082.5) == text_ns("2026-03-01T12:00:00Z")
    True
    >>> guessed_ns(1_790_000_000) == guessed_ns(1_790_000_000_000_000)
    True
    """
    size = abs(number)
    if 20_000 <= size < 80_000:
        return _EXCEL_ZERO_NS + round(number * 86_400_000) * (NS_PER_DAY // 86_400_000)
    for most, factor in ((1e11, NS_PER_S), (1e14, NS_PER_MS), (1e17, 1000)):
        if size < most:
            return int(number) * factor if number == int(number) else round(number * factor)
    return int(number)
