"""What the tags of every polled protocol have in common: names, scaling, checks. Pure."""

import math
from collections.abc import Sequence
from typing import Protocol

from workshop_brain.connect import tags as naming
from workshop_brain.model.signal import SignalDef, SignalKind

KINDS = ("", *(kind.name.lower() for kind in SignalKind))


class PolledTag(Protocol):
    """Keys that every ``[[source.tag]]`` has."""

    @property
    def path(self) -> str: ...
    @property
    def scale(self) -> float: ...
    @property
    def unit(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def poll_ms(self) -> int: ...
    def fault(self) -> str: ...


def word_fault(key: str, value: str, known: Sequence[str]) -> str:
    """What is wrong with a word of a list."""
    if value in known:
        return ""
    return f"{key}: no {key} {value!r}; known are {', '.join(word for word in known if word)}"


def names_fault(tag: PolledTag) -> str:
    """What is wrong with path, kind and range."""
    if why := word_fault("kind", tag.kind, KINDS):
        return why
    if not tag.path or not all(tag.path.split("/")):
        return f"path: must be names with '/' between them, got {tag.path!r}"
    if math.isnan(tag.low) != math.isnan(tag.high) or tag.low >= tag.high:
        return "low and high: give both, low below high, or neither"
    return ""


def source_fault(tags: Sequence[PolledTag], poll_ms: int) -> str:
    """What is wrong with a device's list of tags, or with how often it is polled."""
    if not tags:
        return "tag: is empty; list what is to be read, or look with brain connect"
    if not 10 <= poll_ms <= 3_600_000:
        return f"poll_ms: must be 10 to 3600000, got {poll_ms}"
    seen: dict[str, int] = {}
    for k, tag in enumerate(tags):
        if why := tag.fault():
            return f"tag[{k}].{why}"
        if tag.poll_ms and tag.poll_ms < 10:
            return f"tag[{k}].poll_ms: must be 10 or more, got {tag.poll_ms}"
        if tag.path in seen:
            return f"tag[{k}].path: {tag.path!r} is taken by tag[{seen[tag.path]}]"
        seen[tag.path] = k
    return ""


def signal(
    tag: PolledTag,
    source: str,
    enterprise: str,
    address: str,
    *,
    is_bool: bool,
    is_text: bool,
    is_integer: bool,
) -> SignalDef:
    """The signal that a tag becomes."""
    path = naming.signal_path(enterprise, tag.path.split("/"))
    name = path.rsplit("/", 1)[1]
    whole = is_integer and tag.scale == 1.0
    kind = (
        SignalKind[tag.kind.upper()]
        if tag.kind
        else naming.kind_of(name, is_bool=is_bool, is_text=is_text, is_integer=whole)
    )
    low, high = naming.range_of(name, kind, tag.low, tag.high)
    return SignalDef(
        path=path, source=source, address=address, kind=kind, unit=tag.unit, low=low, high=high
    )
