"""Finding the variables of an OPC UA server, in batches within the server's limits."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from asyncua import ua
from asyncua.client.ua_session import UaSession

from workshop_brain.connect.choice import Choice
from workshop_brain.connect.opcua import decode
from workshop_brain.connect.opcua.parts import Apart, Types, take_apart
from workshop_brain.connect.opcua.structures import node_of, read_types
from workshop_brain.connect.tags import kind_of, range_of, signal_path
from workshop_brain.errors import DecodeError, SourceError
from workshop_brain.model.signal import SignalDef, path_part

log = logging.getLogger(__name__)
T = TypeVar("T")

_TYPES = ua.VariantType
_INTEGERS = frozenset(
    {_TYPES.SByte, _TYPES.Byte, _TYPES.Int16, _TYPES.UInt16, _TYPES.Int32, _TYPES.UInt32,
     _TYPES.Int64, _TYPES.UInt64}
)  # fmt: skip
_NUMBERS = _INTEGERS | {_TYPES.Float, _TYPES.Double, _TYPES.DateTime, _TYPES.StatusCode}
_TEXTS = frozenset({_TYPES.String, _TYPES.LocalizedText})
_TAKEN = _NUMBERS | _TEXTS | {_TYPES.Boolean, _TYPES.ExtensionObject}
# Ways out of the brain (dispatch reads and writes them itself), not signals.
_NOT_SIGNALS = frozenset({"JobOrderControl", "Handshake"})
_MOST_DEPTH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The server's OperationLimits; where it states none, what every server carries."""

    nodes_per_read: int = 1000
    nodes_per_browse: int = 500
    items_per_call: int = 1000
    items_per_subscription: int = 0
    nodes_per_history_read: int = 100
    history_points: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Composite:
    """How the scalars in an array or a structure become signals.

    Attributes
    ----------
    names
        Browse names of the variable, from the root on.
    first
        (part, built-in type) of what it held when the server was browsed.
    """

    choice: Choice
    names: tuple[str, ...]
    source: str
    address: str
    types: Types = field(repr=False)
    extra: dict[str, Any] = field(default_factory=dict)
    first: tuple[tuple[str, int], ...] = ()

    def item(self, node: ua.NodeId, part: str, code: int) -> "Item | None":
        """The signal of one part; None when the plant file leaves it out.

        Its path is the variable's with the part behind it: ``curve_3`` for ``Curve[3]``,
        ``drive_axis_speed`` for ``Drive.Axis.Speed``.
        """
        names = (*self.names[:-1], f"{self.names[-1]}{part}")
        path, browse = signal_path(self.choice.enterprise, names), "/".join(names)
        own = path_part(part.rsplit(".", 1)[-1].split("[")[0] or self.names[-1])
        kind = ua.VariantType(code)
        address = f"{self.address}{part}"
        signal = self.choice.shaped(
            _signal(path, own, kind, self.extra, self.source, address), browse
        )
        if signal is None:
            return None
        return replace(_item(node, signal, browse, kind, self.extra), name=own, part=part)

    def items(self, node: ua.NodeId) -> "list[Item]":
        """The parts that were there when the server was browsed."""
        found = (self.item(node, part, code) for part, code in self.first)
        return [item for item in found if item is not None]


@dataclass(frozen=True, slots=True)
class Item:
    """One variable to be monitored and the signal it becomes.

    Attributes
    ----------
    name, part
        Of a part: the path part that its kind was worked out from, and which one it is.
    composite
        Set for an array or a structure: ``signal`` then names the variable only, and its parts
        become the signals.
    browse
        Browse names from the root on, with ``/`` between them.
    form
        What the data type is: ``flag``, ``integer``, ``real``, ``text`` or ``structure``.
    has_states, has_range
        The server names the states of an integer, gives a range.
    """

    node_id: ua.NodeId
    signal: SignalDef
    browse: str = ""
    form: str = ""
    has_states: bool = False
    has_range: bool = False
    name: str = ""
    part: str = ""
    composite: Composite | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """One object: browse path from the root on, and the node of its type."""

    browse: str
    type_id: ua.NodeId


@dataclass(frozen=True, slots=True)
class Found:
    """Result of a browse; ``skipped`` counts what cannot become signals, by reason.

    Attributes
    ----------
    left_out
        Browse paths of variables that include and exclude of the plant file leave out.
    """

    items: list[Item]
    skipped: Counter[str]
    left_out: list[str] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    uris: list[str] = field(default_factory=list)


async def read_limits(session: UaSession) -> Limits:
    """The server's limits; a value of 0 or none leaves the default."""
    prefix = "Server_ServerCapabilities_"
    names = {
        "nodes_per_read": f"{prefix}OperationLimits_MaxNodesPerRead",
        "nodes_per_browse": f"{prefix}OperationLimits_MaxNodesPerBrowse",
        "items_per_call": f"{prefix}OperationLimits_MaxMonitoredItemsPerCall",
        "items_per_subscription": f"{prefix}MaxMonitoredItemsPerSubscription",
        "nodes_per_history_read": f"{prefix}OperationLimits_MaxNodesPerHistoryReadData",
        "history_points": f"{prefix}MaxHistoryContinuationPoints",
    }
    nodes = [ua.NodeId(getattr(ua.ObjectIds, name)) for name in names.values()]
    values = await _read(session, [(n, ua.AttributeIds.Value) for n in nodes], 4)
    given: dict[str, int] = {}
    for key, data in zip(names, values, strict=True):
        value = data.Value.Value if data.Value is not None else None
        if isinstance(value, int) and value > 0:
            given[key] = min(value, 5000) if key != "items_per_subscription" else value
    return Limits(**given)


async def find(
    session: UaSession, *, root: str, choice: Choice, source: str, limits: Limits
) -> Found:
    """Every variable of a known type below ``root`` (a browse path below Objects; "" is all of
    it) that ``choice`` takes."""
    namespaces = (await _read(session, [(ua.NodeId(2255), ua.AttributeIds.Value)], 1))[0]
    uris = list(namespaces.Value.Value or []) if namespaces.Value is not None else []
    start = await _resolve(session, root, limits)
    variables, properties, places = await _walk(session, start, limits, skip_server=not root)
    found = await _describe(session, variables, properties, uris, choice, source, limits)
    found = await _with_parts(session, found, limits)
    return replace(found, places=places, uris=uris)


async def _resolve(session: UaSession, root: str, limits: Limits) -> ua.NodeId:
    node = ua.NodeId(ua.ObjectIds.ObjectsFolder)
    for name in [part for part in root.split("/") if part]:
        (children,) = await _browse(session, [node], limits)
        known = [c.BrowseName.Name for c in children]
        for child in children:
            if child.BrowseName.Name == name:
                node = child.NodeId
                break
        else:
            raise SourceError(
                f"OPC UA: root {root!r}: no node {name!r}; there is {', '.join(sorted(known)[:20])}"
            )
    return node


Variables = list[tuple[ua.NodeId, tuple[str, ...]]]
Properties = dict[ua.NodeId, dict[str, ua.NodeId]]


async def _walk(
    session: UaSession, start: ua.NodeId, limits: Limits, *, skip_server: bool
) -> tuple[Variables, Properties, list[Place]]:
    seen = {start}
    if skip_server:
        seen |= {ua.NodeId(ua.ObjectIds.Server), ua.NodeId(ua.ObjectIds.Aliases)}
    frontier: Variables = [(start, ())]
    variables: Variables = []
    properties: Properties = {}
    places: list[Place] = []
    has_property = ua.NodeId(ua.ObjectIds.HasProperty)
    for _ in range(_MOST_DEPTH):
        if not frontier:
            break
        below = await _browse(session, [node for node, _ in frontier], limits)
        following: Variables = []
        for (parent, names), children in zip(frontier, below, strict=True):
            for child in children:
                name, node = child.BrowseName.Name, child.NodeId
                if child.ReferenceTypeId == has_property:
                    properties.setdefault(parent, {})[name] = node
                    continue
                if child.NodeClass == ua.NodeClass.Object and node not in seen:
                    places.append(Place("/".join((*names, name)), child.TypeDefinition))
                if node not in seen and name not in _NOT_SIGNALS:
                    seen.add(node)
                    entry = (node, (*names, name))
                    following.append(entry)
                    if child.NodeClass == ua.NodeClass.Variable:
                        variables.append(entry)
        frontier = following
    return variables, properties, places


async def _describe(
    session: UaSession,
    variables: Variables,
    properties: Properties,
    uris: Sequence[str],
    choice: Choice,
    source: str,
    limits: Limits,
) -> Found:
    nodes = [node for node, _ in variables]
    ranks = await _read(session, [(n, ua.AttributeIds.ValueRank) for n in nodes], limits)
    types = await _read(session, [(n, ua.AttributeIds.DataType) for n in nodes], limits)
    values = await _values(session, nodes, types, ranks, limits)
    extra = await _extras(session, nodes, properties, limits)
    skipped: Counter[str] = Counter()
    items: list[Item] = []
    left_out: list[str] = []
    taken: set[str] = set()
    for (node, names), rank, declared, data in zip(variables, ranks, types, values, strict=True):
        kind = _variant_type(data, declared)
        if kind is None or kind not in _TAKEN:
            skipped["type"] += 1
            continue
        path, browse = signal_path(choice.enterprise, names), "/".join(names)
        given = extra.get(node, {})
        own = _signal(path, path_part(names[-1]), kind, given, source, _address(node, uris))
        signal = choice.shaped(own, browse)
        if signal is None:
            left_out.append(browse)
            continue
        if signal.path in taken:
            skipped["same path"] += 1
            continue
        taken.add(signal.path)
        item = _item(node, signal, browse, kind, given)
        if _is_array(rank, data) or kind is _TYPES.ExtensionObject:
            # include names the variable as a whole; exclude may name some of its parts too.
            composite = Composite(
                choice=replace(choice, include=()),
                names=names,
                source=source,
                address=own.address,
                types=Types(),
                extra=given,
            )
            item = replace(item, signal=own, composite=composite)
        items.append(item)
    return Found(items, skipped, left_out)


def _item(
    node: ua.NodeId, signal: SignalDef, browse: str, kind: ua.VariantType, given: dict[str, Any]
) -> Item:
    form = "flag" if kind is _TYPES.Boolean else "text" if kind in _TEXTS else "real"
    form = "structure" if kind is _TYPES.ExtensionObject else form
    return Item(
        node,
        signal,
        browse,
        "integer" if kind in _INTEGERS else form,
        has_states="EnumStrings" in given or "EnumValues" in given,
        has_range="EURange" in given,
    )


async def _values(
    session: UaSession,
    nodes: Sequence[ua.NodeId],
    types: Sequence[ua.DataValue],
    ranks: Sequence[ua.DataValue],
    limits: Limits,
) -> list[ua.DataValue]:
    """Values of the nodes whose data type or rank does not say how a value is encoded."""
    empty = ua.DataValue()
    out = [empty] * len(nodes)
    asked = [
        i
        for i, (declared, rank) in enumerate(zip(types, ranks, strict=True))
        if _variant_type(empty, declared) is None or _value(rank) in (None, -2, -3)
    ]
    got = await _read(session, [(nodes[i], ua.AttributeIds.Value) for i in asked], limits)
    for i, data in zip(asked, got, strict=True):
        out[i] = data
    return out


def _signal(
    path: str, name: str, kind: ua.VariantType, extra: dict[str, Any], source: str, address: str
) -> SignalDef:
    """The signal of a variable; ``name`` is its own, which the path may join with those above."""
    has_names = "EnumStrings" in extra or "EnumValues" in extra
    signal_kind = kind_of(
        "state" if has_names else name,
        is_bool=kind is _TYPES.Boolean,
        is_text=kind in _TEXTS,
        is_integer=kind in _INTEGERS,
    )
    span = extra.get("EURange")
    low = float(getattr(span, "Low", 0.0) or 0.0)
    high = float(getattr(span, "High", 0.0) or 0.0)
    low, high = range_of(name, signal_kind, low, high)
    unit = getattr(getattr(extra.get("EngineeringUnits"), "DisplayName", None), "Text", None)
    return SignalDef(
        path=path,
        kind=signal_kind,
        unit=str(unit or ""),
        low=low,
        high=high,
        source=source,
        address=address,
    )


def _is_array(rank: ua.DataValue, data: ua.DataValue) -> bool:
    """By the value when it was read, else by the rank: -1 scalar, -2 and -3 may be scalars."""
    if data.Value is not None and data.Value.VariantType not in (None, _TYPES.Null):
        return bool(data.Value.is_array)
    return isinstance(_value(rank), int) and _value(rank) >= 0


def _address(node: ua.NodeId, uris: Sequence[str]) -> str:
    index = node.NamespaceIndex
    uri = uris[index] if index < len(uris) else str(index)
    text = node.to_string()
    return f"nsu={uri};{text.split(';', 1)[1] if text.startswith('ns=') else text}"


def _variant_type(data: ua.DataValue, declared: ua.DataValue) -> ua.VariantType | None:
    if data.Value is not None and data.Value.VariantType not in (None, _TYPES.Null):
        kind = data.Value.VariantType
        return kind if isinstance(kind, ua.VariantType) else None
    node = _value(declared)
    number = node.Identifier if isinstance(node, ua.NodeId) and node.NamespaceIndex == 0 else 0
    return ua.VariantType(number) if isinstance(number, int) and 1 <= number <= 23 else None


# --- arrays and structures ---


async def _with_parts(session: UaSession, found: Found, limits: Limits) -> Found:
    """What the arrays and structures hold now, and the types of the structures."""
    rows = [at for at, item in enumerate(found.items) if item.composite is not None]
    if not rows:
        return found
    nodes = [found.items[at].node_id for at in rows]
    held = await _encoded(session, nodes, limits)
    unknown = {key for raw in held for key in _apart(raw, Types()).unknown}
    types = Types()
    if unknown or any(found.items[at].form == "structure" for at in rows):
        declared = await _read(session, [(n, ua.AttributeIds.DataType) for n in nodes], limits)
        data_types = [_value(d) for d in declared if isinstance(_value(d), ua.NodeId)]
        step = min(limits.nodes_per_read, limits.nodes_per_browse)
        types = await read_types(session, data_types, [node_of(key) for key in unknown], step)
    items, skipped = list(found.items), Counter(found.skipped)
    for at, raw in zip(rows, held, strict=True):
        composite = items[at].composite
        assert composite is not None
        apart = _apart(raw, types)
        if apart.unknown and not apart.parts():
            skipped["structure of an unknown type"] += 1
            log.warning("%s: the server does not describe the structure %s; it is not stored",
                        items[at].browse, sorted(map(str, apart.unknown)))  # fmt: skip
        first = tuple(apart.parts())
        items[at] = replace(items[at], composite=replace(composite, types=types, first=first))
    return replace(found, items=items, skipped=skipped)


async def _encoded(
    session: UaSession, nodes: Sequence[ua.NodeId], limits: Limits
) -> list[bytes | memoryview]:
    """Encoded values; empty where there is none."""
    out: list[bytes | memoryview] = [b""] * len(nodes)
    for at in range(0, len(nodes), limits.nodes_per_read):
        part = nodes[at : at + limits.nodes_per_read]
        request = ua.ReadRequest()
        request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Neither
        request.Parameters.NodesToRead = [
            ua.ReadValueId(NodeId=node, AttributeId=ua.AttributeIds.Value) for node in part
        ]
        body = bytes(await session._send_request(request))
        for row, raw in decode.values(body, range(len(part)), 0).nested:
            out[at + row] = raw
    return out


def _apart(raw: bytes | memoryview, types: Types) -> Apart:
    if not len(raw):
        return Apart()
    try:
        return take_apart(raw, types)
    except DecodeError as error:
        log.info("a value cannot be taken apart: %s", error)
        return Apart()


def _value(data: ua.DataValue) -> Any:
    return data.Value.Value if data.Value is not None else None


async def _extras(
    session: UaSession, nodes: Sequence[ua.NodeId], properties: Properties, limits: Limits
) -> dict[ua.NodeId, dict[str, Any]]:
    wanted = ("EngineeringUnits", "EURange", "EnumStrings", "EnumValues")
    asked = [
        (node, name, properties[node][name])
        for node in nodes
        for name in wanted
        if name in properties.get(node, {})
    ]
    values = await _read(session, [(p, ua.AttributeIds.Value) for _, _, p in asked], limits)
    out: dict[ua.NodeId, dict[str, Any]] = {}
    for (node, name, _), data in zip(asked, values, strict=True):
        value = _value(data)
        if value is not None:
            out.setdefault(node, {})[name] = value
    return out


async def names(session: UaSession, nodes: Sequence[ua.NodeId], limits: Limits) -> list[str]:
    """Browse names, without namespace; "" where the server tells none."""
    got = await _read(session, [(node, ua.AttributeIds.BrowseName) for node in nodes], limits)
    return [str(getattr(_value(data), "Name", "") or "") for data in got]


async def _read(
    session: UaSession,
    wanted: Sequence[tuple[ua.NodeId, ua.AttributeIds]],
    limits: Limits | int,
) -> list[ua.DataValue]:
    step = limits if isinstance(limits, int) else limits.nodes_per_read
    out: list[ua.DataValue] = []
    for part in _parts(wanted, step):
        parameters = ua.ReadParameters()
        parameters.TimestampsToReturn = ua.TimestampsToReturn.Neither
        for node, attribute in part:
            entry = ua.ReadValueId()
            entry.NodeId = node
            entry.AttributeId = attribute
            parameters.NodesToRead.append(entry)
        out.extend(await session.read(parameters))
    return out


async def _browse(
    session: UaSession, nodes: Sequence[ua.NodeId], limits: Limits
) -> list[list[ua.ReferenceDescription]]:
    """References of each node, continuation points followed."""
    out: list[list[ua.ReferenceDescription]] = []
    for part in _parts(nodes, limits.nodes_per_browse):
        parameters = ua.BrowseParameters()
        parameters.RequestedMaxReferencesPerNode = 0
        parameters.NodesToBrowse = [_description(node) for node in part]
        results = await session.browse(parameters)
        lists = [list(r.References or []) for r in results]
        open_points = {i: r.ContinuationPoint for i, r in enumerate(results) if r.ContinuationPoint}
        while open_points:
            following = ua.BrowseNextParameters()
            following.ReleaseContinuationPoints = False
            following.ContinuationPoints = list(open_points.values())
            more = await session.browse_next(following)
            still: dict[int, bytes] = {}
            for i, result in zip(open_points, more, strict=True):
                lists[i].extend(result.References or [])
                if result.ContinuationPoint:
                    still[i] = result.ContinuationPoint
            open_points = still
        out.extend(lists)
    return out


def _description(node: ua.NodeId) -> ua.BrowseDescription:
    description = ua.BrowseDescription()
    description.NodeId = node
    description.BrowseDirection = ua.BrowseDirection.Forward
    description.ReferenceTypeId = ua.NodeId(ua.ObjectIds.HierarchicalReferences)
    description.IncludeSubtypes = True
    description.NodeClassMask = ua.NodeClass.Object | ua.NodeClass.Variable
    description.ResultMask = (
        ua.BrowseResultMask.ReferenceTypeId
        | ua.BrowseResultMask.NodeClass
        | ua.BrowseResultMask.BrowseName
        | ua.BrowseResultMask.TypeDefinition
    )
    return description


def _parts(rows: Sequence[T], step: int) -> list[Sequence[T]]:
    return [rows[at : at + step] for at in range(0, len(rows), step)]
