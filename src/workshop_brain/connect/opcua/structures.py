"""What a server says of its structured data types (DataTypeDefinition, OPC UA Part 3, 8.48).

Types of the standard itself, which many servers do not describe, are taken from asyncua's classes.
"""

import dataclasses
import re
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any
from uuid import UUID

from asyncua import ua
from asyncua.client.ua_session import UaSession

from workshop_brain.connect.opcua.parts import (
    EXTENSION_OBJECT,
    OPTIONAL,
    PLAIN,
    UNION,
    VARIANT,
    Field,
    Key,
    Structure,
    Types,
)

_MOST_ROUNDS = 16
_MOST_TYPES = 5000
_BUILT_IN = 25
_ENUMERATION, _INT32 = 29, 6
# Abstract: a value of it is encoded as a Variant.
_ABSTRACT = frozenset({24, 26, 27, 28})
_FORMS = {
    ua.StructureType.Structure: PLAIN,
    ua.StructureType.StructureWithOptionalFields: OPTIONAL,
    ua.StructureType.Union: UNION,
    ua.StructureType.StructureWithSubtypedValues: PLAIN,
    ua.StructureType.UnionWithSubtypedValues: UNION,
}


def key_of(node: ua.NodeId) -> Key:
    """A NodeId as ``parts`` reads it from bytes."""
    name = node.Identifier
    return int(node.NamespaceIndex), name.bytes_le if hasattr(name, "bytes_le") else name


def node_of(key: Key) -> ua.NodeId:
    """The NodeId of a key; the opposite of ``key_of``."""
    space, name = key
    if isinstance(name, bytes) and len(name) == 16:
        return ua.NodeId(UUID(bytes_le=name), space)
    return ua.NodeId(name, space)


async def read_types(
    session: UaSession, data_types: Iterable[ua.NodeId], encodings: Sequence[ua.NodeId], step: int
) -> Types:
    """The structures among ``data_types`` and behind ``encodings``, with all that they contain.

    ``step`` is the most nodes a request may name.
    """
    by_encoding = dict(zip(encodings, await _above(session, encodings, 38, step), strict=True))
    wanted = {*data_types, *(node for node in by_encoding.values() if node is not None)}
    found: dict[Key, Any] = {}
    supers: dict[Key, Key] = {}
    out = Types()
    for _ in range(_MOST_ROUNDS):
        asked = [n for n in wanted if key_of(n) not in found and not _is_built_in(n)]
        if not asked or len(found) > _MOST_TYPES:
            break
        definitions = await _definitions(session, asked, step)
        unsaid = []
        wanted = set()
        for node, definition in zip(asked, definitions, strict=True):
            found[key_of(node)] = definition
            if isinstance(definition, ua.StructureDefinition):
                wanted |= {f.DataType for f in definition.Fields or ()}
                out.encodings[key_of(definition.DefaultEncodingId)] = key_of(node)
            elif definition is None:
                unsaid.append(node)
        for node, above in zip(unsaid, await _above(session, unsaid, 45, step), strict=True):
            if above is not None:
                supers[key_of(node)] = key_of(above)
                wanted.add(above)
    for node in by_encoding:
        above = by_encoding[node]
        out.encodings[key_of(node)] = key_of(above) if above is not None else key_of(node)
    for key, definition in found.items():
        if isinstance(definition, ua.StructureDefinition):
            structure = _structure(definition, found, supers)
            if structure is not None:
                out.structures[key] = structure
    _add_standard(out, found, encodings)
    return out


def _is_built_in(node: ua.NodeId) -> bool:
    number = node.Identifier
    return node.NamespaceIndex == 0 and isinstance(number, int) and number <= _ENUMERATION


def _structure(
    definition: ua.StructureDefinition, found: dict[Key, Any], supers: dict[Key, Key]
) -> Structure | None:
    """None when a field's type is not known: what stands behind it could not be found."""
    form = _FORMS.get(ua.StructureType(definition.StructureType))
    if form is None:
        return None
    subtyped = definition.StructureType in (
        ua.StructureType.StructureWithSubtypedValues,
        ua.StructureType.UnionWithSubtypedValues,
    )
    fields = []
    for one in definition.Fields or ():
        code, of = _type(key_of(one.DataType), found, supers)
        if code == 0 and of is None:
            return None
        if subtyped and one.IsOptional:
            code, of = (EXTENSION_OBJECT if of is not None else VARIANT), None
        rank = max(int(one.ValueRank), 1 if one.ArrayDimensions else 0, 0)
        optional = bool(one.IsOptional) and form == OPTIONAL
        fields.append(Field(str(one.Name or "_"), code, of, rank, optional))
    return Structure(tuple(fields), form)


def _type(key: Key, found: dict[Key, Any], supers: dict[Key, Key]) -> tuple[int, Key | None]:
    """(built-in type, structure) of a data type, one of them 0 or None; both when not known."""
    for _ in range(_MOST_ROUNDS):
        space, number = key
        if space == 0 and isinstance(number, int):
            if number == _ENUMERATION:
                return _INT32, None
            if number in _ABSTRACT:
                return VARIANT, None
            if number <= _BUILT_IN:
                return number, None
        definition = found.get(key)
        if isinstance(definition, ua.EnumDefinition):
            return _INT32, None
        if isinstance(definition, ua.StructureDefinition) or _standard(key) is not None:
            return 0, key
        if key not in supers:
            return 0, None
        key = supers[key]
    return 0, None


# --- types of the standard ---


def _standard(key: Key) -> type | None:
    space, number = key
    if space != 0 or not isinstance(number, int):
        return None
    known: type | None = ua.extension_objects_by_datatype.get(ua.NodeId(number))
    return known


def _add_standard(types: Types, found: Iterable[Key], encodings: Iterable[ua.NodeId]) -> None:
    """Structures that the server did not describe and asyncua knows."""
    for node in encodings:
        known = ua.extension_objects_by_typeid.get(node)
        if node.NamespaceIndex == 0 and known is not None:
            types.encodings[key_of(node)] = key_of(known.data_type)
            _add_class(types, known)
    for key in found:
        known = _standard(key)
        if known is not None:
            _add_class(types, known)
    for structure in list(types.structures.values()):
        for one in structure.fields:
            known = _standard(one.of) if one.of is not None else None
            if known is not None:
                _add_class(types, known)


def _add_class(types: Types, known: type) -> None:
    """The fields of one of asyncua's classes, and of those that it contains."""
    key = key_of(known.data_type)  # type: ignore[attr-defined]
    if key in types.structures:
        return
    fields = []
    inner: list[type] = []
    for one in dataclasses.fields(known):
        told = re.fullmatch(r"'?(list\[)?'?(?:ua\.)?(\w+)'?\]?'?", str(one.type))
        if told is None or one.name == "Encoding":
            return
        name, rank = told[2], 1 if told[1] else 0
        code, of = 0, None
        if name in ua.VariantType.__members__:
            code = int(ua.VariantType[name].value)
        else:
            kind = getattr(ua, name, None)
            if isinstance(kind, type) and issubclass(kind, Enum):
                code = _INT32
            elif isinstance(kind, type) and hasattr(kind, "data_type"):
                of = key_of(kind.data_type)
                inner.append(kind)
            else:
                return
        fields.append(Field(one.name, code, of, rank))
    types.structures[key] = Structure(tuple(fields))
    for kind in inner:
        _add_class(types, kind)


# --- asking the server ---


async def _definitions(session: UaSession, nodes: Sequence[ua.NodeId], step: int) -> list[Any]:
    """DataTypeDefinition of each node; None where the server has none."""
    out: list[Any] = []
    for at in range(0, len(nodes), step):
        parameters = ua.ReadParameters()
        parameters.TimestampsToReturn = ua.TimestampsToReturn.Neither
        parameters.NodesToRead = [
            ua.ReadValueId(NodeId=node, AttributeId=ua.AttributeIds.DataTypeDefinition)
            for node in nodes[at : at + step]
        ]
        out += [
            d.Value.Value if d.Value is not None else None for d in await session.read(parameters)
        ]
    return out


async def _above(
    session: UaSession, nodes: Sequence[ua.NodeId], reference: int, step: int
) -> list[ua.NodeId | None]:
    """The node that a reference (38 HasEncoding, 45 HasSubtype) comes from; None when there is
    none."""
    out: list[ua.NodeId | None] = []
    for at in range(0, len(nodes), step):
        parameters = ua.BrowseParameters()
        parameters.NodesToBrowse = [_upwards(n, reference) for n in nodes[at : at + step]]
        for result in await session.browse(parameters):
            found = list(result.References or [])
            out.append(found[0].NodeId if found else None)
    return out


def _upwards(node: ua.NodeId, reference: int) -> ua.BrowseDescription:
    description = ua.BrowseDescription()
    description.NodeId = node
    description.BrowseDirection = ua.BrowseDirection.Inverse
    description.ReferenceTypeId = ua.NodeId(reference)
    description.ResultMask = ua.BrowseResultMask.All
    return description
