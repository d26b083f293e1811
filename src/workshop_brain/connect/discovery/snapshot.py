"""What an address had when it was last looked at, and what is different now. Pure but for the
reading and writing of one file."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from workshop_brain.connect.discovery.propose import Proposal
from workshop_brain.errors import ConfigError

_COMPARED = ("path", "kind", "unit", "low", "high")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Signals by their address at the source.

    Attributes
    ----------
    changed
        ``(path now, {key: (before, now)})``.
    """

    new: list[str]
    gone: list[str]
    changed: list[tuple[str, dict[str, tuple[Any, Any]]]]

    def __bool__(self) -> bool:
        return bool(self.new or self.gone or self.changed)


def rows(proposals: Sequence[Proposal]) -> dict[str, dict[str, Any]]:
    """Address to what is compared of each signal."""
    return {
        p.signal.address: {
            "path": p.signal.path,
            "kind": p.signal.kind.name.lower(),
            "unit": p.signal.unit,
            "low": p.signal.low,
            "high": p.signal.high,
            "rate_hz": None if math.isnan(p.rate_hz) else round(p.rate_hz, 3),
        }
        for p in proposals
    }


def difference(before: dict[str, dict[str, Any]], now: dict[str, dict[str, Any]]) -> Difference:
    """What is new, gone and changed; rates come and go and are not compared.

    A kind that was guessed from what was seen may be guessed otherwise in another look: it counts
    as changed all the same, for the plant file decides it and nobody should miss it.
    """
    changed = []
    for address in before.keys() & now.keys():
        was, is_ = before[address], now[address]
        other = {k: (was.get(k), is_[k]) for k in _COMPARED if was.get(k) != is_[k]}
        if other:
            changed.append((is_["path"], other))
    return Difference(
        new=sorted(now[a]["path"] for a in now.keys() - before.keys()),
        gone=sorted(str(before[a].get("path", a)) for a in before.keys() - now.keys()),
        changed=sorted(changed, key=lambda row: row[0]),
    )


def place(plant_file: Path, source: str) -> Path:
    """Where the snapshot of a source is kept: beside the plant file.

    >>> place(Path("/etc/plant.toml"), "plc").as_posix()
    '/etc/plant.discovery/plc.json'
    """
    return plant_file.with_suffix(".discovery") / f"{source}.json"


def load(path: Path) -> dict[str, dict[str, Any]] | None:
    """The rows of an earlier look, None when there was none; ConfigError when unreadable."""
    try:
        content = orjson.loads(path.read_bytes())
        found = content["signals"]
        return {str(a): dict(row) for a, row in found.items()}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path}: cannot be read as an earlier discovery ({error}); remove it to start anew"
        ) from error


def save(path: Path, url: str, now: dict[str, dict[str, Any]]) -> None:
    """Write the rows of this look; ConfigError when that cannot be done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pending = path.with_suffix(".new")
        pending.write_bytes(orjson.dumps({"url": url, "signals": now}, option=orjson.OPT_INDENT_2))
        pending.replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error}") from error
