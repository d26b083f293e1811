"""From topics and JSON payloads to sample columns, as the rows of the plant file say.

No I/O here: payloads come in by ``take``, columns go out by ``drain``; signals and texts get their
numbers from the two functions given. Time is an argument.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import orjson

from workshop_brain.connect import packml, tags
from workshop_brain.connect.choice import Choice
from workshop_brain.connect.mqtt.settings import TIME_UNITS, TopicRow, covers
from workshop_brain.connect.stamps import FIRST_NS, LAST_NS, text_ns
from workshop_brain.model.signal import Quality, Samples, SignalDef, SignalKind

MOST_TEXT = 4096
MOST_VALUES = 20_000
"""Values of one payload; what is beyond is counted and left out."""
_MOST_DEPTH = 32
_MOST_ROUTES = 200_000
_EXACT = 1 << 53
_GOOD, _UNCERTAIN, _BAD = int(Quality.GOOD), int(Quality.UNCERTAIN), int(Quality.BAD)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_NOTHING = frozenset({"", "nan", "null", "none", "inf", "-inf", "infinity", "-infinity"})
_PLACE = re.compile(r"\{([^{}]*)\}")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_LEFT_OUT = -1
_NUMERIC = frozenset({float, int, bool})

Keys = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """Why something of a payload is not taken as it stands.

    Attributes
    ----------
    cause
        One of few words that stay the same, for counting.
    says
        What is wrong, for a person.
    """

    cause: str
    topic: str
    says: str
    excerpt: str


@dataclass(slots=True)
class _Rule:
    """One row, taken apart once."""

    row: TopicRow
    levels: list[str]
    values: list[tuple[Keys, bool]]
    """(keys of the pointer, whether all below it are meant)."""
    each: Keys
    time: Keys
    has_time: bool
    factor: int
    payload_names: list[Keys]
    """Pointers to texts of the payload that the path names."""

    @property
    def takes_all(self) -> bool:
        """Whether every value of a document is wanted, under a path that asks nothing of it."""
        return self.values == [((), True)] and not self.payload_names


@dataclass(slots=True)
class _Shape:
    """What the documents of one topic look like, for those that look like the last one.

    Attributes
    ----------
    keys
        The document's own, in their order.
    local
        Ids of the signals of all keys but the time's; empty when this shape is read leaf by leaf.
    time_at
        Position of the time's key, -1 for none.
    known
        How many signals the topic had when this was found out.
    """

    keys: Keys
    local: list[int]
    time_at: int
    known: int


@dataclass(slots=True)
class _Route:
    """One topic under its rule, and the local ids of the signals seen on it."""

    rule: _Rule
    topic: str
    levels: list[str]
    locals: dict[Any, int] = field(default_factory=dict)
    shape: _Shape | None = None


@dataclass(slots=True, eq=False)
class Mapping:
    """Reads payloads into columns.

    Parameters
    ----------
    declare
        Gives the first local id of new signals.
    text
        Gives the code of a text.
    max_signals
        New signals beyond this many are left out, counted and named once.
    keep
        Is told (cause, topic, what is wrong, payload) of each payload once per cause.
    """

    source: str
    choice: Choice
    rows: Sequence[TopicRow]
    declare: Callable[[Sequence[SignalDef]], int]
    text: Callable[[str], int]
    max_signals: int = 20_000
    keep: Callable[[str, str, str, bytes], None] = lambda cause, topic, says, payload: None
    rejected: int = 0
    signals: dict[str, int] = field(default_factory=dict)
    """Path to local id."""
    _rules: list[_Rule] = field(default_factory=list)
    _routes: dict[str, _Route | None] = field(default_factory=dict)
    _texts: set[int] = field(default_factory=set)
    _states: set[int] = field(default_factory=set)
    _faults: dict[str, Fault] = field(default_factory=dict)
    _signal: list[int] = field(default_factory=list)
    _time: list[int] = field(default_factory=list)
    _value: list[float] = field(default_factory=list)
    _quality: list[int] = field(default_factory=list)
    _left: int = 0
    _has_arrival: bool = False
    _payload: bytes = b""
    _noted: set[str] = field(default_factory=set)
    """What is wrong with the present payload."""
    _gap: set[int] = field(default_factory=set)
    arrived_ns: int = 0
    """The last arrival time that was given to a value."""

    def __post_init__(self) -> None:
        self._rules = [_rule(_preset(row)) for row in self.rows]

    def take(self, topic: str, payload: bytes, arrival_ns: int, *, retained: bool = False) -> bool:
        """Read one payload; whether a value of it got its time from the arrival.

        A retained payload without a time of its own is of unknown age: its values are uncertain.
        What is malformed is counted and noted, never raised.
        """
        self._payload = payload
        self._noted.clear()
        route = self._routes.get(topic)
        if route is None:
            route = self._route(topic)
            if route is None:
                return False
        self._has_arrival = False
        self._left = MOST_VALUES
        try:
            document = orjson.loads(payload)
        except orjson.JSONDecodeError as error:
            read = _plain(payload)
            if isinstance(read, str) or read is None or isinstance(read, float):
                document = read
            else:
                self._reject("not_json", topic, read.says or f"is not JSON: {error}")
                return False
        grade = _UNCERTAIN if retained else _GOOD
        if type(document) is dict or type(document) is list:
            self._document(route, document, arrival_ns, grade)
        else:
            self._scalar(route, document, arrival_ns, grade)
        return self._has_arrival

    def drain(self) -> Samples:
        """All values read since the last time, as columns."""
        signal = np.array(self._signal, np.uint32)
        value = np.array(self._value, np.float64)
        quality = np.array(self._quality, np.uint8)
        samples = Samples(signal, np.array(self._time, np.int64), value, quality)
        if self._states and len(signal):
            state = np.isin(signal, np.fromiter(self._states, np.uint32))
            if state.any():
                value[state], listed = packml.unit_states(value[state])
                quality[state] |= np.where(listed, 0, _BAD).astype(np.uint8)
        if self._gap:
            self._mark(samples)
        self._signal, self._time, self._value, self._quality = [], [], [], []
        return samples

    def faults(self) -> list[Fault]:
        """The first fault of every cause since the last time."""
        out, self._faults = list(self._faults.values()), {}
        return out

    def after_gap(self) -> None:
        """Before the next value of every signal there may be a hole."""
        self._gap = set(self.signals.values())

    def _mark(self, samples: Samples) -> None:
        ids, first = np.unique(samples.signal, return_index=True)
        hit = np.isin(ids, np.fromiter(self._gap, np.uint32))
        samples.quality[first[hit]] |= np.uint8(Quality.GAP_BEFORE)
        self._gap.difference_update(ids[hit].tolist())

    # --- documents and leaves ---

    def _document(self, route: _Route, document: Any, arrival_ns: int, grade: int) -> None:
        rule = route.rule
        if rule.each:
            document = _at(document, rule.each)
            if type(document) is not list:
                self._reject("no_array", route.topic, f"has no array at {rule.row.each!r}")
                return
        if type(document) is list and (rule.each or (document and type(document[0]) is dict)):
            for n, element in enumerate(document):
                # Elements without a time of their own arrived one behind the other.
                self._values(route, element, arrival_ns + n, grade)
            return
        self._values(route, document, arrival_ns, grade)

    def _scalar(self, route: _Route, value: Any, arrival_ns: int, grade: int) -> None:
        rule = route.rule
        if rule.has_time:
            self._note("no_time", route.topic, f"has no time at {rule.row.time!r}")
            grade = _UNCERTAIN
        if any(not keys for keys, _ in rule.values):
            self._has_arrival = True
            self._leaf(route, (), (), value, arrival_ns, grade)
        else:
            self._reject("no_value", route.topic, "is one value; set value = ['*'] to take it")

    def _values(self, route: _Route, document: Any, arrival_ns: int, grade: int) -> None:
        rule = route.rule
        if rule.has_time:
            time_ns = self._instant(route, document)
            if time_ns is None:
                self._has_arrival, time_ns, grade = True, arrival_ns, _UNCERTAIN
            else:
                grade = _GOOD
        else:
            self._has_arrival, time_ns = True, arrival_ns
        if (
            rule.takes_all and type(document) is dict
            and self._flat(route, document, time_ns, grade)
        ):  # fmt: skip
            return
        names = tuple(_name(_at(document, p)) for p in rule.payload_names)
        found = False
        for keys, is_all in rule.values:
            here = _at(document, keys)
            if here is _MISSING:
                continue
            found = True
            if not is_all:
                self._leaf(route, names, keys, here, time_ns, grade)
                continue
            for below, value in _leaves(here, keys, rule.time, 0):
                self._leaf(route, names, below, value, time_ns, grade)
        if not found:
            wanted = ", ".join("/" + "/".join(keys) for keys, _ in rule.values)
            self._reject("no_value", route.topic, f"has nothing at {wanted}")

    def _flat(self, route: _Route, document: dict[str, Any], time_ns: int, grade: int) -> bool:
        """Read a document of plain numbers that looks like the last one of its topic, as columns;
        False when it is none."""
        keys, shape = tuple(document), route.shape
        if shape is None or shape.keys != keys or shape.known != len(route.locals):
            shape = route.shape = self._shape(route, keys)
        if not shape.local:
            return False
        values = list(document.values())
        if shape.time_at >= 0:
            del values[shape.time_at]
        n = len(values)
        if n > self._left or not _NUMERIC.issuperset(map(type, values)):
            return False
        column = np.abs(np.array(values, np.float64))
        if not column.max() < _EXACT:  # also what is not finite
            return False
        self._left -= n
        self._signal += shape.local
        self._time += [time_ns] * n
        self._value += values
        self._quality += [grade] * n
        if self._has_arrival and time_ns > self.arrived_ns:
            self.arrived_ns = time_ns
        return True

    def _shape(self, route: _Route, keys: Keys) -> _Shape:
        time = route.rule.time
        time_at = keys.index(time[0]) if len(time) == 1 and time[0] in keys else -1
        wanted = [route.locals.get(((), (key,))) for at, key in enumerate(keys) if at != time_at]
        local = [id for id in wanted if id is not None and id != _LEFT_OUT]
        if len(local) < len(wanted) or not self._texts.isdisjoint(local):
            local = []
        return _Shape(keys, local, time_at, len(route.locals))

    def _leaf(
        self, route: _Route, names: Keys, keys: Keys, value: Any, time_ns: int, grade: int
    ) -> None:
        """One value under its signal; what is no scalar is counted."""
        self._left -= 1
        if self._left < 0:
            self._reject("too_many_values", route.topic, f"has more than {MOST_VALUES} values")
            return
        local = route.locals.get((names, keys))
        if local is None:
            local = self._local(route, names, keys, value)
            if local is None:
                return
        if local == _LEFT_OUT:
            return
        kind = type(value)
        if kind is float and local not in self._texts:
            number = value
            if not math.isfinite(value):
                number, grade = math.nan, _BAD
        elif local in self._texts:
            number = self._text_code(route, value)
            grade = _BAD if number != number else grade
        elif kind is int or kind is bool:
            number = float(value)
            if not -_EXACT <= value <= _EXACT:
                grade |= _UNCERTAIN
        else:
            number = self._number(route, keys, value)
            grade = _BAD if number != number else grade
        if time_ns > self.arrived_ns and self._has_arrival:
            self.arrived_ns = time_ns
        self._signal.append(local)
        self._time.append(time_ns)
        self._value.append(number)
        self._quality.append(grade)

    def _text_code(self, route: _Route, value: Any) -> float:
        if value is None:
            return math.nan
        if not isinstance(value, (str, int, float)):
            self._reject("no_scalar", route.topic, f"has {_word(value)} where a text was")
            return math.nan
        text = value if isinstance(value, str) else orjson.dumps(value).decode()
        if len(text) > MOST_TEXT:
            self._reject("long_text", route.topic, f"has a text of {len(text)} characters")
            return math.nan
        return float(self.text(text))

    def _number(self, route: _Route, keys: Keys, value: Any) -> float:
        """What stands where a number is due: null, a number in quotes, or a fault."""
        if value is None:
            return math.nan
        if isinstance(value, str):
            if _NUMBER.fullmatch(value.strip()):
                number = float(value)
                return number if math.isfinite(number) else math.nan
            if value.strip().lower() in _NOTHING:
                return math.nan
        at = "/".join(keys) or "its value"
        self._reject("no_number", route.topic, f"has {_word(value)} at {at}, where numbers were")
        return math.nan

    def _instant(self, route: _Route, document: Any) -> int | None:
        """The time in a document; None, noted, when there is none that can be meant."""
        given, rule = _at(document, rule_time := route.rule.time), route.rule
        at = "/" + "/".join(rule_time)
        try:
            if isinstance(given, str):
                time_ns = text_ns(given)
            elif isinstance(given, bool) or not isinstance(given, (int, float)) or not rule.factor:
                raise ValueError("is missing" if given is _MISSING else "is not a time")
            elif isinstance(given, int):
                time_ns = given * rule.factor
            else:
                time_ns = round(given * rule.factor)
            if not FIRST_NS <= time_ns < LAST_NS:
                raise ValueError("is not between the years 2000 and 2100")
        except (ValueError, OverflowError) as error:
            shown = "" if given is _MISSING else f" {str(given)[:40]!r}"
            self._note("no_time", route.topic, f"time{shown} at {at} {error}; arrival is taken")
            return None
        return time_ns

    # --- topics and signals ---

    def _route(self, topic: str) -> _Route | None:
        if topic in self._routes:
            return None
        levels = topic.split("/")
        rule = next((r for r in self._rules if covers(r.levels, levels)), None)
        if rule is not None and rule.row.preset == "umh" and _umh(levels) is None:
            rule = None
        if len(self._routes) >= _MOST_ROUTES:
            self._routes.clear()
        route = None if rule is None else _Route(rule, topic, levels)
        self._routes[topic] = route
        if route is None:
            self._note("no_row", topic, "is read by no [[source.topic]] row; it is left out")
        return route

    def _local(self, route: _Route, names: Keys, keys: Keys, value: Any) -> int | None:
        """Local id of a signal seen for the first time; None when there is nothing to keep."""
        row = route.rule.row
        if value is None and not row.kind:
            return None  # what it is will be known with its first value
        if not (value is None or isinstance(value, (str, int, float))):
            self._reject("no_scalar", route.topic, f"has {_word(value)} at {'/'.join(keys)}")
            return None
        signal = self._shaped(route, names, keys, value)
        if signal is None:
            local = _LEFT_OUT
        elif signal.path in self.signals:
            local = self.signals[signal.path]
        else:
            if len(self.signals) >= self.max_signals:
                self._reject(
                    "max_signals", route.topic,
                    f"would add {signal.path} beyond max_signals = {self.max_signals}; "
                    "raise it, or leave topics out with exclude",
                )  # fmt: skip
                return None
            local = self.signals[signal.path] = self.declare([signal])
            if signal.kind is SignalKind.TEXT:
                self._texts.add(local)
            if signal.name == tags.STATE_CURRENT and signal.kind is not SignalKind.TEXT:
                self._states.add(local)
        route.locals[names, keys] = local
        return local

    def _shaped(self, route: _Route, names: Keys, keys: Keys, value: Any) -> SignalDef | None:
        row = route.rule.row
        path = tags.signal_path(self.choice.enterprise, _parts(route, names, keys))
        name = path.rsplit("/", 1)[1]
        kind = _kind(row, name, value)
        low, high = (0.0, 0.0) if math.isnan(row.low) else (row.low, row.high)
        low, high = tags.range_of(name, kind, low, high)
        browse = "/".join((route.topic, *keys))
        signal = SignalDef(
            path=path, kind=kind, unit=row.unit, low=low, high=high,
            source=self.source, address=browse[:400],
        )  # fmt: skip
        return self.choice.shaped(signal, browse)

    # --- faults ---

    def _reject(self, cause: str, topic: str, says: str) -> None:
        self.rejected += 1
        self._note(cause, topic, says)

    def _note(self, cause: str, topic: str, says: str) -> None:
        if cause not in self._faults:
            excerpt = self._payload[:200].decode("utf-8", "replace")
            self._faults[cause] = Fault(cause, topic, says, excerpt)
        if cause not in self._noted:
            self._noted.add(cause)
            self.keep(cause, topic, says, self._payload)


# --- pure pieces ---


class _Missing:
    pass


_MISSING = _Missing()


@dataclass(frozen=True, slots=True)
class _Unreadable:
    says: str


def pointer_keys(pointer: str) -> Keys:
    """The keys of a JSON pointer (RFC 6901).

    >>> pointer_keys("/a~1b/0")
    ('a/b', '0')
    """
    parts = pointer.split("/")[1:]
    return tuple(p.replace("~1", "/").replace("~0", "~") for p in parts)


def subscriptions(rows: Sequence[TopicRow]) -> list[tuple[str, int]]:
    """(filter, QoS) to subscribe: none that another one covers, or payloads would come twice.

    >>> subscriptions([TopicRow(topic="a/#", qos=0), TopicRow(topic="a/b"), TopicRow(topic="c")])
    [('a/#', 1), ('c', 1)]
    """
    out: list[tuple[str, int]] = []
    for topic in dict.fromkeys(row.topic for row in rows):
        levels = topic.split("/")
        others = [r.topic for r in rows if r.topic != topic]
        if any(covers(other.split("/"), levels) for other in others):
            continue
        out.append((topic, max(r.qos for r in rows if covers(levels, r.topic.split("/")))))
    return out


def _preset(row: TopicRow) -> TopicRow:
    if row.preset == "umh":
        return replace(row, time=row.time or "/timestamp_ms", time_unit=row.time_unit or "ms")
    return row


def _rule(row: TopicRow) -> _Rule:
    values = []
    for pointer in row.value:
        is_all = pointer.endswith("*") and pointer in ("*", pointer.rstrip("*")[:-1] + "/*")
        keys = pointer_keys(pointer.removesuffix("*").removesuffix("/") if is_all else pointer)
        values.append((keys, is_all))
    return _Rule(
        row=row,
        levels=row.topic.split("/"),
        values=values,
        each=pointer_keys(row.each),
        time=pointer_keys(row.time),
        has_time=bool(row.time),
        factor=TIME_UNITS[row.time_unit],
        payload_names=[pointer_keys(w) for w in _PLACE.findall(row.path) if w.startswith("/")],
    )


def _at(document: Any, keys: Keys) -> Any:
    """What stands at a pointer; _MISSING when nothing does."""
    for key in keys:
        if type(document) is dict:
            document = document.get(key, _MISSING)
        elif type(document) is list and key.isdecimal() and int(key) < len(document):
            document = document[int(key)]
        else:
            return _MISSING
    return document


def _leaves(document: Any, keys: Keys, time: Keys, depth: int) -> Iterator[tuple[Keys, Any]]:
    """(keys, value) of every scalar below, without the time."""
    if type(document) is dict:
        pairs: Any = document.items()
    elif type(document) is list:
        pairs = ((str(n), v) for n, v in enumerate(document))
    else:
        yield keys, document
        return
    if depth >= _MOST_DEPTH:
        return
    for key, value in pairs:
        below = (*keys, key)
        if type(value) is dict or type(value) is list:
            yield from _leaves(value, below, time, depth + 1)
        elif below != time or not time:
            yield below, value


def _plain(payload: bytes) -> float | str | _Unreadable | None:
    """A payload that is no JSON: a number as people write it, a text, nothing, or unreadable."""
    try:
        text = payload.decode("utf-8").strip()
    except UnicodeDecodeError:
        return _Unreadable("is neither JSON nor UTF-8 text")
    if text.lower() in _NOTHING:
        return None
    if _NUMBER.fullmatch(text):
        return float(text)
    if text[0] in '{["':
        return _Unreadable("")
    if _CONTROL.search(text):
        return _Unreadable("is neither JSON nor printable text")
    return text


def _kind(row: TopicRow, name: str, value: Any) -> SignalKind:
    is_text = isinstance(value, str) and not row.kind
    if row.kind:
        return SignalKind[row.kind.upper()]
    return tags.kind_of(
        name,
        is_bool=isinstance(value, bool),
        is_text=is_text,
        is_integer=isinstance(value, int),
    )


def _name(value: Any) -> str:
    return "_" if value is _MISSING or isinstance(value, (dict, list)) else str(value)[:100]


def _word(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "an array"
    return f"{str(value)[:40]!r}"


def _umh(levels: Sequence[str]) -> tuple[list[str], list[str]] | None:
    """(location without the enterprise, tag groups) of a UMH topic; None for other schemas.

    >>> _umh("umh/v1/acme/cologne/weld/_historian/axis".split("/"))
    (['cologne', 'weld'], ['axis'])
    """
    at = next((i for i, level in enumerate(levels) if level.startswith("_")), 0)
    if levels[:2] != ["umh", "v1"] or at < 3 or levels[at] in ("_local", "_analytics"):
        return None
    return list(levels[3:at]), list(levels[at + 1 :])


def _parts(route: _Route, names: Keys, keys: Keys) -> list[str]:
    """Names below the enterprise, the signal's last."""
    row, levels = route.rule.row, route.levels
    if row.preset == "umh":
        place, groups = _umh(levels) or ([], [])
        tag = [*groups, *(() if keys == ("value",) and groups else keys)]
        return [*(place or ["_"]), "_".join(tag) or "value"]
    texts = iter(names)
    filled = {
        "key": "_".join(keys),
        "#": levels[len(route.rule.levels) - 1 :],
        "topic": levels,
    }
    out: list[str] = []
    for part in _split(row.path):
        whole = _PLACE.fullmatch(part)
        if whole and whole[1] in ("#", "topic"):
            out.extend(filled[whole[1]])
            continue

        def stands_for(found: re.Match[str]) -> str:
            word = found[1]
            if word.startswith("/"):
                return next(texts)
            if word.isdecimal():
                return levels[int(word) - 1]
            given = filled[word]
            return given if isinstance(given, str) else "_".join(given)

        out.append(_PLACE.sub(stands_for, part))
    return [part for part in out if part] or ["value"]


def _split(path: str) -> list[str]:
    """Parts between the slashes that stand outside of braces."""
    return re.findall(r"(?:\{[^{}]*\}|[^/{}])+", path)
