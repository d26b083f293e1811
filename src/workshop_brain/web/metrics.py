"""``/metrics``: the brain's own health in the Prometheus text format."""

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from workshop_brain.web.live_hub import LiveHub
from workshop_brain.web.services import Services

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SOURCE_STATES = ("up", "lost", "connecting")


def metrics(services: Services, hub: LiveHub) -> str:
    """All metrics as text, one family after the other."""
    wall, live = services.clock.wall_ns(), services.watch.live
    sources = services.sources()
    lines: list[str] = []

    def family(name: str, kind: str, text: str, rows: Iterable[tuple[str, Any]]) -> None:
        lines.append(f"# HELP brain_{name} {text}")
        lines.append(f"# TYPE brain_{name} {kind}")
        lines.extend(f"brain_{name}{labels} {_value(value)}" for labels, value in rows)

    family("info", "gauge", "Version of the brain.", [(_labels(version=services.version), 1)])
    family("signals", "gauge", "Signals in the registry.", [("", live.epoch)])
    family(
        "signals_stale", "gauge", "Signals of lost sources.", [("", int(live.stale(wall).sum()))]
    )
    family("plant_time_seconds", "gauge", "Plant time.", [("", services.clock.plant_ns() / 1e9)])
    family(
        "source_up",
        "gauge",
        "Whether a source is in this state.",
        [
            (_labels(source=s["id"], state=state), int(s["state"] == state))
            for s in sources
            for state in _SOURCE_STATES
        ],
    )
    for key, text in (("rate", "Samples per second."), ("age_s", "Seconds since the last frame.")):
        rows = [(_labels(source=s["id"]), s.get(key)) for s in sources]
        family(f"source_{key.replace('age_s', 'age_seconds')}", "gauge", text, rows)
    gaps = [(_labels(source=s["id"]), s.get("gaps")) for s in sources]
    family("source_gaps_total", "counter", "Gaps seen.", gaps)
    stats = services.historian.stats()
    family(
        "historian",
        "gauge",
        "Figures of the historian.",
        [(_labels(figure=k), v) for k, v in stats.items() if _is_number(v)],
    )
    family("alarms", "gauge", "Active alarms.", [("", len(services.watch.alarms))])
    family("live_clients", "gauge", "Screens with a live connection.", [("", hub.clients)])
    family("live_frames_total", "counter", "Frames encoded.", [("", hub.frames)])
    cpu = time.process_time()
    family("process_cpu_seconds_total", "counter", "CPU time of the brain.", [("", cpu)])
    memory = [("", _resident_bytes())]
    family("process_resident_bytes", "gauge", "Resident memory of the brain.", memory)
    return "\n".join(lines) + "\n"


def _resident_bytes() -> int | None:
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def _labels(**labels: str) -> str:
    inside = ",".join(f'{k}="{_escaped(v)}"' for k, v in labels.items())
    return "{" + inside + "}"


def _escaped(text: str) -> str:
    return str(text).replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _value(value: Any) -> str:
    return "NaN" if value is None or value != value else repr(float(value))
