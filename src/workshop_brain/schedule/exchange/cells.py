"""Cells as people write them: names, numbers, durations with units, dates with and without zone."""

import re
import unicodedata
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta, tzinfo
from typing import Any

UNITS = {
    "s": 1, "sec": 1, "second": 1, "seconds": 1, "秒": 1, "秒钟": 1,
    "m": 60, "min": 60, "mins": 60, "minute": 60, "minutes": 60, "分": 60, "分钟": 60,
    "h": 3600, "hr": 3600, "hrs": 3600, "hour": 3600, "hours": 3600, "时": 3600, "小时": 3600,
    "d": 86_400, "day": 86_400, "days": 86_400, "天": 86_400,
}  # fmt: skip
"""Seconds of each unit of time."""
_UNIT = "|".join(sorted(UNITS, key=len, reverse=True))
_BRACKETS = re.compile(r"[\(（\[【](.*?)[\)）\]】]")
_LAST_WORD = re.compile(rf"(?:^|[\s_/]|(?<=[\u4e00-\u9fff]))({_UNIT})$")
_WITH_UNIT = re.compile(rf"([+-]?[\d.,]+)\s*({_UNIT})\.?", re.I)
_ISO_SPAN = re.compile(
    r"P(?:(?P<d>\d+(?:\.\d+)?)D)?(?:T(?:(?P<h>\d+(?:\.\d+)?)H)?(?:(?P<m>\d+(?:\.\d+)?)M)?"
    r"(?:(?P<s>\d+(?:\.\d+)?)S)?)?"
)
_DATES = (
    re.compile(r"(?P<y>\d{4})[-/.](?P<m>\d{1,2})[-/.](?P<d>\d{1,2})"),
    re.compile(r"(?P<y>\d{4})年(?P<m>\d{1,2})月(?P<d>\d{1,2})[日号]"),
    re.compile(r"(?P<y>\d{4})(?P<m>\d{2})(?P<d>\d{2})(?!\d)"),
    re.compile(r"(?P<d>\d{1,2})\.(?P<m>\d{1,2})\.(?P<y>\d{4})"),
)
_CLOCK = re.compile(
    r"[T\s]*(?P<half>上午|下午)?\s*(?P<h>\d{1,2})(?:[:时点](?P<min>\d{1,2}))?"
    r"(?:[:分](?P<s>\d{1,2})(?:\.\d+)?秒?)?分?时?\s*(?P<ap>[AaPp][Mm])?\s*"
    r"(?P<zone>Z|UTC|[+-]\d{2}:?\d{2})?"
)
_EXCEL_EPOCH = datetime.fromisoformat("1899-12-30")
_YES = {"yes", "y", "true", "1", "x", "是", "可", "√", "有"}
_NO = {"no", "n", "false", "0", "", "否", "不可", "无"}
_PRIORITIES = {
    "normal": 1, "low": 1, "medium": 3, "high": 6, "urgent": 9, "rush": 9,
    "普通": 1, "正常": 1, "一般": 1, "低": 1, "中": 3, "高": 6, "紧急": 9, "加急": 9, "特急": 9,
}  # fmt: skip
MOST_NAME = 120
_DAYS = {
    word: day
    for day, words in enumerate(
        (
            ("mon", "monday", "1", "周一", "星期一", "一"),
            ("tue", "tuesday", "2", "周二", "星期二", "二"),
            ("wed", "wednesday", "3", "周三", "星期三", "三"),
            ("thu", "thursday", "4", "周四", "星期四", "四"),
            ("fri", "friday", "5", "周五", "星期五", "五"),
            ("sat", "saturday", "6", "周六", "星期六", "六"),
            ("sun", "sunday", "7", "周日", "星期日", "星期天", "周天", "日"),
        )
    )
    for word in words
}
"""Days of the week, 0 = Monday."""
_ALL_DAYS = {
    "daily": range(7), "every day": range(7), "all": range(7), "*": range(7), "每天": range(7),
    "weekdays": range(5), "workdays": range(5), "工作日": range(5),
    "weekend": range(5, 7), "周末": range(5, 7),
}  # fmt: skip
_AMOUNT = re.compile(r"(.*\S)\s*[*×]\s*(\d{1,6})")


class CellError(ValueError):
    """What is wrong with one cell; the message says the way out."""


def text_of(cell: Any) -> str:
    """Text of a cell: full-width characters made plain, whole numbers without '.0'.

    >>> text_of(12.0), text_of("Ａ１ "), text_of(None)
    ('12', 'A1', '')
    """
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1e15:
        cell = int(cell)
    if isinstance(cell, datetime):
        return cell.isoformat(" ")
    if isinstance(cell, (date, time)):
        return cell.isoformat()
    text = unicodedata.normalize("NFKC", str(cell)).strip()
    return text[1:] if is_shielded(text) else text


def is_shielded(text: str) -> bool:
    """Whether an apostrophe stands before what a spreadsheet would take for a formula."""
    return len(text) > 1 and text[0] == "'" and text[1] in "=+-@\t\r"


def shielded(text: str) -> str:
    """Text that no spreadsheet takes for a formula; ``text_of`` takes the apostrophe off.

    >>> shielded("=1+1"), shielded("A-1"), shielded("＝1")
    ("'=1+1", 'A-1', "'＝1")
    """
    start = unicodedata.normalize("NFKC", text).lstrip(" \n")[:1]
    return f"'{text}" if start and start in "=+-@\t\r" else text


def header_key(text: str) -> str:
    """Header without case, brackets and separators.

    >>> header_key("Due_Date *"), header_key("工时（分钟）")
    ('due date', '工时')
    """
    plain = _BRACKETS.sub("", unicodedata.normalize("NFKC", text)).casefold()
    return re.sub(r"[\s_\-*:.#]+", " ", plain).strip()


def header_unit(text: str) -> tuple[str, int]:
    """Key of a header without its unit of time, and seconds of that unit (0 = it names none).

    >>> header_unit("time (min)"), header_unit("setup_h"), header_unit("工时/分钟")
    (('time', 60), ('setup', 3600), ('工时', 60))
    >>> header_unit("m")
    ('m', 0)
    """
    plain = unicodedata.normalize("NFKC", text).casefold().strip()
    for found in _BRACKETS.findall(plain):
        if found.strip(" .") in UNITS:
            return header_key(text), UNITS[found.strip(" .")]
    last = _LAST_WORD.search(plain)
    if last and last.start() > 0:
        return header_key(plain[: last.start()]), UNITS[last[1]]
    return header_key(text), 0


def name_of(cell: Any) -> str:
    """A name: neither empty nor too long nor with characters that cannot be printed."""
    text = text_of(cell)
    if not text:
        raise CellError("is empty; fill it in or remove the row")
    if len(text) > MOST_NAME:
        raise CellError(f"is longer than {MOST_NAME} characters; shorten it")
    if not text.isprintable():
        raise CellError("has a character that cannot be printed; leave it out")
    return text


def names_of(cell: Any) -> list[str]:
    """Names separated by semicolon, comma, 、 or line end."""
    parts = [part.strip() for part in re.split(r"[;,、|\n]+", text_of(cell))]
    return [name_of(part) for part in parts if part]


def amounts_of(cell: Any) -> dict[str, int]:
    """Names with how many of each: ``A; B*2``.

    >>> amounts_of("jig; clamp * 2"), amounts_of("夹具×3")
    ({'jig': 1, 'clamp': 2}, {'夹具': 3})
    """
    out: dict[str, int] = {}
    for part in names_of(cell):
        found = _AMOUNT.fullmatch(part)
        name, quantity = (found[1], int(found[2])) if found else (part, 1)
        if not quantity:
            raise CellError(f"needs 0 of {name!r}; write 1 or more")
        out[name] = max(out.get(name, 0), quantity)
    return out


def days_of(cell: Any) -> tuple[int, ...]:
    """Days of the week, 0 = Monday: single ones, lists and ranges.

    >>> days_of("Mon-Fri"), days_of("周六、周日"), days_of("1-3"), days_of("Sat-Mon")
    ((0, 1, 2, 3, 4), (5, 6), (0, 1, 2), (0, 5, 6))
    """
    out: set[int] = set()
    for part in re.split(r"[;,、|\n]+", text_of(cell).casefold()):
        word = part.strip()
        if word in _ALL_DAYS:
            out.update(_ALL_DAYS[word])
            continue
        ends = [_DAYS.get(end.strip(". ")) for end in re.split(r"[-–~到至]", word)]
        if len(ends) > 2 or None in ends:
            raise CellError("is no day of the week; write Mon-Fri or 周一至周五")
        first, last = int(ends[0] or 0), int(ends[-1] or 0)
        out.update((first + k) % 7 for k in range((last - first) % 7 + 1))
    return tuple(sorted(out))


def clock_of(cell: Any) -> int:
    """A time of day, seconds after midnight; 24:00 is the end of the day.

    >>> clock_of("6:30"), clock_of("22点"), clock_of("24:00")
    (23400, 79200, 86400)
    """
    if isinstance(cell, datetime):
        cell = cell.time()
    if isinstance(cell, time):
        return cell.hour * 3600 + cell.minute * 60 + cell.second
    if isinstance(cell, float) and 0 <= cell <= 1:  # as Excel stores it
        return round(cell * 86_400)
    found = re.fullmatch(r"(\d{1,2})(?:[:时点](\d{2})?)(?::(\d{2}))?分?", text_of(cell))
    seconds = (
        sum(int(found[k + 1] or 0) * per for k, per in enumerate((3600, 60, 1))) if found else -1
    )
    if found is None or not 0 <= seconds <= 86_400 or int(found[2] or 0) > 59:
        raise CellError("is no time of day; write it as HH:MM")
    return seconds


def number_of(cell: Any) -> float:
    """A finite number; decimal comma and thousands' separators are understood."""
    text = name_of(cell)
    if isinstance(cell, (bool, date, time)):
        raise CellError("is not a number")
    if re.fullmatch(r"[+-]?\d{1,3}(?:[,' ]\d{3})+(?:\.\d+)?", text):
        text = re.sub(r"[,' ]", "", text)
    elif re.fullmatch(r"[+-]?\d+,\d{1,2}", text):
        text = text.replace(",", ".")
    if not re.fullmatch(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d{1,2})?", text, re.I):
        raise CellError("is not a number; write digits, for example 12.5")
    return float(text)


def whole_of(cell: Any, low: int, high: int) -> int:
    """A whole number within bounds."""
    number = number_of(cell)
    if not number.is_integer() or not low <= number <= high:
        raise CellError(f"must be a whole number from {low} to {high}")
    return int(number)


def weight_of(cell: Any) -> int:
    """Weight of an order: a whole number of 0 or more, or a word such as urgent or 紧急."""
    word = text_of(cell).casefold()
    return _PRIORITIES[word] if word in _PRIORITIES else whole_of(cell, 0, 1_000_000)


def yes_of(cell: Any) -> bool:
    """Yes or no, in English or Chinese."""
    word = text_of(cell).casefold()
    if word not in _YES | _NO:
        raise CellError("is neither yes nor no; write yes or no (是, 否)")
    return word in _YES


def span_of(cell: Any, unit: int) -> float:
    """A duration in seconds, >= 0; ``unit`` is what the header says, 0 = nothing.

    >>> span_of("1.5", 60), span_of("2 h", 60), span_of("PT1H30M", 0)
    (90.0, 7200.0, 5400.0)
    """
    if isinstance(cell, timedelta):
        seconds = cell.total_seconds()
    elif isinstance(cell, time):
        seconds = float(cell.hour * 3600 + cell.minute * 60 + cell.second)
    elif found := _WITH_UNIT.fullmatch(text_of(cell)):
        seconds = number_of(found[1]) * UNITS[found[2].casefold()]
    elif (span := _ISO_SPAN.fullmatch(text_of(cell))) and any(span.groups()):
        parts = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
        seconds = sum(float(span[k] or 0) * per for k, per in parts.items())
    elif re.fullmatch(r"\d{1,3}:\d{2}:\d{2}", text_of(cell)):
        hours, minutes, rest = (int(part) for part in text_of(cell).split(":"))
        seconds = float(hours * 3600 + minutes * 60 + rest)
    else:
        number = number_of(cell)
        if not unit:
            raise CellError("has no unit of time; say it in the header, for example time (min)")
        seconds = number * unit
    if seconds < 0:
        raise CellError("is negative; a duration is 0 or more")
    if seconds > 10**9:
        raise CellError("is longer than 30 years; check the unit in the header")
    return seconds


def moment_of(cell: Any, zone: tzinfo) -> tuple[datetime, bool]:
    """Moment of a cell with its zone, and whether the cell has a time of day."""
    moment, has_time = _moment(cell)
    return (moment if moment.tzinfo else moment.replace(tzinfo=zone)), has_time


def _moment(cell: Any) -> tuple[datetime, bool]:
    if isinstance(cell, datetime):
        whole = cell.replace(microsecond=0) + timedelta(seconds=cell.microsecond >= 500_000)
        return _in_range(whole), whole.time() != time()
    if isinstance(cell, date):
        return _in_range(datetime.combine(cell, time())), False
    if isinstance(cell, (int, float)) and not isinstance(cell, bool) and 20_000 <= cell < 80_000:
        moment = _EXCEL_EPOCH + timedelta(seconds=round(float(cell) * 86_400))
        return _in_range(moment), float(cell) != int(cell)
    text = name_of(cell)
    for pattern in _DATES:
        if found := pattern.match(text):
            return _with_clock(int(found["y"]), int(found["m"]), int(found["d"]), found, text)
    if found := re.match(r"(\d{1,2})[/-](\d{1,2})[/-](\d{4})", text):
        a, b = int(found[1]), int(found[2])
        if a <= 12 and b <= 12 and a != b:
            raise CellError("can mean two dates; write it as YYYY-MM-DD")
        return _with_clock(int(found[3]), min(a, b), max(a, b), found, text)
    raise CellError("is not a date; write it as YYYY-MM-DD or YYYY-MM-DD HH:MM")


def _with_clock(
    year: int, month: int, day: int, found: re.Match[str], text: str
) -> tuple[datetime, bool]:
    try:
        moment = datetime.combine(date(year, month, day), time())
    except ValueError:
        raise CellError("is a date that does not exist; write it as YYYY-MM-DD") from None
    rest = text[found.end() :]
    if not rest:
        return _in_range(moment), False
    clock = _CLOCK.fullmatch(rest)
    if clock is None:
        raise CellError("has a time that is not understood; write it as YYYY-MM-DD HH:MM")
    hour, minute, second = (int(clock[k] or 0) for k in ("h", "min", "s"))
    half = (clock["ap"] or "").casefold()
    if (clock["half"] == "下午" or half == "pm") and hour < 12:
        hour += 12
    elif half == "am" and hour == 12:
        hour = 0
    if hour > 24 or minute > 59 or second > 59 or (hour == 24 and (minute or second)):
        raise CellError("has a time that does not exist; write it as YYYY-MM-DD HH:MM")
    moment += timedelta(hours=hour, minutes=minute, seconds=second)
    shift = clock["zone"]
    if shift:
        shift = "+00:00" if shift in ("Z", "UTC") else shift
        try:
            moment = datetime.fromisoformat(moment.isoformat() + shift)
        except ValueError:
            raise CellError("has a time zone that does not exist; write it as +08:00") from None
    return _in_range(moment), True


def _in_range(moment: datetime) -> datetime:
    if not 1970 <= moment.year < 2200:
        raise CellError("has a year that cannot be meant; write it as YYYY-MM-DD")
    return moment


def is_blank(row: Sequence[Any]) -> bool:
    """Whether nothing stands in a row."""
    return all(text_of(cell) == "" for cell in row)
