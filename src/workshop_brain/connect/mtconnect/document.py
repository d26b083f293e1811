"""MTConnect documents as columns: devices with their data items, and observations.

The parser resolves no entities, loads nothing from elsewhere and refuses huge trees.
"""

from dataclasses import dataclass, field
from typing import Any

from workshop_brain.connect.stamps import FIRST_NS, LAST_NS, text_ns
from workshop_brain.connect.tags import kind_of
from workshop_brain.errors import DecodeError
from workshop_brain.model.signal import SignalKind, path_part

MOST_BYTES = 64 * 1024 * 1024
MOST_TEXT = 4096
UNAVAILABLE = "UNAVAILABLE"
_NUMERIC_EVENTS = frozenset({"PART_COUNT", "LINE_NUMBER", "TOOL_NUMBER", "AXIS_FEEDRATE_OVERRIDE",
    "PATH_FEEDRATE_OVERRIDE", "ROTARY_VELOCITY_OVERRIDE", "LOAD_COUNT", "UNLOAD_COUNT",
    "CYCLE_COUNT", "TRANSFER_COUNT", "PART_INDEX"})  # fmt: skip


@dataclass(frozen=True, slots=True)
class DataItem:
    """One data item of a device.

    Attributes
    ----------
    place
        Names from the device down to the component that has it.
    """

    id: str
    name: str
    place: tuple[str, ...]
    category: str
    type: str
    sub_type: str = ""
    units: str = ""
    representation: str = ""

    @property
    def kind(self) -> SignalKind:
        """Kind of its signal; numbers are samples of one dimension and a few events."""
        one = not self.units.endswith("_3D") and self.representation in ("", "VALUE", "TIME_SERIES")
        is_number = self.category == "SAMPLE" and one
        is_count = self.type in _NUMERIC_EVENTS and self.representation in ("", "VALUE", "DISCRETE")
        if is_count and self.type.endswith("_COUNT"):
            return SignalKind.COUNTER
        return kind_of(
            path_part(self.name), is_bool=False, is_text=not (is_number or is_count),
            is_integer=False,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Header:
    """Header of a document; sequences are 0 where it has none."""

    instance: int
    next_sequence: int = 0
    first_sequence: int = 0


@dataclass(slots=True)
class Observations:
    """Observations of one document as columns of one length, in its order.

    ``text`` is None for UNAVAILABLE; a time series has an entry for each of its values.
    ``faults`` are (data item, what is wrong with it).
    """

    header: Header
    item: list[str] = field(default_factory=list)
    time_ns: list[int] = field(default_factory=list)
    text: list[str | None] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)


class AgentError(DecodeError):
    """The agent answered with an MTConnectError document; ``code`` is its first error's."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"the agent says {code}: {text}")
        self.code = code


def root_of(content: bytes) -> Any:
    """Root element of a document; AgentError for an error document, DecodeError when it is none."""
    from lxml import etree

    if len(content) > MOST_BYTES:
        raise DecodeError(f"the document has {len(content)} bytes, at most {MOST_BYTES} are read")
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False,
        remove_comments=True, remove_pis=True, collect_ids=False,
    )  # fmt: skip
    try:
        root = etree.fromstring(content, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise DecodeError(f"is no XML document: {str(error)[:200]}") from error
    if root.getroottree().docinfo.internalDTD is not None:
        raise DecodeError("the document brings a DTD, which no agent does")
    if _local(root) == "MTConnectError":
        found = next(root.iter("{*}Error"), None)
        code = "" if found is None else str(found.get("errorCode") or "")
        raise AgentError(code, "" if found is None else (found.text or "").strip()[:200])
    return root


def _local(element: Any) -> str:
    return str(element.tag).rpartition("}")[2]


def _header(root: Any) -> Header:
    found = root.find("{*}Header")
    if found is None:
        raise DecodeError("the document has no Header")
    return Header(
        _whole(found.get("instanceId")),
        _whole(found.get("nextSequence")),
        _whole(found.get("firstSequence")),
    )


def _whole(text: str | None) -> int:
    if text is None:
        return 0
    if not (text.isascii() and text.isdecimal() and len(text) <= 20):
        raise DecodeError(f"the Header has a number that is none: {text[:40]!r}")
    return int(text)


def read_devices(content: bytes) -> tuple[Header, list[DataItem]]:
    """Header and data items of a probe document."""
    root = root_of(content)
    if _local(root) != "MTConnectDevices":
        raise DecodeError(f"is a {_local(root)[:60]}, not MTConnectDevices")
    items: list[DataItem] = []
    for device in root.iter("{*}Device"):
        name = str(device.get("name") or device.get("id") or "device")
        _collect(device, (name,), items)
    return _header(root), items


def _collect(element: Any, place: tuple[str, ...], items: list[DataItem]) -> None:
    for child in element:
        tag = _local(child)
        if tag == "DataItems":
            items += [_item(row, place) for row in child.iterfind("{*}DataItem") if row.get("id")]
        elif tag == "Components":
            for part in child:
                name = str(part.get("name") or part.get("id") or _local(part))
                _collect(part, (*place, name), items)


def _item(row: Any, place: tuple[str, ...]) -> DataItem:
    return DataItem(
        id=str(row.get("id")),
        name=str(row.get("name") or row.get("id")),
        place=place,
        category=str(row.get("category") or ""),
        type=str(row.get("type") or ""),
        sub_type=str(row.get("subType") or ""),
        units=str(row.get("units") or ""),
        representation=str(row.get("representation") or ""),
    )


def read_streams(content: bytes) -> Observations:
    """Observations of a current or sample document."""
    root = root_of(content)
    if _local(root) != "MTConnectStreams":
        raise DecodeError(f"is a {_local(root)[:60]}, not MTConnectStreams")
    out = Observations(_header(root))
    item, time_ns, text = out.item.append, out.time_ns.append, out.text.append
    for block in root.iter("{*}Samples", "{*}Events", "{*}Condition"):
        is_condition = _local(block) == "Condition"
        for row in block:
            get = row.get
            id = get("dataItemId")
            try:
                stamp = text_ns(get("timestamp", ""))
            except ValueError as error:
                out.faults.append((str(id), f"timestamp {get('timestamp', '')[:60]!r} {error}"))
                continue
            if id is None or not FIRST_NS <= stamp < LAST_NS:
                out.faults.append(_why(id, get("timestamp")))
                continue
            value = _condition(row) if is_condition else _value(row)
            if get("sampleCount") is not None and value is not None:
                _series(row, stamp, value, out)
                continue
            item(id)
            time_ns(stamp)
            text(value)
    return out


def _why(id: str | None, stamp: str) -> tuple[str, str]:
    if id is None:
        return "?", "an observation names no dataItemId"
    return id, f"timestamp {stamp!r} is not between the years 2000 and 2100"


def _value(row: Any) -> str | None:
    text: str = (row.text or "").strip()
    if not text and len(row):  # a data set or a table: entries by key
        pairs = (f"{e.get('key')}={''.join(e.itertext()).strip()}" for e in row)
        return " ".join(pairs)[:MOST_TEXT]
    return None if text == UNAVAILABLE else text[:MOST_TEXT]


def _condition(row: Any) -> str | None:
    level = _local(row).upper()
    if level == UNAVAILABLE:
        return None
    words = (level, row.get("nativeCode") or "", (row.text or "").strip())
    return " ".join(word for word in words if word)[:MOST_TEXT]


def _series(row: Any, time_ns: int, text: str, out: Observations) -> None:
    """A time series: its stamp is that of its last value."""
    id, values = str(row.get("dataItemId")), text.split()
    try:
        rate_hz = float(row.get("sampleRate") or 0.0)
    except ValueError:
        rate_hz = 0.0
    if not 1e-3 <= rate_hz <= 1e8:
        out.faults.append((id, f"a time series has the rate {row.get('sampleRate')!r} Hz"))
        return
    last = len(values) - 1
    for k, value in enumerate(values):
        out.item.append(id)
        out.time_ns.append(time_ns - round((last - k) * 1e9 / rate_hz))
        out.text.append(value)
