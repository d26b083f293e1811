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
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from workshop_brain.autonomy.settings import (
    AutonomySettings,
    EnvelopeSettings,
    PlanningSettings,
)
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
from workshop_brain.model.decision import WEIGHT_NAMES, DecisionClass, Level
from workshop_brain.model.plant import (
    Buffer,
    Needs,
    Person,
    Plant,
    Product,
    RoutingStep,
    Tariff,
    Tool,
    Upkeep,
    WorkCenter,
    WorkCenterKind,
    WorkUnit,
)
from workshop_brain.schedule.limits import MOST_SKILLS
from workshop_brain.store.settings import HistorianSettings, catalog_fault
from workshop_brain.units import NS_PER_S

T = TypeVar("T")
N = TypeVar("N", int, float)
Table = Mapping[str, Any]
_TOP = (
    "plant", "calendar", "work_center", "product", "source", "ingest", "history", "dispatch",
    "autonomy", "envelope", "planning", "tool", "person", "buffer", "tariff",
    "maintenance",
)  # fmt: skip
_NEEDS = ("tools", "skills", "setup_tools", "setup_skills")
_UNIT = ("id", "path", "families", "speed", "operators", "power_kw", *_NEEDS)
_STEP = ("work_center", "family", "seconds", "after", "max_lag_s", "buffer", *_NEEDS)
_CENTER = (
    "id", "area", "kind", "names", "calendar", "families", "setup_min", "units",
    "capacity", "transport_s", "transit_s", "flow", *_NEEDS,
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
    "power_kw": (0, 1e5), "price": (0, 1e6), "quantity": (1, 1e6), "max_lag_s": (0, 1e7),
    "minutes": (1, 1e5),
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
    home
        Directory of the plant file: further documents of the plant lie there, such as
        ``balance/LINE.csv``. None when the settings came from no file.
    """

    plant: Plant
    sources: tuple[SourceSettings, ...] = ()
    afar: Mapping[str, str] = field(default_factory=dict)
    ingest: IngestSettings = field(default_factory=IngestSettings)
    history: HistorianSettings = field(default_factory=HistorianSettings)
    dispatch: tuple[DispatchSettings, ...] = ()
    autonomy: AutonomySettings = field(default_factory=AutonomySettings)
    envelope: EnvelopeSettings = field(default_factory=EnvelopeSettings)
    planning: PlanningSettings = field(default_factory=PlanningSettings)
    simulated: bool = False
    home: Path | None = field(default=None, compare=False)


def built_in() -> Settings:
    """The built-in transmission plant, to be fed by the twin."""
    home = Path(str(resources.files("workshop_brain.plants")))
    text = (home / "transmission.toml").read_text("utf-8")
    found = parse(text, origin="built-in transmission.toml", simulated=True)
    return replace(found, home=home)


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
    found = parse(text, origin=str(path))
    return found if found.home is not None else replace(found, home=path.parent)


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
        planning=_planning(_opt(data, "planning", "", dict, {})),
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
    shared = _shared(data, calendars)
    centers = tuple(
        _center(row, at, root, calendars, shared) for at, row in _rows(data, "work_center")
    )
    _unique("work_center", (c.id for c in centers))
    _unique_paths(centers)
    products = tuple(_product(row, at, centers, shared) for at, row in _rows(data, "product"))
    _unique("product", (p.id for p in products))
    return Plant(
        enterprise=enterprise,
        site=site,
        timezone=zone,
        work_centers=centers,
        products=products,
        tools=shared.tools,
        people=shared.people,
        buffers=shared.buffers,
        tariff=_tariff(data, zone),
        upkeep=_upkeep(data, zone, centers),
        names=_names(head, "plant"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shared:
    """What work anywhere in the plant may ask for."""

    tools: tuple[Tool, ...]
    people: tuple[Person, ...]
    buffers: tuple[Buffer, ...]

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Tools and skills with how many there are of each."""
        skills = {skill for person in self.people for skill in person.skills}
        return {
            "tool": {tool.id: tool.quantity for tool in self.tools},
            "skill": {s: sum(s in p.skills for p in self.people) for s in sorted(skills)},
        }


def _shared(data: Table, calendars: Mapping[str, Calendar]) -> _Shared:
    tools = tuple(_tool(row, at, calendars) for at, row in _rows(data, "tool"))
    people = tuple(_person(row, at, calendars) for at, row in _rows(data, "person"))
    buffers = tuple(_buffer(row, at) for at, row in _rows(data, "buffer"))
    for what, rows in (("tool", tools), ("person", people), ("buffer", buffers)):
        _unique(what, (row.id for row in rows))
    shared = _Shared(tools=tools, people=people, buffers=buffers)
    both = sorted(shared.counts["tool"].keys() & shared.counts["skill"].keys())
    if both:
        raise ConfigError(f"person: {both[0]!r} is a skill and a tool; name one of them otherwise")
    _few_skills(people)
    return shared


def _few_skills(people: tuple[Person, ...]) -> None:
    """Every set of skills that hang together is counted, so there must not be too many."""
    parts: list[set[str]] = []
    for person in people:
        joined = set(person.skills).union(*(part for part in parts if part & set(person.skills)))
        parts = [part for part in parts if not part & joined] + [joined]
        if len(joined) > MOST_SKILLS:
            raise ConfigError(
                f"person: the skills {', '.join(sorted(joined))} hang together through people who "
                f"have several of them; at most {MOST_SKILLS} may, name fewer per person"
            )


def _tool(row: Table, where: str, calendars: Mapping[str, Calendar]) -> Tool:
    _known(row, ("id", "quantity", "calendar"), where)
    return Tool(
        id=_name(_get(row, "id", where, str), f"{where}.id"),
        quantity=_number(row, "quantity", where, int, 1, above_zero=True),
        calendar=_times(row, where, calendars),
    )


def _person(row: Table, where: str, calendars: Mapping[str, Calendar]) -> Person:
    _known(row, ("id", "skills", "calendar"), where)
    skills = _texts(row, "skills", where, ())
    if not skills:
        raise ConfigError(f"{where}.skills: is empty; name what the person may be called for")
    for i, skill in enumerate(skills):
        _name(skill, f"{where}.skills[{i}]")
    id = _name(_get(row, "id", where, str), f"{where}.id")
    return Person(id=id, skills=skills, calendar=_times(row, where, calendars))


def _buffer(row: Table, where: str) -> Buffer:
    _known(row, ("id", "capacity"), where)
    _get(row, "capacity", where, int)
    id = _name(_get(row, "id", where, str), f"{where}.id")
    return Buffer(id=id, capacity=_number(row, "capacity", where, int, 0))


def _times(row: Table, where: str, calendars: Mapping[str, Calendar]) -> Calendar:
    name = _opt(row, "calendar", where, str, "always")
    return calendars[_choice(name, calendars, f"{where}.calendar", "calendar")]


def _tariff(data: Table, zone: str) -> Tariff | None:
    if "tariff" not in data:
        return None
    table = _get(data, "tariff", "", dict)
    _known(table, ("price", "windows"), "tariff")
    _get(table, "price", "tariff", float)
    windows = []
    for at, row in _rows(table, "windows", "tariff"):
        _get(row, "price", at, float)
        price = _number(row, "price", at, float, 0.0)
        times = {"id": "tariff", "windows": [{k: v for k, v in row.items() if k != "price"}]}
        windows.append((_calendar(times, at, zone), price))
    return Tariff(price=_number(table, "price", "tariff", float, 0.0), windows=tuple(windows))


def _upkeep(data: Table, zone: str, centers: tuple[WorkCenter, ...]) -> tuple[Upkeep, ...]:
    rows = tuple(_upkeep_row(row, at, zone, centers) for at, row in _rows(data, "maintenance"))
    _unique("maintenance", (row.id for row in rows))
    return rows


def _upkeep_row(row: Table, where: str, zone: str, centers: tuple[WorkCenter, ...]) -> Upkeep:
    _known(row, ("id", "unit", "minutes", "earliest", "latest"), where)
    id, name = _word(row, "id", where), _get(row, "unit", where, str)
    paths = [u.path for c in centers for u in c.units if name in (u.id, u.path)]
    if len(paths) != 1:
        units = [u.path for c in centers for u in c.units]
        what = f"{len(paths)} units are called {name!r}" if paths else f"no unit {name!r}"
        raise ConfigError(f"{where}.unit: {what}; {_hint(name, units)}")
    _get(row, "minutes", where, int)
    minutes = _number(row, "minutes", where, int, 0, above_zero=True)
    latest = _instant(row, "latest", where, zone)
    earliest = _instant(row, "earliest", where, zone) if "earliest" in row else 0
    if latest - earliest < minutes * 60 * NS_PER_S:
        raise ConfigError(
            f"{where}.latest: must be at least the {minutes} minutes after earliest, "
            f"got {row['latest']}"
        )
    return Upkeep(
        id=id, unit=paths[0], duration_s=minutes * 60, earliest_ns=earliest, latest_ns=latest
    )


def _instant(row: Table, key: str, where: str, zone: str) -> int:
    """A date and time as TOML writes it; without an offset in the plant's time zone. ns."""
    if key not in row:
        raise ConfigError(f"{_at(where, key)} is missing")
    value = row[key]
    if not isinstance(value, datetime):
        raise ConfigError(
            f"{_at(where, key)}: must be a date and time like 2026-03-04T06:00:00 without quotes, "
            f"got {value!r}"
        )
    moment = value if value.tzinfo is not None else value.replace(tzinfo=zoneinfo.ZoneInfo(zone))
    if not 1970 < moment.year < 2200:
        raise ConfigError(f"{_at(where, key)}: must be between 1971 and 2199, got {value}")
    return int(moment.timestamp()) * NS_PER_S


def _needs(row: Table, where: str, shared: _Shared) -> Needs:
    """``tools``, ``skills``, ``setup_tools`` and ``setup_skills`` of a table."""
    found: dict[str, dict[str, int]] = {"run": {}, "setup": {}}
    for key in _NEEDS:
        what = "tool" if key.endswith("tools") else "skill"
        for name, count in _asked(row, key, where).items():
            place = _at(where, key)
            there = shared.counts[what][_choice(name, shared.counts[what], place, what)]
            if count > there:
                raise ConfigError(f"{place}: needs {count} of {name!r}, there are {there}")
            found["setup" if key.startswith("setup") else "run"][name] = count
    return Needs(run=found["run"], setup=found["setup"])


def _asked(row: Table, key: str, where: str) -> dict[str, int]:
    """``["a", "b"]`` or ``{ a = 2 }`` as names and quantities."""
    if not isinstance(row.get(key), dict):
        return dict.fromkeys(_texts(row, key, where, ()), 1)
    counts, place = _get(row, key, where, dict), _at(where, key)
    return {name: _number(counts, name, place, int, 0, above_zero=True) for name in counts}


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


def _center(
    row: Table, where: str, root: str, calendars: Mapping[str, Calendar], shared: _Shared
) -> WorkCenter:
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
    units = tuple(
        _unit(unit, at, parent, families, shared) for at, unit in _rows(row, "units", where)
    )
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
        needs=_needs(row, where, shared),
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


def _unit(
    row: Table, where: str, parent: str, families: tuple[str, ...], shared: _Shared
) -> WorkUnit:
    _known(row, _UNIT, where)
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
        power_kw=_number(row, "power_kw", where, float, 0.0),
        needs=_needs(row, where, shared),
    )


def _product(row: Table, where: str, centers: tuple[WorkCenter, ...], shared: _Shared) -> Product:
    _known(row, ("id", "names", "routing"), where)
    id = _name(_get(row, "id", where, str), f"{where}.id")
    known = {c.id: c for c in centers}
    steps: list[RoutingStep] = []
    for at, step in _rows(row, "routing", where):
        steps.append(_step(step, at, known, [s.work_center for s in steps], shared))
    if not steps:
        raise ConfigError(f"{where}.routing: is empty; it needs at least one step")
    _one_buffer(steps, where)
    return Product(id=id, routing=tuple(steps), names=_names(row, where))


def _one_buffer(steps: list[RoutingStep], where: str) -> None:
    """A lot stands in one place."""
    to: dict[str, str] = {}
    for step in steps:
        for before in step.after if step.buffer else ():
            if before in to:
                raise ConfigError(
                    f"{where}.routing: from {before!r} lots would stand in front of {to[before]!r} "
                    f"and of {step.work_center!r}; leave one buffer out"
                )
            to[before] = step.work_center


def _step(
    step: Table,
    where: str,
    centers: Mapping[str, WorkCenter],
    before: list[str],
    shared: _Shared,
) -> RoutingStep:
    _known(step, _STEP, where)
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
    needs = _needs(step, where, shared)
    _can_be_met(centers[center], family, needs, where, shared)
    return RoutingStep(
        work_center=center,
        family=family,
        seconds=seconds,
        after=after,
        needs=needs,
        max_lag_s=_max_lag(step, where, centers, after),
        buffer=_step_buffer(step, where, [centers[id] for id in (*after, center)], shared),
    )


def _can_be_met(center: WorkCenter, family: str, needs: Needs, where: str, shared: _Shared) -> None:
    """Whether any unit has enough for itself and the step together."""
    there = shared.counts["tool"] | shared.counts["skill"]
    why = ""
    for unit in center.units:
        if unit.families and family not in unit.families:
            continue
        short = [
            f"needs {own.get(name, 0) + n} of {name!r} with its unit, there are {there[name]}"
            for own, asked in (
                ({**center.needs.run, **unit.needs.run}, needs.run),
                ({**center.needs.setup, **unit.needs.setup}, needs.setup),
            )
            for name, n in asked.items()
            if own.get(name, 0) + n > there[name]
        ]
        if not short:
            return
        why = short[0]
    raise ConfigError(f"{where}: {why}")


def _max_lag(
    step: Table, where: str, centers: Mapping[str, WorkCenter], after: tuple[str, ...]
) -> int | None:
    if "max_lag_s" not in step:
        return None
    value, place = _number(step, "max_lag_s", where, int, 0), f"{where}.max_lag_s"
    if not after:
        raise ConfigError(f"{place}: no step is before this one; name it in 'after'")
    for id in after:
        least = centers[id].transport_s + centers[id].transit_s
        if value < least:
            raise ConfigError(
                f"{place}: transport and transit from {id!r} alone take {least} s, got {value}"
            )
    return value


def _step_buffer(step: Table, where: str, around: list[WorkCenter], shared: _Shared) -> str:
    name, place = _opt(step, "buffer", where, str, ""), f"{where}.buffer"
    if not name:
        return ""
    _choice(name, [buffer.id for buffer in shared.buffers], place, "buffer")
    if len(around) < 2:
        raise ConfigError(f"{place}: no step is before this one; name it in 'after'")
    for center in around:
        if center.kind is not WorkCenterKind.MACHINING:
            raise ConfigError(
                f"{place}: buffers stand between machining work centers, {center.id!r} is of kind "
                f"{center.kind.value}"
            )
    return name


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


def _planning(table: Table) -> PlanningSettings:
    _known(table, ("measured", "weights"), "planning")
    place = "planning.weights"
    given = _opt(table, "weights", "planning", dict, {})
    _known(given, WEIGHT_NAMES, place)
    weights = {name: _number(given, name, place, float, 0.0) for name in given}
    if set(weights) == set(WEIGHT_NAMES) and not any(weights.values()):
        raise ConfigError(f"{place}: all are 0, so every plan is as good as any; set one above 0")
    measured = _opt(table, "measured", "planning", bool, PlanningSettings().measured)
    return PlanningSettings(weights=weights, measured=measured)


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
