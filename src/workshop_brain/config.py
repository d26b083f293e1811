"""plant.toml -> frozen settings. Read once, checked once, passed as arguments.

Errors say ``file: key: what is wrong, what was found``. Whatever stands in the file is either
understood or named: an unknown key is never passed over.
"""

import difflib
import math
import os
import re
import tomllib
import zoneinfo
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from workshop_brain.autonomy.settings import AutonomySettings, EnvelopeSettings
from workshop_brain.connect.remote import IngestSettings
from workshop_brain.connect.settings import (
    PROTOCOLS,
    OpcUaSettings,
    SourceSettings,
    SparkplugSettings,
)
from workshop_brain.dispatch.open import WAYS
from workshop_brain.dispatch.settings import DispatchSettings
from workshop_brain.errors import ConfigError
from workshop_brain.model.calendar import Calendar
from workshop_brain.model.decision import DecisionClass, Level
from workshop_brain.model.plant import (
    Plant,
    Product,
    RoutingStep,
    WorkCenter,
    WorkCenterKind,
    WorkUnit,
)
from workshop_brain.store.settings import HistorianSettings, catalog_fault

T = TypeVar("T")
N = TypeVar("N", int, float)
Table = Mapping[str, Any]
_TOP = (
    "plant", "calendar", "work_center", "product", "source", "ingest", "history", "dispatch",
    "autonomy", "envelope",
)  # fmt: skip
_CENTER = (
    "id", "area", "kind", "names", "calendar", "families", "setup_min", "units",
    "capacity", "transport_s", "transit_s", "flow",
)  # fmt: skip
_HISTORY = tuple(f.name for f in fields(HistorianSettings) if f.name.startswith("retain_"))
_ABOVE_ZERO = {
    "publishing_ms",
    "sampling_ms",
    "queue_s",
    "timeout_s",
    "max_input_age_s",
    "lost_s",
    "spool_mb",
}
_MOST = 1e9  # 31 years in seconds: more is a slip, and would not fit into nanoseconds for long
_BOUNDS: dict[str, tuple[float, float]] = {  # least (beside 0) and most that can be meant
    "speed": (0.01, 100), "seconds": (0.001, 1e7), "setup_min": (0, 1e5), "transport_s": (0, 1e7),
    "transit_s": (0, 1e7), "capacity": (0, 1e6), "operators": (0, 1000),
    "publishing_ms": (1, 3_600_000), "sampling_ms": (1, 3_600_000), "queue_s": (1, 604_800),
    "timeout_s": (0.1, 3600), "max_input_age_s": (0.1, 86_400), "veto_s": (1, 604_800),
    "frozen_min": (0, 1e5), "lost_s": (1, 600), "spool_mb": (1, 1e7),
    **dict.fromkeys(_HISTORY, (1, 36_500)),
}  # fmt: skip
_ID_LENGTH = 100  # a path of all levels still fits a file name and a tag list
_PATH_LENGTH = 400
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_KINDS = {
    str: "a text in quotes",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "a table",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything one brain is told.

    Attributes
    ----------
    sources, dispatch
        Empty for the built-in plant: the supervisor fills in the addresses of the twin.
    afar
        Id of a source to the collector on another host that reads it.
    """

    plant: Plant
    sources: tuple[SourceSettings, ...] = ()
    afar: Mapping[str, str] = field(default_factory=dict)
    ingest: IngestSettings = field(default_factory=IngestSettings)
    history: HistorianSettings = field(default_factory=HistorianSettings)
    dispatch: tuple[DispatchSettings, ...] = ()
    autonomy: AutonomySettings = field(default_factory=AutonomySettings)
    envelope: EnvelopeSettings = field(default_factory=EnvelopeSettings)
    simulated: bool = False


def built_in() -> Settings:
    """The built-in transmission plant, to be fed by the twin."""
    text = resources.files("workshop_brain.plants").joinpath("transmission.toml").read_text("utf-8")
    return parse(text, origin="built-in transmission.toml", simulated=True)


def load(path: Path) -> Settings:
    """Settings of a plant.toml; ConfigError names file, key and value."""
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: no such file; leave it out to run the built-in plant"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text ({error}); save it as UTF-8") from error
    except (OSError, ValueError) as error:  # ValueError: NUL in the name
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    return parse(text, origin=str(path))


def parse(text: str, *, origin: str, simulated: bool = False) -> Settings:
    """Settings of a plant.toml's text. An empty text gives the built-in plant."""
    try:
        data = tomllib.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits
        raise ConfigError(f"{origin}: not valid TOML: {error}") from error
    if not data:
        return built_in()
    try:
        return _settings(data, simulated=simulated)
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}") from error


def _settings(data: Table, *, simulated: bool) -> Settings:
    _known(data, _TOP, "")
    plant = _plant(data)
    sources = tuple(_source(row, at) for at, row in _rows(data, "source"))
    _unique("source", (s.id for s in sources))
    dispatch = tuple(_dispatch(row, at, plant) for at, row in _rows(data, "dispatch"))
    _unique("dispatch", (d.work_center for d in dispatch), key="work_center")
    return Settings(
        plant=plant,
        sources=sources,
        afar=_afar(data, sources),
        ingest=_ingest(data),
        history=_history(data),
        dispatch=dispatch,
        autonomy=_autonomy(_opt(data, "autonomy", "", dict, {}), plant),
        envelope=_build(EnvelopeSettings, _opt(data, "envelope", "", dict, {}), "envelope"),
        simulated=simulated,
    )


def source(row: object, where: str) -> SourceSettings:
    """Settings of one source from its table; ConfigError names what is wrong with it."""
    if not isinstance(row, dict):
        raise ConfigError(f"{where}: must be a table, got {row!r}")
    return _source(row, where)


def secret(name: str) -> str:
    """The value of an environment variable that holds a secret; "" for no name."""
    if not name:
        return ""
    value = os.environ.get(name)
    if value is None:
        raise ConfigError(f"environment variable {name} is not set; it must hold the password")
    return value


def _at(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _hint(word: object, known: Iterable[str]) -> str:
    """The known words, the nearest one first when there is one.

    >>> _hint("spead", ["id", "speed"])
    "did you mean 'speed'? known are id, speed"
    """
    words = list(known)
    near = difflib.get_close_matches(str(word), words, n=1)
    return (
        f"did you mean {near[0]!r}? " if near else ""
    ) + f"known are {', '.join(words) or 'none'}"


def _known(table: Table, known: Iterable[str], where: str) -> None:
    words = list(known)
    for key in table:
        if key not in words:
            what = "key" if where else "table"
            raise ConfigError(f"{_at(where, key)}: unknown {what}; {_hint(key, words)}")


def _choice(value: str, known: Iterable[str], place: str, what: str) -> str:
    words = list(known)
    if value not in words:
        raise ConfigError(f"{place}: no {what} {value!r}; {_hint(value, words)}")
    return value


def _unique(where: str, ids: Iterable[str], *, key: str = "id") -> None:
    first: dict[str, int] = {}
    for i, id in enumerate(ids):
        if id in first:
            raise ConfigError(
                f"{where}[{i}].{key}: {id!r} is taken by {where}[{first[id]}]; each needs its own"
            )
        first[id] = i


def _get(table: Table, key: str, where: str, kind: type[T]) -> T:
    place = _at(where, key)
    if key not in table:
        raise ConfigError(f"{place} is missing")
    value = table[key]
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < _MOST else math.inf
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ConfigError(f"{place}: must be {_KINDS[kind]}, got {value!r}")
    if isinstance(value, str):
        _printable(value, place)
    return value


def _printable(text: str, place: str) -> None:
    """Line ends, NUL and the like are in no name, address or path."""
    if found := _CONTROL.search(text):
        raise ConfigError(
            f"{place}: must not have control characters; take {found[0]!r} out of {text!r}"
        )


def _opt(table: Table, key: str, where: str, kind: type[T], default: T) -> T:
    return _get(table, key, where, kind) if key in table else default


def _number(
    table: Table, key: str, where: str, kind: type[N], default: N, *, above_zero: bool = False
) -> N:
    """A finite number, >= 0 or > 0, within what can be meant by its key."""
    value = _opt(table, key, where, kind, default)
    least, most = _BOUNDS.get(key.partition("[")[0], (0.0, _MOST))
    is_enough = value > 0 if above_zero else value >= 0
    if not is_enough or not value <= most:
        bound = "> 0" if above_zero else ">= 0"
        raise ConfigError(
            f"{_at(where, key)}: must be {bound} and at most {most:.15g}, got {table[key]}"
        )
    if 0 < value < least:
        raise ConfigError(f"{_at(where, key)}: must be at least {least:g}, got {table[key]}")
    return value


def _word(table: Table, key: str, where: str, default: str | None = None) -> str:
    """An id that becomes one level of a path: not empty, no slash, no dot in front."""
    word = _get({key: default, **table} if default else table, key, where, str)
    if not word or "/" in word or word.startswith(".") or word != word.strip():
        raise ConfigError(
            f"{_at(where, key)}: must be a name without '/', outer spaces or a dot in front, "
            f"got {word!r}"
        )
    return _short(word, _at(where, key))


def _name(text: str, place: str) -> str:
    """An id that is no level of a path: a slash is allowed."""
    if not text or text != text.strip():
        what = f"must have no outer spaces, got {text!r}" if text.strip() else "is empty"
        raise ConfigError(f"{place}: {what}")
    return _short(text, place)


def _short(text: str, place: str, most: int = _ID_LENGTH) -> str:
    if len(text) > most:
        raise ConfigError(
            f"{place}: must have at most {most} characters, got {len(text)}: {text[:20]!r}..."
        )
    return text


def _texts(table: Table, key: str, where: str, default: tuple[str, ...]) -> tuple[str, ...]:
    if key not in table:
        return default
    out = _get(table, key, where, list)
    for i, text in enumerate(out):
        if not isinstance(text, str):
            raise ConfigError(f"{_at(where, key)}[{i}]: must be {_KINDS[str]}, got {text!r}")
        _printable(text, f"{_at(where, key)}[{i}]")
        if text in out[:i]:
            raise ConfigError(f"{_at(where, key)}[{i}]: {text!r} stands twice")
    return tuple(out)


def _names(table: Table, where: str) -> dict[str, str]:
    names = _opt(table, "names", where, dict, {})
    return {language: _get(names, language, _at(where, "names"), str) for language in names}


def _rows(table: Table, key: str, where: str = "") -> list[tuple[str, Table]]:
    """The tables of an array of tables, each with its place in the file."""
    rows, place = table.get(key, []), _at(where, key)
    if isinstance(rows, dict):
        form = f"{key} = [{{ ... }}]" if where else f"[[{key}]]"
        raise ConfigError(f"{place}: must be a list of tables, {form}; got a single table")
    if not isinstance(rows, list):
        raise ConfigError(f"{place}: must be a list of tables, got {rows!r}")
    for i, row in enumerate(rows):
        if not isinstance(row, dict):
            raise ConfigError(f"{place}[{i}]: must be a table, got {row!r}")
    return [(f"{place}[{i}]", row) for i, row in enumerate(rows)]


def _build(cls: type[T], table: Table, where: str) -> T:
    """Settings of one connector, way out or envelope from the fields of its dataclass.

    A field with metadata ``rows`` is an array of tables, each built as that dataclass.
    """
    own = fields(cls)  # type: ignore[arg-type]
    _known(table, [f.name for f in own], where)
    values: dict[str, Any] = {}
    for f in own:
        if f.name not in table and f.default is not MISSING:
            continue
        if f.type is int or f.type is float:
            values[f.name] = _field_number(table, f, where)
        elif f.type is str or f.type is bool:
            values[f.name] = _get(table, f.name, where, f.type)
        elif "rows" in f.metadata:
            kind = f.metadata["rows"]
            values[f.name] = tuple(_build(kind, r, at) for at, r in _rows(table, f.name, where))
        else:
            values[f.name] = _texts(table, f.name, where, ())
    return cls(**values)


def _field_number(table: Table, own: Field[Any], where: str) -> int | float:
    """A number of a settings field; ``signed`` ones may be below 0, or NaN: not given."""
    if own.metadata.get("signed"):
        value: int | float = _get(table, own.name, where, int if own.type is int else float)
        if abs(value) > _MOST:
            raise ConfigError(
                f"{_at(where, own.name)}: must be between -{_MOST:g} and {_MOST:g}, "
                f"got {table[own.name]}"
            )
        return value
    above = own.name in _ABOVE_ZERO
    if own.type is int:
        return _number(table, own.name, where, int, 0, above_zero=above)
    return _number(table, own.name, where, float, 0.0, above_zero=above)


def _zone(table: Table, where: str) -> str:
    zone = _opt(table, "timezone", where, str, "UTC")
    try:
        zoneinfo.ZoneInfo(zone)
    except (KeyError, ValueError, OSError) as error:  # OSError: "Europe" is a directory
        near = difflib.get_close_matches(zone, zoneinfo.available_timezones(), n=1)
        hint = near[0] if near else "Europe/Berlin"
        raise ConfigError(
            f"{where}.timezone: no time zone {zone!r}; a name like {hint!r} is needed"
        ) from error
    return zone


def _plant(data: Table) -> Plant:
    head = _opt(data, "plant", "", dict, {})
    _known(head, ("enterprise", "site", "timezone", "names"), "plant")
    zone = _zone(head, "plant")
    enterprise = _word(head, "enterprise", "plant", "local")
    site = _word(head, "site", "plant", "site")
    own = [_calendar(row, at, zone) for at, row in _rows(data, "calendar")]
    _unique("calendar", (c.id for c in own))
    calendars = {c.id: c for c in (Calendar(id="always", timezone=zone), *own)}
    root = f"{enterprise}/{site}"
    centers = tuple(_center(row, at, root, calendars) for at, row in _rows(data, "work_center"))
    _unique("work_center", (c.id for c in centers))
    _unique_paths(centers)
    products = tuple(_product(row, at, centers) for at, row in _rows(data, "product"))
    _unique("product", (p.id for p in products))
    return Plant(
        enterprise=enterprise,
        site=site,
        timezone=zone,
        work_centers=centers,
        products=products,
        names=_names(head, "plant"),
    )


def _unique_paths(centers: tuple[WorkCenter, ...]) -> None:
    first: dict[str, str] = {}
    for i, center in enumerate(centers):
        for k, unit in enumerate(center.units):
            at = f"work_center[{i}].units[{k}]"
            if unit.path in first:
                raise ConfigError(f"{at}.path: {unit.path!r} is taken by {first[unit.path]}")
            first[unit.path] = at


def _calendar(row: Table, where: str, zone: str) -> Calendar:
    _known(row, ("id", "windows"), where)
    id = _word(row, "id", where)
    windows: list[tuple[int, int, int]] = []
    for at, window in _rows(row, "windows", where):
        _known(window, ("days", "from", "to"), at)
        start, end = _get(window, "from", at, int), _get(window, "to", at, int)
        if not 0 <= start < end <= 1440:
            raise ConfigError(
                f"{at}: from and to must be minutes of one day, 0 <= from < to <= 1440, "
                f"got from = {start}, to = {end}"
            )
        for day in _days(window, at):
            _apart((day, start, end), windows, at)
            windows.append((day, start, end))
    if "windows" in row and not windows and id != "always":
        raise ConfigError(
            f"{where}.windows: is empty; state the working time, or use the calendar 'always'"
        )
    return Calendar(id=id, timezone=zone, windows=tuple(windows))


def _apart(new: tuple[int, int, int], windows: list[tuple[int, int, int]], where: str) -> None:
    day, start, end = new
    for other, a, b in windows:
        if other == day and start < b and a < end:
            raise ConfigError(
                f"{where}: {start}..{end} overlaps {a}..{b} on day {day}; join them or part them"
            )


def _days(window: Table, where: str) -> list[int]:
    days = _get(window, "days", where, list)
    if not days or any(type(day) is not int or not 0 <= day <= 6 for day in days):
        raise ConfigError(f"{where}.days: must be a list of 0 (Monday) .. 6 (Sunday), got {days}")
    return days


def _center(row: Table, where: str, root: str, calendars: Mapping[str, Calendar]) -> WorkCenter:
    _known(row, _CENTER, where)
    id, area = _word(row, "id", where), _word(row, "area", where)
    kind = _opt(row, "kind", where, str, "machining")
    if kind not in {k.value for k in WorkCenterKind}:
        raise ConfigError(f"{where}.kind: must be machining, batch or line, got {kind!r}")
    families = _texts(row, "families", where, ("any",))
    if not families:
        raise ConfigError(f"{where}.families: is empty; leave it out when there are no changeovers")
    for i, family in enumerate(families):
        _name(family, f"{where}.families[{i}]")
    calendar = _opt(row, "calendar", where, str, "always")
    _choice(calendar, calendars, f"{where}.calendar", "calendar")
    capacity = _number(row, "capacity", where, int, 0)
    if kind == "batch" and capacity == 0:
        raise ConfigError(f"{where}.capacity: a batch work center needs > 0, got 0")
    parent = f"{root}/{area}/{id}/{'main' if kind == 'line' else 'c1'}"
    units = tuple(_unit(unit, at, parent, families) for at, unit in _rows(row, "units", where))
    if not units:
        raise ConfigError(f"{where}.units: no units; at least one like {{ id = 'm1' }} is needed")
    _unique(f"{where}.units", (u.id for u in units))
    return WorkCenter(
        id=id,
        area=area,
        kind=WorkCenterKind(kind),
        units=units,
        families=families,
        setup_s=_setup_s(row, where, len(families)),
        calendar=calendars[calendar],
        capacity=capacity,
        transport_s=_number(row, "transport_s", where, int, 0),
        transit_s=_number(row, "transit_s", where, int, 0),
        flow=_flow(row, where, kind),
        names=_names(row, where),
    )


def _flow(row: Table, where: str, kind: str) -> tuple[tuple[tuple[str, ...], ...], ...]:
    """``flow`` of a line: chains of words; ``a1..a9`` a run, ``(a1..a9)`` side by side."""
    place = f"{where}.flow"
    chains = _opt(row, "flow", where, list, [])
    if chains and kind != "line":
        raise ConfigError(f"{place}: only a work center of kind line has a flow, this is {kind}")
    out: list[tuple[tuple[str, ...], ...]] = []
    seen: dict[str, str] = {}
    for i, chain in enumerate(chains):
        at = f"{place}[{i}]"
        if not isinstance(chain, list) or not all(isinstance(word, str) for word in chain):
            raise ConfigError(f"{at}: must be a list of texts like 'st01..st10', got {chain!r}")
        stages: list[tuple[str, ...]] = []
        for word in chain:
            beside = word.startswith("(") and word.endswith(")")
            ids = _run(word[1:-1] if beside else word, at)
            stages += [ids] if beside else [(id,) for id in ids]
        if len(stages) < 2:
            raise ConfigError(f"{at}: needs at least two places, got {chain!r}")
        joins = i > 0 and all(id in seen for id in stages[-1])
        for id in (id for stage in (stages[:-1] if joins else stages) for id in stage):
            if id in seen:
                raise ConfigError(
                    f"{at}: {id!r} stands in {seen[id]} already; a place has one flow"
                )
            seen[id] = at
        out.append(tuple(stages))
    return tuple(out)


def _run(word: str, where: str) -> tuple[str, ...]:
    """Ids of one word: ``st08..st11`` counts up, digits as wide as the first's; else the word."""
    first, dots, last = (part.strip() for part in word.partition(".."))
    ends = [re.fullmatch(r"(.*?)(\d+)", id) for id in (first, last)]
    if not dots and first:
        return (first,)
    if ends[0] is None or ends[1] is None or ends[0][1] != ends[1][1]:
        raise ConfigError(f"{where}: must be an id, or a run like 'st01..st10', got {word!r}")
    low, high, width = int(ends[0][2]), int(ends[1][2]), len(ends[0][2])
    if not 0 <= high - low < 1000:
        raise ConfigError(f"{where}: {word!r} must count up, over at most 1000 places")
    return tuple(f"{ends[0][1]}{n:0{width}d}" for n in range(low, high + 1))


def _setup_s(row: Table, where: str, n: int) -> tuple[tuple[int, ...], ...]:
    """``setup_min`` as whole seconds, n x n; nothing given means no changeover times."""
    matrix = _opt(row, "setup_min", where, list, [[0] * n] * n)
    place = f"{where}.setup_min"
    if len(matrix) != n or any(not isinstance(x, list) or len(x) != n for x in matrix):
        raise ConfigError(f"{place}: must be {n} x {n} (one row per family), got {matrix}")
    out = []
    for i, line in enumerate(matrix):
        cells = {f"setup_min[{i}][{j}]": cell for j, cell in enumerate(line)}
        out.append(tuple(round(60 * _number(cells, cell, where, float, 0.0)) for cell in cells))
    return tuple(out)


def _unit(row: Table, where: str, parent: str, families: tuple[str, ...]) -> WorkUnit:
    _known(row, ("id", "path", "families", "speed", "operators"), where)
    id = _word(row, "id", where)
    own = _texts(row, "families", where, families)
    for family in own:
        _choice(family, families, f"{where}.families", "family")
    path = _short(_opt(row, "path", where, str, f"{parent}/{id}"), f"{where}.path", _PATH_LENGTH)
    levels = path.split("/")
    if len(levels) < 2 or any(not level or level != level.strip() for level in levels):
        raise ConfigError(f"{where}.path: must be names with '/' between them, got {path!r}")
    return WorkUnit(
        id=id,
        path=path,
        families=frozenset(own),
        speed=_number(row, "speed", where, float, 1.0, above_zero=True),
        operators=_number(row, "operators", where, int, 0),
    )


def _product(row: Table, where: str, centers: tuple[WorkCenter, ...]) -> Product:
    _known(row, ("id", "names", "routing"), where)
    id = _name(_get(row, "id", where, str), f"{where}.id")
    known = {c.id: c for c in centers}
    steps: list[RoutingStep] = []
    for at, step in _rows(row, "routing", where):
        steps.append(_step(step, at, known, [s.work_center for s in steps]))
    if not steps:
        raise ConfigError(f"{where}.routing: is empty; it needs at least one step")
    return Product(id=id, routing=tuple(steps), names=_names(row, where))


def _step(
    step: Table, where: str, centers: Mapping[str, WorkCenter], before: list[str]
) -> RoutingStep:
    _known(step, ("work_center", "family", "seconds", "after"), where)
    center = _get(step, "work_center", where, str)
    _choice(center, centers, f"{where}.work_center", "work center")
    family = _opt(step, "family", where, str, "any")
    _choice(family, centers[center].families, f"{where}.family", "family")
    if not any(not unit.families or family in unit.families for unit in centers[center].units):
        raise ConfigError(
            f"{where}.family: no unit of {center!r} makes {family!r}; add it to a unit's families"
        )
    after = _texts(step, "after", where, ())
    missing = set(after) - set(before)
    if missing:
        raise ConfigError(f"{where}.after: {sorted(missing)} must stand before this step")
    _get(step, "seconds", where, float)
    seconds = _number(step, "seconds", where, float, 0.0, above_zero=True)
    return RoutingStep(work_center=center, family=family, seconds=seconds, after=after)


def _source(row: Table, where: str) -> SourceSettings:
    protocol = _get(row, "protocol", where, str)
    _choice(protocol, PROTOCOLS, f"{where}.protocol", "protocol")
    rest = {k: v for k, v in row.items() if k not in ("protocol", "collector")}
    keys = {f.name: f for f in fields(PROTOCOLS[protocol])}
    _known(row, ("protocol", "collector", *keys), where)
    settings = _build(PROTOCOLS[protocol], rest, where)
    _word(row, "id", where)
    if fault := settings.fault():
        raise ConfigError(f"{where}.{fault}")
    if settings.url or keys["url"].default is MISSING:
        _catalog_fault(settings.url, f"{where}.url", settings.schemes)
    return settings


def _afar(data: Table, sources: tuple[SourceSettings, ...]) -> dict[str, str]:
    out: dict[str, str] = {}
    for (at, row), settings in zip(_rows(data, "source"), sources, strict=True):
        if "collector" not in row:
            continue
        out[settings.id] = _word(row, "collector", at)
        if isinstance(settings, SparkplugSettings) and not settings.url:
            raise ConfigError(f"{at}.url is missing; a collector on another host needs it")
    return out


def _history(data: Table) -> HistorianSettings:
    """How long history is kept and where its catalog is; the rest is not the plant's matter."""
    table = _opt(data, "history", "", dict, {})
    _known(table, (*_HISTORY, "catalog", "catalog_password_env"), "history")
    catalog = _opt(table, "catalog", "history", str, "")
    if catalog and (fault := catalog_fault(catalog)):
        raise ConfigError(f"history.catalog {catalog!r} {fault}")
    return HistorianSettings(
        **{key: _number(table, key, "history", int, 0) for key in _HISTORY if key in table},
        catalog=catalog,
        catalog_password_env=_opt(table, "catalog_password_env", "history", str, ""),
    )


def _ingest(data: Table) -> IngestSettings:
    settings = _build(IngestSettings, _opt(data, "ingest", "", dict, {}), "ingest")
    if fault := settings.fault():
        raise ConfigError(f"ingest.{fault}")
    return settings


def _catalog_fault(url: str, place: str, schemes: tuple[str, ...]) -> None:
    form = " or ".join(f"{scheme}://host:port" for scheme in schemes)
    try:
        parts = urlsplit(url)
        good = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, a broken IPv6 address
        good = False
    if not good:
        raise ConfigError(f"{place}: must be {form}, got {url!r}")


def _dispatch(row: Table, where: str, plant: Plant) -> DispatchSettings:
    settings = _build(DispatchSettings, row, where)
    centers = [c.id for c in plant.work_centers]
    _choice(settings.work_center, centers, f"{where}.work_center", "work center")
    _choice(settings.way, WAYS, f"{where}.way", "way")
    if settings.way in ("job_order", "handshake"):
        for key in ("url", "receiver"):
            if not getattr(settings, key):
                raise ConfigError(f"{where}.{key} is missing; way {settings.way!r} needs it")
        _catalog_fault(settings.url, f"{where}.url", OpcUaSettings.schemes)
    return settings


def _levels(table: Table, key: str, where: str) -> dict[DecisionClass, Level]:
    levels, place = _opt(table, key, where, dict, {}), _at(where, key)
    _known(levels, [c.value for c in DecisionClass], place)
    out: dict[DecisionClass, Level] = {}
    for name, value in levels.items():
        if not isinstance(value, str) or value.upper() not in Level.__members__:
            names = ", ".join(n.lower() for n in Level.__members__)
            raise ConfigError(f"{place}.{name}: must be one of {names}, got {value!r}")
        out[DecisionClass(name)] = Level[value.upper()]
    return out


def _autonomy(table: Table, plant: Plant) -> AutonomySettings:
    _known(table, ("default", "line", "veto_s"), "autonomy")
    base = AutonomySettings()
    lines = _opt(table, "line", "autonomy", dict, {})
    for key in lines:
        centers = [c.id for c in plant.work_centers]
        _choice(key, centers, f"autonomy.line.{key}", "work center")
    return AutonomySettings(
        default={**base.default, **_levels(table, "default", "autonomy")},
        lines={key: _levels(lines, key, "autonomy.line") for key in lines},
        veto_s=_number(table, "veto_s", "autonomy", int, base.veto_s, above_zero=True),
    )
