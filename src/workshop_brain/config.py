"""plant.toml -> frozen settings. Read once, checked once, passed as arguments.

Errors say ``file: key: what is wrong, what was found``.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from workshop_brain.autonomy.settings import AutonomySettings, EnvelopeSettings
from workshop_brain.connect.settings import OpcUaSettings, SourceSettings, SparkplugSettings
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

T = TypeVar("T")
_PROTOCOLS: dict[str, type[SourceSettings]] = {
    "opcua": OpcUaSettings,
    "sparkplug": SparkplugSettings,
}
_TOP = {
    "plant", "calendar", "work_center", "product", "source", "dispatch", "autonomy", "envelope",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything one brain is told.

    Attributes
    ----------
    sources, dispatch
        Empty for the built-in plant: the supervisor fills in the addresses of the twin.
    """

    plant: Plant
    sources: tuple[SourceSettings, ...] = ()
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
        text = path.read_text("utf-8")
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: no such file; leave it out to run the built-in plant"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    return parse(text, origin=str(path))


def parse(text: str, *, origin: str, simulated: bool = False) -> Settings:
    """Settings of a plant.toml's text. An empty text gives the built-in plant."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{origin}: not valid TOML: {error}") from error
    if not data:
        return built_in()
    try:
        for key in data:
            if key not in _TOP:
                raise ConfigError(f"{key}: unknown table; known are {', '.join(sorted(_TOP))}")
        plant = _plant(data)
        return Settings(
            plant=plant,
            sources=tuple(
                _source(row, f"source[{i}]") for i, row in enumerate(data.get("source", []))
            ),
            dispatch=tuple(
                _dispatch(row, f"dispatch[{i}]", plant)
                for i, row in enumerate(data.get("dispatch", []))
            ),
            autonomy=_autonomy(data.get("autonomy", {}), plant),
            envelope=_build(EnvelopeSettings, data.get("envelope", {}), "envelope"),
            simulated=simulated,
        )
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}") from error


def secret(name: str) -> str:
    """The value of an environment variable that holds a secret; "" for no name."""
    if not name:
        return ""
    value = os.environ.get(name)
    if value is None:
        raise ConfigError(f"environment variable {name} is not set; it must hold the password")
    return value


def _get(table: Mapping[str, Any], key: str, where: str, kind: type[T]) -> T:
    if key not in table:
        raise ConfigError(f"{where}.{key} is missing")
    value = table[key]
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ConfigError(f"{where}.{key}: must be {kind.__name__}, got {value!r}")
    return value


def _build(cls: type[T], table: Mapping[str, Any], where: str) -> T:
    known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
    for key in table:
        if key not in known:
            raise ConfigError(f"{where}.{key}: unknown key; known are {', '.join(sorted(known))}")
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
    for f in fields(cls):  # type: ignore[arg-type]
        if f.name in values and f.type in (int, float, str):
            values[f.name] = _get(values, f.name, where, f.type)
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from error


def _plant(data: Mapping[str, Any]) -> Plant:
    head = data.get("plant", {})
    zone = head.get("timezone", "UTC")
    enterprise, site = head.get("enterprise", "local"), head.get("site", "site")
    calendars = {"always": Calendar(id="always", timezone=zone)}
    for i, row in enumerate(data.get("calendar", [])):
        calendar = _calendar(row, f"calendar[{i}]", zone)
        calendars[calendar.id] = calendar
    centers = tuple(
        _center(row, f"work_center[{i}]", f"{enterprise}/{site}", calendars)
        for i, row in enumerate(data.get("work_center", []))
    )
    products = tuple(
        _product(row, f"product[{i}]", centers) for i, row in enumerate(data.get("product", []))
    )
    return Plant(
        enterprise=enterprise,
        site=site,
        timezone=zone,
        work_centers=centers,
        products=products,
        names=dict(head.get("names", {})),
    )


def _calendar(row: Mapping[str, Any], where: str, zone: str) -> Calendar:
    windows = []
    for k, window in enumerate(row.get("windows", [])):
        at = f"{where}.windows[{k}]"
        start, end = _get(window, "from", at, int), _get(window, "to", at, int)
        windows += [(int(day), start, end) for day in _get(window, "days", at, list)]
    try:
        return Calendar(id=_get(row, "id", where, str), timezone=zone, windows=tuple(windows))
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error


def _center(
    row: Mapping[str, Any], where: str, root: str, calendars: Mapping[str, Calendar]
) -> WorkCenter:
    id, area = _get(row, "id", where, str), _get(row, "area", where, str)
    families = tuple(row.get("families", ["any"]))
    matrix = row.get("setup_min", [[0] * len(families)] * len(families))
    calendar = row.get("calendar", "always")
    if calendar not in calendars:
        raise ConfigError(
            f"{where}.calendar: no calendar {calendar!r}; known are {', '.join(calendars)}"
        )
    kind = row.get("kind", "machining")
    if kind not in {k.value for k in WorkCenterKind}:
        raise ConfigError(f"{where}.kind: must be machining, batch or line, got {kind!r}")
    units = []
    for k, unit in enumerate(row.get("units", [])):
        at = f"{where}.units[{k}]"
        unit_id = _get(unit, "id", at, str)
        own = frozenset(unit.get("families", families))
        if not own <= set(families):
            raise ConfigError(f"{at}.families: {sorted(own - set(families))} not in {families}")
        path = unit.get(
            "path", f"{root}/{area}/{id}/{'main' if kind == 'line' else 'c1'}/{unit_id}"
        )
        units.append(
            WorkUnit(
                id=unit_id,
                path=path,
                families=own,
                speed=float(unit.get("speed", 1.0)),
                operators=int(unit.get("operators", 0)),
            )
        )
    try:
        return WorkCenter(
            id=id,
            area=area,
            kind=WorkCenterKind(kind),
            units=tuple(units),
            families=families,
            setup_s=tuple(tuple(round(60 * float(x)) for x in line) for line in matrix),
            calendar=calendars[calendar],
            capacity=int(row.get("capacity", 0)),
            transport_s=int(row.get("transport_s", 0)),
            transit_s=int(row.get("transit_s", 0)),
            names=dict(row.get("names", {})),
        )
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error


def _product(row: Mapping[str, Any], where: str, centers: tuple[WorkCenter, ...]) -> Product:
    by_id = {c.id: c for c in centers}
    steps: list[RoutingStep] = []
    for k, step in enumerate(row.get("routing", [])):
        at = f"{where}.routing[{k}]"
        center, family = _get(step, "work_center", at, str), step.get("family", "any")
        if center not in by_id:
            raise ConfigError(f"{at}.work_center: no work center {center!r}")
        if family not in by_id[center].families:
            raise ConfigError(f"{at}.family: {center!r} has no family {family!r}")
        after = tuple(step.get("after", []))
        missing = set(after) - {s.work_center for s in steps}
        if missing:
            raise ConfigError(f"{at}.after: {sorted(missing)} must stand before this step")
        seconds = _get(step, "seconds", at, float)
        if seconds <= 0:
            raise ConfigError(f"{at}.seconds: must be > 0, got {seconds}")
        steps.append(RoutingStep(work_center=center, family=family, seconds=seconds, after=after))
    if not steps:
        raise ConfigError(f"{where}.routing: is empty")
    return Product(
        id=_get(row, "id", where, str), routing=tuple(steps), names=dict(row.get("names", {}))
    )


def _source(row: Mapping[str, Any], where: str) -> SourceSettings:
    protocol = _get(row, "protocol", where, str)
    if protocol not in _PROTOCOLS:
        raise ConfigError(
            f"{where}.protocol: must be one of {', '.join(_PROTOCOLS)}, got {protocol!r}"
        )
    rest = {k: v for k, v in row.items() if k != "protocol"}
    return _build(_PROTOCOLS[protocol], rest, where)


def _dispatch(row: Mapping[str, Any], where: str, plant: Plant) -> DispatchSettings:
    settings = _build(DispatchSettings, row, where)
    if settings.work_center not in {c.id for c in plant.work_centers}:
        raise ConfigError(f"{where}.work_center: no work center {settings.work_center!r}")
    return settings


def _levels(table: Mapping[str, Any], where: str) -> dict[DecisionClass, Level]:
    out: dict[DecisionClass, Level] = {}
    for key, value in table.items():
        if key not in {c.value for c in DecisionClass}:
            raise ConfigError(f"{where}.{key}: unknown decision class")
        if not isinstance(value, str) or value.upper() not in Level.__members__:
            names = ", ".join(n.lower() for n in Level.__members__)
            raise ConfigError(f"{where}.{key}: must be one of {names}, got {value!r}")
        out[DecisionClass(key)] = Level[value.upper()]
    return out


def _autonomy(table: Mapping[str, Any], plant: Plant) -> AutonomySettings:
    lines = {}
    for key, value in table.get("line", {}).items():
        if key not in {c.id for c in plant.work_centers}:
            raise ConfigError(f"autonomy.line.{key}: no work center {key!r}")
        lines[key] = _levels(value, f"autonomy.line.{key}")
    base = AutonomySettings()
    return AutonomySettings(
        default={**base.default, **_levels(table.get("default", {}), "autonomy.default")},
        lines=lines,
        veto_s=int(table.get("veto_s", base.veto_s)),
    )
