"""Settings of plain MQTT sources: the broker, and which topics become which signals."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from workshop_brain.connect.choice import Override, choice_fault
from workshop_brain.model.signal import SignalKind

TIME_UNITS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1000, "ns": 1, "iso": 0}
PRESETS = ("umh",)
_KINDS = tuple(kind.name.lower() for kind in SignalKind)
_PLACE = re.compile(r"\{([^{}]*)\}")
_MOST_TOPIC = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicRow:
    """What the payloads of the topics that a filter matches mean.

    Attributes
    ----------
    topic
        MQTT topic filter; ``+`` stands for one level, ``#`` at the end for all that follow.
    preset
        ``umh`` sets path, value and time for the United Manufacturing Hub's topics.
    path
        Names below the enterprise: ``{1}`` the first topic level, ``{#}`` what ``#`` stood for,
        ``{topic}`` all levels, ``{key}`` the JSON keys of the value, ``{/a/b}`` a text in the
        payload.
    value
        JSON pointers; ``*`` at the end of one takes every number, bool, text and null below.
    each
        JSON pointer to an array whose elements are read like payloads of their own.
    time
        JSON pointer to the time of the values; "" takes the time of arrival.
    time_unit
        ``s``, ``ms``, ``us``, ``ns`` or ``iso``.
    qos
        1: acknowledged when stored, 0: fire and forget.
    """

    topic: str
    preset: str = ""
    path: str = "{topic}/{key}"
    value: tuple[str, ...] = ("*",)
    each: str = ""
    time: str = ""
    time_unit: str = "ms"
    qos: int = 1
    kind: str = ""
    unit: str = ""
    low: float = field(default=math.nan, metadata={"signed": True})
    high: float = field(default=math.nan, metadata={"signed": True})

    def fault(self) -> str:
        """Key and what is wrong with its value; "" when nothing is.

        >>> TopicRow(topic="plant/#/data").fault()
        "topic: '#' may only stand for the last level, got 'plant/#/data'"
        """
        if why := filter_fault(self.topic):
            return f"topic: {why}"
        if self.preset and self.preset not in PRESETS:
            return f"preset: no preset {self.preset!r}; known are {', '.join(PRESETS)}"
        if self.qos not in (0, 1):
            return f"qos: must be 0 or 1, got {self.qos}"
        if self.kind and self.kind not in _KINDS:
            return f"kind: no kind {self.kind!r}; known are {', '.join(_KINDS)}"
        if self.time_unit not in TIME_UNITS:
            known = ", ".join(TIME_UNITS)
            return f"time_unit: no unit {self.time_unit!r}; known are {known}"
        return self._path_fault() or self._pointer_fault() or self._range_fault()

    def _path_fault(self) -> str:
        if not all(self.path.split("/")) and "{/" not in self.path:
            return f"path: must be names with '/' between them, got {self.path!r}"
        levels = self.topic.split("/")
        for word in _PLACE.findall(self.path):
            if word in ("topic", "key") or word.startswith("/"):
                continue
            if word == "#" and levels[-1] == "#":
                continue
            if word.isdecimal() and 1 <= int(word) <= len(levels) and levels[int(word) - 1] != "#":
                continue
            return (
                f"path: {{{word}}} stands for nothing in topic {self.topic!r}; "
                "known are {topic}, {key}, {1}, {2} ... and {#} for its levels, {/pointer}"
            )
        return ""

    def _pointer_fault(self) -> str:
        if not self.value:
            return "value: is empty and would take nothing; leave it out to take all"
        for i, pointer in enumerate(self.value):
            if pointer not in ("", "*") and not pointer.startswith("/"):
                return f"value[{i}]: must be '*' or a JSON pointer like '/a/b', got {pointer!r}"
        for key in ("time", "each"):
            pointer = getattr(self, key)
            if pointer and not pointer.startswith("/"):
                return f"{key}: must be a JSON pointer like '/a/b', got {pointer!r}"
        return ""

    def _range_fault(self) -> str:
        if math.isnan(self.low) != math.isnan(self.high):
            return "low and high: give both or neither"
        if self.low >= self.high:
            return f"low: must be below high, got low = {self.low:g}, high = {self.high:g}"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttSettings:
    """One MQTT broker with payloads that are not Sparkplug.

    Attributes
    ----------
    topic
        Which topics are read, see TopicRow; of several rows that match, the first counts.
    client_id
        Name at the broker, which keeps what is not acknowledged under it; "" makes one.
    max_signals
        New signals appear as their topics do, up to this many.
    ca_file, cert_file, key_file
        For ``mqtts://``: who signed the broker's certificate ("" is the system's list), our own
        certificate and its key; names without a folder stand in ``DATA/pki``.
    verify_host
        Whether the broker's certificate must name the host of ``url``.
    include, exclude, override
        Which signals are taken and what is said of them otherwise, see ``connect.choice``.
    """

    protocol: ClassVar[str] = "mqtt"
    schemes: ClassVar[tuple[str, ...]] = ("mqtt", "mqtts")

    id: str
    url: str
    topic: tuple[TopicRow, ...] = field(default=(), metadata={"rows": TopicRow})
    client_id: str = ""
    max_signals: int = 20_000
    user: str = ""
    password_env: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    verify_host: bool = True
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    override: tuple[Override, ...] = field(default=(), metadata={"rows": Override})

    def fault(self) -> str:
        """Key and what is wrong with its value; "" when nothing is.

        >>> MqttSettings(id="press", url="mqtt://broker").fault()
        'topic: is missing and nothing would be read; add a [[source.topic]] row'
        """
        if not self.topic:
            return "topic: is missing and nothing would be read; add a [[source.topic]] row"
        for i, row in enumerate(self.topic):
            if why := row.fault():
                return f"topic[{i}].{why}"
        if self.max_signals < 1:
            return f"max_signals: must be at least 1, got {self.max_signals}"
        if why := tls_fault(self.url, self.ca_file, self.cert_file, self.key_file):
            return why
        return choice_fault(self.include, self.exclude, self.override)


def tls_fault(url: str, ca_file: str, cert_file: str, key_file: str) -> str:
    """Key and what is wrong with the files of a secure connection; "" when nothing is.

    >>> tls_fault("mqtt://broker", "ca.pem", "", "")
    "ca_file: needs a url with mqtts://, got 'mqtt://broker'"
    """
    files = {"ca_file": ca_file, "cert_file": cert_file, "key_file": key_file}
    for key, name in files.items():
        if name and not url.startswith("mqtts://"):
            return f"{key}: needs a url with mqtts://, got {url!r}"
    if bool(cert_file) != bool(key_file):
        return "cert_file and key_file: give both or neither"
    return ""


def filter_fault(topic: str) -> str:
    """What is wrong with an MQTT topic filter; "" when nothing is."""
    levels = topic.split("/")
    if not topic or "\0" in topic or len(topic) > _MOST_TOPIC:
        return f"must be a topic filter of 1 to {_MOST_TOPIC} characters, got {topic[:80]!r}"
    if any("#" in level for level in levels[:-1]):
        return f"'#' may only stand for the last level, got {topic!r}"
    if any(("+" in level or "#" in level) and len(level) > 1 for level in levels):
        return f"'+' and '#' must stand for a whole level, got {topic!r}"
    return ""


def covers(wide: Sequence[str], narrow: Sequence[str]) -> bool:
    """Whether a filter matches all that another one matches (both as levels).

    >>> covers(["a", "#"], ["a", "+", "c"]), covers(["a", "+"], ["a", "#"])
    (True, False)
    """
    for i, level in enumerate(wide):
        if level == "#":
            return True
        if i >= len(narrow) or narrow[i] == "#" or level not in ("+", narrow[i]):
            return False
    return len(wide) == len(narrow)
