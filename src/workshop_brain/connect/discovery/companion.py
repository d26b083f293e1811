"""Companion specifications by the namespace of their types, and what they mean here."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from workshop_brain.connect.discovery.propose import Companion

_OPC = "http://opcfoundation.org/UA/"
SPECIFICATIONS: dict[str, str] = {
    f"{_OPC}Machinery/": "machinery",
    f"{_OPC}Machinery/Jobs/": "machinery_jobs",
    f"{_OPC}Machinery/ProcessValues/": "machinery",
    f"{_OPC}Machinery/Result/": "machinery_result",
    f"{_OPC}PackML/": "packml",
    f"{_OPC}MachineTool/": "machine_tool",
    f"{_OPC}CNC": "machine_tool",
    f"{_OPC}CNC/": "machine_tool",
    f"{_OPC}IJT/": "tightening",
    f"{_OPC}IJT/Base/": "tightening",
    f"{_OPC}IJT/Tightening/": "tightening",
    f"{_OPC}ISA95-JOBCONTROL": "job_control",
    f"{_OPC}ISA95-JOBCONTROL/": "job_control",
    f"{_OPC}ISA95-JOBCONTROL_V2": "job_control",
    f"{_OPC}ISA95-JOBCONTROL_V2/": "job_control",
    f"{_OPC}Robotics/": "robotics",
}
"""Namespace URI to the id of the specification; the screens' words explain the ids."""

_RECEIVER = "JobOrderReceiver"
_PACK_TAGS = frozenset({"state_current", "unit_mode_current"})
_MACHINES = frozenset({"machine_tool", "packml", "tightening", "robotics"})


@dataclass(frozen=True, slots=True)
class TypedPlace:
    """An object: browse path and, of its type, namespace URI and name of the nearest type that a
    known specification defines ("" for none)."""

    browse: str
    uri: str
    type_name: str


def specification(uri: str) -> str:
    """Id of the specification of a namespace, "" when it is none of those known.

    >>> specification("http://opcfoundation.org/UA/PackML/"), specification("urn:vendor")
    ('packml', '')
    """
    return SPECIFICATIONS.get(uri, "")


def recognise(places: Iterable[TypedPlace], uris: Iterable[str]) -> list[Companion]:
    """The specifications whose types have instances; a namespace without any has no types."""
    found: dict[str, dict[str, list[str]]] = {}
    for uri in uris:
        if id := specification(uri):
            found.setdefault(id, {})
    for place in places:
        if id := specification(place.uri):
            found.setdefault(id, {}).setdefault(place.type_name, []).append(place.browse)
    return [Companion(id=id, types=types) for id, types in found.items()]


def pack_tags(units_of_name: Mapping[str, list[str]]) -> Companion | None:
    """PackTags by their names alone: ``units_of_name`` is signal name to unit paths."""
    types = {name: units_of_name[name] for name in sorted(_PACK_TAGS) if name in units_of_name}
    return Companion(id="pack_tags", types=types) if "state_current" in types else None


def receivers(companions: Iterable[Companion]) -> list[str]:
    """Browse paths of the objects that take job orders."""
    return [
        browse
        for companion in companions
        for name, browses in companion.types.items()
        if _RECEIVER in name
        for browse in browses
    ]


def machines(places: Iterable[TypedPlace]) -> dict[str, str]:
    """Browse paths of the outermost machines, to the id of the specification that says so.

    Of the Machinery specification only the identification tells: what it is a part of.
    """
    typed: dict[str, str] = {}
    for place in places:
        id = specification(place.uri)
        if id in _MACHINES:
            typed.setdefault(place.browse, id)
        elif id == "machinery" and "MachineIdentification" in place.type_name:
            typed.setdefault(place.browse.rpartition("/")[0], id)
    out: dict[str, str] = {}
    for browse in sorted(typed, key=lambda b: b.count("/")):
        if not any(browse.startswith(f"{outer}/") for outer in out):
            out[browse] = typed[browse]
    out.pop("", None)
    return out


def owner(browse: str, machines: Mapping[str, str]) -> str:
    """The machine that a browse path lies in, "" for none.

    >>> owner("Machines/M1/Monitoring/Load", {"Machines/M1": "machinery"})
    'Machines/M1'
    """
    parts = browse.split("/")
    for n in range(len(parts) - 1, 0, -1):
        if (outer := "/".join(parts[:n])) in machines:
            return outer
    return ""
