"""B2MML operations schedules (ISA-95 part 2): orders in, plans out.

An ``OperationsRequest`` is an order: ``StartTime`` its release, ``EndTime`` its due date,
``Priority`` its weight. Each ``SegmentRequirement`` is an operation, in the order of the file, with
``Duration`` and one ``EquipmentRequirement`` whose ``EquipmentID`` are the machines that can do it.
"""

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from workshop_brain.errors import OrderError
from workshop_brain.schedule.exchange.cells import CellError, name_of, span_of
from workshop_brain.schedule.exchange.document import FORMAT, MOST_OPS

NAMESPACE = "http://www.mesa.org/xml/B2MML"
_NAMESPACES = re.compile(r"http://www\.(?:mesa|wbf)\.org/xml/[Bb]2[Mm][Mm][Ll](?:-[Vv]\d{2,4})?")
_MOST_BYTES = 64 << 20
_OVER = {"Cancelled", "Completed", "Aborted", "Closed"}
_NOT_PLANNED = ("PersonnelRequirement", "PhysicalAssetRequirement")
_LONG_TEXT = 200


def schedule_document(
    content: bytes, name: str = "", *, timezone: str = "UTC", start: str = ""
) -> dict[str, Any]:
    """The ``workshop-orders/1`` document of an OperationsSchedule, bare or in a message.

    Instants without a zone are local to ``timezone``. The origin is ``start``, else the
    earliest start that the file names. Cancelled and finished requests are left out and named.

    Raises
    ------
    OrderError
        The XML is unsafe, broken or no operations schedule, or an element cannot be kept.
    """
    return _Reader(timezone).document(_root(content, name), name, start)


def _root(content: bytes, name: str) -> Any:
    """Root element; no DTD, no entities, nothing from outside."""
    from lxml import etree

    if len(content) > _MOST_BYTES:
        raise OrderError(f"{name}: is larger than {_MOST_BYTES >> 20} MiB; split it")
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False,
        remove_comments=True, remove_pis=True, collect_ids=False,
    )  # fmt: skip
    try:
        root = etree.fromstring(content, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise OrderError(f"{name}: is no XML document: {str(error)[:_LONG_TEXT]}") from error
    if root.getroottree().docinfo.internalDTD is not None:
        raise OrderError(f"{name}: brings a DTD, which no operations schedule needs; take it out")
    return root


def _local(element: Any) -> str:
    return str(element.tag).rpartition("}")[2]


def schedules_of(root: Any, name: str) -> list[Any]:
    """The OperationsSchedule elements of a document."""
    if _local(root) == "OperationsSchedule":
        found = [root]
    elif _local(root).endswith("OperationsSchedule"):
        found = root.findall("{*}DataArea/{*}OperationsSchedule")
    else:
        found = []
    if not found:
        raise OrderError(f"{name}: is a {_local(root)[:60]}; an OperationsSchedule is needed")
    space = str(found[0].tag).rpartition("}")[0][1:]
    if not space:
        raise OrderError(f'{name}: names no namespace; write xmlns="{NAMESPACE}" at its root')
    if not _NAMESPACES.fullmatch(space):
        raise OrderError(f"{name}: namespace {space[:80]!r} is not B2MML; it is {NAMESPACE}")
    return list(found)


class _Reader:
    """Reads requests; instants stay moments until the origin is known."""

    def __init__(self, timezone: str) -> None:
        try:
            self.zone = ZoneInfo(timezone)
        except (ValueError, OSError, KeyError) as error:
            raise OrderError(f"time zone {timezone!r} is unknown; write Europe/Berlin") from error
        self.timezone = timezone
        self.notes: list[str] = []
        self.machines: dict[str, None] = {}
        self.op_ids: set[str] = set()

    def document(self, root: Any, name: str, start: str) -> dict[str, Any]:
        """All requests, counted from the origin."""
        requests = [
            request
            for schedule in schedules_of(root, name)
            for request in schedule.findall("{*}OperationsRequest")
        ]
        jobs = [job for job in (self._request(r) for r in requests) if job is not None]
        if not jobs:
            raise OrderError(f"{name}: holds no OperationsRequest that is still to be done")
        if len(self.op_ids) > MOST_OPS:
            raise OrderError(f"{name}: more than {MOST_OPS} operations; split it")
        starts = [job["release"] for job in jobs if job["release"] is not None]
        starts += [op["release"] for job in jobs for op in job["operations"] if op["release"]]
        ends = [job["due"] for job in jobs if job["due"] is not None]
        origin = self._instant(start, "start") if start else min(starts or ends or [None])
        if origin is not None and not start and not starts:
            origin = origin.replace(hour=0, minute=0, second=0)

        def tick(moment: datetime | None, default: int | None) -> int | None:
            if moment is None or origin is None:
                return default
            return math.ceil((moment - origin).total_seconds())

        for job in jobs:
            job["release"], job["due"] = tick(job["release"], 0), tick(job["due"], None)
            for op in job["operations"]:
                op["release"] = tick(op["release"], job["release"])
        return {
            "format": FORMAT,
            "name": name,
            "origin": origin.astimezone(UTC).isoformat() if origin else None,
            "timezone": self.timezone,
            "objective": "weighted_tardiness",
            "machines": [{"id": m, "work_center": m} for m in self.machines],
            "jobs": jobs,
            "notes": self.notes,
        }

    def _request(self, request: Any) -> dict[str, Any] | None:
        id = self._name(request, "ID", "OperationsRequest")
        what = f"OperationsRequest {id!r}"
        state = _text(request, "RequestState")
        if state in _OVER:
            self.notes.append(f"{what}: is {state} and was left out")
            return None
        segments = [
            leaf
            for segment in request.findall("{*}SegmentRequirement")
            for leaf in self._leaves(segment, what)
        ]
        operations: list[dict[str, Any]] = []
        ends: list[datetime] = []
        for segment in segments:
            op = self._segment(segment, id, what)
            if op is None:
                continue
            op["after"] = [[operations[-1]["id"], 0]] if operations else []
            operations.append(op)
            if end := _text(segment, "LatestEndTime"):
                ends.append(self._instant(end, f"{what}: LatestEndTime"))
        if not operations:
            raise OrderError(f"{what}: has no SegmentRequirement; an order needs its operations")
        begin, due = _text(request, "StartTime"), _text(request, "EndTime")
        return {
            "id": id,
            "product": _text(request, "OperationsDefinitionID") or id,
            "release": self._instant(begin, f"{what}: StartTime") if begin else None,
            "due": self._instant(due, f"{what}: EndTime") if due else max(ends, default=None),
            "weight": self._priority(request, what),
            "operations": operations,
        }

    def _leaves(self, segment: Any, what: str) -> list[Any]:
        """Segments without segments inside; the order of the file is the order of work."""
        inner = [*segment.findall("{*}SegmentRequirementChild"),
                 *segment.findall("{*}SegmentRequirement")]  # fmt: skip
        if not inner:
            return [segment]
        if segment.find("{*}EquipmentRequirement") is not None:
            raise OrderError(
                f"{what}: segment {_text(segment, 'ID')!r} has segments inside and equipment of "
                "its own; give the equipment to the inner ones"
            )
        return [leaf for child in inner for leaf in self._leaves(child, what)]

    def _segment(self, segment: Any, job: str, what: str) -> dict[str, Any] | None:
        id = self._name(segment, "ID", f"{what}: SegmentRequirement")
        what = f"{what}: segment {id!r}"
        if _text(segment, "SegmentState") in _OVER:
            self.notes.append(f"{what}: is {_text(segment, 'SegmentState')} and was left out")
            return None
        for tag in _NOT_PLANNED:
            if segment.find(f"{{*}}{tag}") is not None:
                self.notes.append(f"{what}: {tag} is not planned")
        duration = _text(segment, "Duration")
        if not duration:
            raise OrderError(f"{what}: Duration is missing; write it as PT30M")
        begin = _text(segment, "EarliestStartTime")
        op_id = id if id not in self.op_ids else f"{job}.{id}"
        if op_id in self.op_ids:
            raise OrderError(f"{what}: stands twice; give each segment its own ID")
        self.op_ids.add(op_id)
        seconds = self._duration(duration, what)
        return {
            "id": op_id,
            "family": None,
            "release": self._instant(begin, f"{what}: EarliestStartTime") if begin else None,
            "alternatives": [[m, seconds] for m in self._equipment(segment, what)],
        }

    def _equipment(self, segment: Any, what: str) -> list[str]:
        needs = segment.findall("{*}EquipmentRequirement")
        if len(needs) != 1:
            raise OrderError(
                f"{what}: has {len(needs)} EquipmentRequirement, one can be planned; name machines "
                "that can replace each other as several EquipmentID of one"
            )
        ids = [str(e.text or "").strip() for e in needs[0].findall("{*}EquipmentID")]
        if not ids:
            kind = _text(needs[0], "EquipmentClassID")
            given = f"only EquipmentClassID {kind!r}, whose machines" if kind else "no EquipmentID:"
            raise OrderError(f"{what}: has {given} the file does not name; write the EquipmentID")
        for id in ids:
            self._checked(id, f"{what}: EquipmentID")
            self.machines[id] = None
        return list(dict.fromkeys(ids))

    def _priority(self, request: Any, what: str) -> int:
        text = _text(request, "Priority")
        if not text:
            return 1
        if not re.fullmatch(r"\d{1,6}(?:\.0+)?", text):
            raise OrderError(f"{what}: Priority {text[:40]!r} must be a whole number of 0 or more")
        return int(float(text))

    def _name(self, element: Any, tag: str, what: str) -> str:
        return self._checked(_text(element, tag), f"{what}: {tag}")

    def _checked(self, text: str, what: str) -> str:
        try:
            return name_of(text)
        except CellError as error:
            raise OrderError(f"{what} {text[:80]!r} {error}") from None

    def _duration(self, text: str, what: str) -> int:
        try:
            if not text.startswith("P"):
                raise CellError("is no duration; write it as PT30M")
            return math.ceil(span_of(text, 0))
        except CellError as error:
            raise OrderError(f"{what}: Duration {text[:40]!r} {error}") from None

    def _instant(self, text: str, what: str) -> datetime:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise OrderError(
                f"{what} {text[:40]!r} is no instant; write it as 2026-01-05T08:00:00Z"
            ) from None
        if not 1970 <= moment.year < 2200:
            raise OrderError(f"{what} {text[:40]!r} has a year that cannot be meant")
        return moment if moment.tzinfo else moment.replace(tzinfo=self.zone)


def _text(element: Any, tag: str) -> str:
    found = element.find(f"{{*}}{tag}")
    return "" if found is None else str(found.text or "").strip()


def plan_xml(head: dict[str, str], orders: Sequence[dict[str, Any]]) -> bytes:
    """An OperationsSchedule (V7) of a plan.

    Parameters
    ----------
    head
        ``id``, ``published``, ``start``, ``end`` (ISO 8601).
    orders
        ``{"id", "product", "release", "due", "weight", "operations": [{"id", "name", "machine",
        "start", "end", "setup_start", "seconds"}]}``; instants are ISO 8601, ``due`` may be "".
    """
    from lxml import etree

    def add(parent: Any, tag: str, text: str = "") -> Any:
        element = etree.SubElement(parent, f"{{{NAMESPACE}}}{tag}")
        if text:
            element.text = "".join(c if c.isprintable() else " " for c in text)
        return element

    root = etree.Element(f"{{{NAMESPACE}}}OperationsSchedule", nsmap={None: NAMESPACE})
    add(root, "ID", head["id"])
    for tag, key in (("StartTime", "start"), ("EndTime", "end")):
        add(root, tag, head[key])
    add(root, "OperationsType", "Production")
    add(root, "ScheduleState", "Released")
    for order in orders:
        request = add(root, "OperationsRequest")
        add(request, "ID", order["id"])
        add(request, "StartTime", order["release"])
        if order["due"]:
            add(request, "EndTime", order["due"])
        add(request, "OperationsType", "Production")
        add(request, "Priority", str(order["weight"]))
        add(request, "OperationsDefinitionID", order["product"])
        for op in order["operations"]:
            segment = add(request, "SegmentRequirement")
            add(segment, "ID", op["id"])
            add(segment, "EarliestStartTime", op["start"])
            add(segment, "LatestEndTime", op["end"])
            add(segment, "OperationsType", "Production")
            add(segment, "ProcessSegmentID", op["name"])
            add(segment, "Duration", f"PT{op['seconds']}S")
            add(segment, "OperationsDefinitionID", order["product"])
            add(segment, "OperationsSegmentID", op["name"])
            parameter = add(segment, "SegmentParameter")
            add(parameter, "ID", "SetupStart")
            value = add(parameter, "Value")
            add(value, "ValueString", op["setup_start"])
            add(value, "DataType", "dateTime")
            equipment = add(segment, "EquipmentRequirement")
            add(equipment, "ID", op["machine"])
            add(equipment, "EquipmentID", op["machine"])
    text: bytes = etree.tostring(root, xml_declaration=True, encoding="UTF-8", pretty_print=True)
    return text


def plan_rows_of(content: bytes, name: str) -> list[dict[str, str]]:
    """``{"op", "machine", "start", "end", "setup_start"}`` of each segment of a plan."""
    rows = []
    for schedule in schedules_of(_root(content, name), name):
        for segment in schedule.iter("{*}SegmentRequirement"):
            need = segment.find("{*}EquipmentRequirement")
            row = {
                "op": _text(segment, "ID"),
                "machine": "" if need is None else _text(need, "EquipmentID"),
                "start": _text(segment, "EarliestStartTime"),
                "end": _text(segment, "LatestEndTime"),
            }
            for parameter in segment.findall("{*}SegmentParameter"):
                if _text(parameter, "ID") == "SetupStart":
                    row["setup_start"] = _text(parameter.find("{*}Value"), "ValueString")
            rows.append(row)
    return rows
