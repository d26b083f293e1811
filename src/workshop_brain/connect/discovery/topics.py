"""What the topics of a broker carry, and the mapping rows that are proposed for them. Pure."""

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import orjson

_TIME_KEYS = ("timestamp_ms", "timestamp", "time", "ts", "t", "datetime", "date_time")
_TIME_UNITS = ((1e9, 1e10, "s"), (1e12, 1e13, "ms"), (1e15, 1e16, "us"), (1e18, 1e19, "ns"))
_ISO = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}")
MOST_TOPICS = 50_000


@dataclass(slots=True)
class Topic:
    """One topic: messages by form (``json``, ``value``, ``text``, ``binary``), and its times."""

    forms: Counter[str] = field(default_factory=Counter)
    times: Counter[tuple[str, str]] = field(default_factory=Counter)
    last: str = ""

    @property
    def messages(self) -> int:
        """How many came."""
        return sum(self.forms.values())


@dataclass(slots=True, eq=False)
class Tally:
    """Counts messages of all topics but Sparkplug's.

    Attributes
    ----------
    dropped
        Messages of topics beyond MOST_TOPICS.
    """

    topics: dict[str, Topic] = field(default_factory=dict)
    dropped: int = 0

    def take(self, topic: str, payload: bytes) -> None:
        """Count one message."""
        known = self.topics.get(topic)
        if known is None:
            if len(self.topics) >= MOST_TOPICS:
                self.dropped += 1
                return
            known = self.topics[topic] = Topic()
        form, document = read(payload)
        known.forms[form] += 1
        known.last = payload[:60].decode("utf-8", "replace") if form != "binary" else "…"
        if isinstance(document, dict) and (found := time_of(document)):
            known.times[found] += 1

    def rows(self) -> list[dict[str, Any]]:
        """``[[source.topic]]`` rows: one for each first level whose payloads can be read."""
        groups: dict[str, list[Topic]] = {}
        for name, topic in self.topics.items():
            if topic.forms.keys() - {"binary"} and not name.startswith("$"):
                groups.setdefault(_group(name), []).append(topic)
        return [_row(group, topics) for group, topics in sorted(groups.items())]

    def forms(self) -> Counter[str]:
        """Topics by the form that most of their messages have."""
        return Counter(t.forms.most_common(1)[0][0] for t in self.topics.values())


def read(payload: bytes) -> tuple[str, Any]:
    """Form of a payload, and the document of one that is JSON.

    >>> read(b'{"a": 1}'), read(b"21.5"), read(b"running"), read(bytes([0, 255]))
    (('json', {'a': 1}), ('value', 21.5), ('text', None), ('binary', None))
    """
    try:
        document = orjson.loads(payload)
    except orjson.JSONDecodeError:
        try:
            payload.decode("utf-8")
        except UnicodeDecodeError:
            return "binary", None
        return ("binary" if b"\0" in payload else "text"), None
    return ("json" if isinstance(document, (dict, list)) else "value"), document


def time_of(document: dict[str, Any]) -> tuple[str, str] | None:
    """(key, unit) of the time in a JSON object; None when there is none that is plausible.

    >>> time_of({"v": 3, "timestamp": 1780000000000}), time_of({"time": 5})
    (('timestamp', 'ms'), None)
    """
    by_name = {key.lower(): key for key in document}
    for word in _TIME_KEYS:
        if (key := by_name.get(word)) is None:
            continue
        value = document[key]
        if isinstance(value, str) and _ISO.match(value):
            return key, "iso"
        if isinstance(value, (int, float)):
            for low, high, unit in _TIME_UNITS:
                if low <= value < high:
                    return key, unit
    return None


def _group(topic: str) -> str:
    """Topics that one row reads: those of one first level, ``umh/v1`` by itself."""
    return "umh/v1" if topic.startswith("umh/v1/") else topic.partition("/")[0]


def _row(group: str, topics: list[Topic]) -> dict[str, Any]:
    if group == "umh/v1":
        return {"topic": "umh/v1/#", "preset": "umh"}
    row: dict[str, Any] = {"topic": f"{group}/#"}
    documents = sum(topic.forms["json"] for topic in topics)
    times = sum((topic.times for topic in topics), Counter[tuple[str, str]]())
    plain = sum(topic.forms["value"] + topic.forms["text"] for topic in topics)
    if times and not plain:
        (key, unit), count = times.most_common(1)[0]
        if 2 * count > documents:
            row["time"] = "/" + key.replace("~", "~0").replace("/", "~1")
            row["time_unit"] = unit
    return row
