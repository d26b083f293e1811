"""The plant's OPC UA server: tags with plant time stamps, job-order receivers, PLC handshakes.

Each change of a tag is written as its own value with its own source time stamp, so that a
monitored item with a queue sees every one. Source time stamps are whole microseconds, and rise
strictly per tag. Tags keep a short history (HistoryRead), so that a client that lost its session
can fill the hole.
"""

import asyncio
import hmac
import logging
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from asyncua import Node, Server, ua
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.history import HistoryStorageInterface

from workshop_brain.errors import SourceError
from workshop_brain.model.signal import path_part
from workshop_brain.model.state import StopReason
from workshop_brain.twin import jobs_nodeset
from workshop_brain.twin.commands import Command
from workshop_brain.twin.opcua_jobs import Handshake, JobReceiver
from workshop_brain.twin.record import NO_RECORD, Recorder
from workshop_brain.twin.sim import Changes, Field, PlantSim

NAMESPACE = "urn:workshop-brain:twin"
TAGS: dict[Field, tuple[str, ua.VariantType]] = {
    Field.STATE: ("StateCurrent", ua.VariantType.Int32),
    Field.MODE: ("UnitModeCurrent", ua.VariantType.Int32),
    Field.BLOCKED: ("Blocked", ua.VariantType.Boolean),
    Field.STARVED: ("Starved", ua.VariantType.Boolean),
    Field.PROCESSED: ("ProdProcessedCount", ua.VariantType.Int64),
    Field.DEFECTIVE: ("ProdDefectiveCount", ua.VariantType.Int64),
    Field.STOP_REASON: ("StopReason", ua.VariantType.Int32),
    Field.INFEED_LEVEL: ("InfeedLevel", ua.VariantType.Int32),
    Field.JOB: ("JobOrder", ua.VariantType.String),
    Field.SERIAL: ("Serial", ua.VariantType.String),
}
ALARM = "AlarmCode"
PIECES = ua.EUInformation(
    NamespaceUri="http://www.opcfoundation.org/UA/units/un/cefact",
    UnitId=0x483837,  # the letters of the code, "H87", as OPC 10000-8 builds the number
    DisplayName=ua.LocalizedText("pcs"),
    Description=ua.LocalizedText("piece"),
)
HISTORY_PER_TAG = 256
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ALARMS = frozenset(
    {StopReason.BREAKDOWN, StopReason.QUALITY_STOP, StopReason.TOOL_CHANGE, StopReason.MICRO_STOP}
)
_ALARM_BASE = 1000
_YIELD_EVERY = 200

log = logging.getLogger(__name__)


def alarm_code(stop_reason: int) -> int:
    """Alarm number of an upstream unit for its stop reason: 1000 + reason for alarms, else 0."""
    return _ALARM_BASE + stop_reason if stop_reason in _ALARMS else 0


def source_time(time_us: int) -> datetime:
    """Microseconds since the epoch as the UTC date-time that the server publishes."""
    return _EPOCH + timedelta(microseconds=time_us)


class _Users:
    """One user name with a password, or everybody when no name is set."""

    def __init__(self, name: str, password: str) -> None:
        self._name, self._password = name, password

    def get_user(
        self,
        iserver: Any,
        username: str | None = None,
        password: str | bytes | None = None,
        certificate: Any = None,
    ) -> Any:
        if not self._name:
            return User(role=UserRole.User)
        given = password.decode() if isinstance(password, bytes) else password or ""
        same = hmac.compare_digest((username or "").encode(), self._name.encode())
        if same and hmac.compare_digest(given.encode(), self._password.encode()):
            return User(role=UserRole.User, name=self._name)
        return None


class TagHistory(HistoryStorageInterface):  # type: ignore[misc]
    """The last values of every tag in memory, as (microseconds, value)."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[ua.NodeId, tuple[ua.VariantType, deque[tuple[int, Any]]]] = {}

    async def init(self) -> None:
        """Nothing to open."""

    async def stop(self) -> None:
        """Nothing to close."""

    def track(self, nodeid: ua.NodeId, kind: ua.VariantType) -> deque[tuple[int, Any]]:
        """Start keeping a tag; its writer appends to the returned queue."""
        queue: deque[tuple[int, Any]] = deque(maxlen=HISTORY_PER_TAG)
        self.rows[nodeid] = (kind, queue)
        return queue

    async def read_node_history(
        self, node_id: ua.NodeId, start: datetime | None, end: datetime | None, nb_values: int
    ) -> tuple[list[ua.DataValue], datetime | None]:
        """Values in ``[start, end]``, oldest first (newest first when end lies before start)."""
        if node_id not in self.rows:
            return [], None
        kind, queue = self.rows[node_id]
        unset = ua.get_win_epoch()
        low = None if start in (None, unset) else start
        high = None if end in (None, unset) else end
        backward = low is None or (high is not None and low > high)
        if backward:
            low, high = high, low
        out = [
            ua.DataValue(ua.Variant(value, kind), SourceTimestamp=source_time(us))
            for us, value in queue
            if (low is None or source_time(us) >= low) and (high is None or source_time(us) <= high)
        ]
        if backward:
            out.reverse()
        return out[:nb_values] if nb_values else out, None


class PlantServer:
    """OPC UA server over one simulated plant.

    Parameters
    ----------
    apply
        Runs a command at the plant's present instant; "" or the reason of refusal.
    port
        TCP port on loopback; 0 takes a free one, see ``url`` after ``start``.
    """

    def __init__(
        self,
        sim: PlantSim,
        apply: Callable[[Command], Awaitable[str]],
        *,
        port: int,
        host: str = "127.0.0.1",
        user: str = "",
        password: str = "",
        record: Recorder = NO_RECORD,
    ) -> None:
        self._sim, self._apply, self._record = sim, apply, record
        self._host, self._port = host, port
        self._server = Server(user_manager=_Users(user, password))
        if user:
            self._server.set_identity_tokens([ua.UserNameIdentityToken])
        self._ns = 2
        self._history = TagHistory()
        self._folders: dict[str, Node] = {}
        self._tags: list[tuple[_Tag, ...]] = []
        self._alarms: dict[int, _Tag] = {}
        self._receivers: list[JobReceiver] = []

    @property
    def url(self) -> str:
        """Endpoint of the running server."""
        return f"opc.tcp://{self._host}:{self._port}/workshop"

    @property
    def tag_count(self) -> int:
        """Number of tags, handshake and job nodes not counted."""
        return sum(len(row) for row in self._tags) + len(self._alarms)

    async def start(self) -> None:
        """Build the address space and listen; SourceError when the port is taken."""
        server = self._server
        try:
            socket.create_server((self._host, self._port)).close()
        except OSError as error:  # known before seconds go into the address space
            raise self._taken(error) from error
        server.iserver.history_manager.set_storage(self._history)
        await server.init()
        server.set_endpoint(self.url)
        server.set_server_name("Workshop Brain simulated plant")
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        await server.set_application_uri("urn:workshop-brain:twin:server")
        self._ns = await server.register_namespace(NAMESPACE)
        jobs_ns = await jobs_nodeset.build(server)
        await self._build_tags()
        for center in self._sim.plant.work_centers:
            root = f"{self._sim.plant.site}/{center.area}/{center.id}"
            parent = await self._folder(root)
            receiver = JobReceiver(server, self._sim, center.id, self._apply, self._ns, jobs_ns)
            await receiver.build(parent, root)
            handshake = Handshake(server, self._sim, center.id, receiver.run, self._ns)
            await handshake.build(parent, root)
            self._receivers.append(receiver)
        try:
            await server.start()
        except OSError as error:
            raise self._taken(error) from error
        if self._port == 0:
            self._port = server.bserver.port

    def _taken(self, error: OSError) -> SourceError:
        return SourceError(
            f"OPC UA port {self._port} on {self._host} cannot be opened: {error}; "
            "choose another with --opcua-port"
        )

    async def stop(self) -> None:
        """Close all sessions and the port."""
        if self._server.bserver is not None:
            await self._server.stop()

    async def _folder(self, path: str) -> Node:
        """The folder of a path below Objects/Plant, made with its parents when missing."""
        if path in self._folders:
            return self._folders[path]
        if not path:
            parent, name, nodeid = self._server.nodes.objects, "Plant", "Plant"
        else:
            above, _, name = path.rpartition("/")
            parent, nodeid = await self._folder(above), path
        folder = await parent.add_folder(
            ua.NodeId(nodeid, self._ns), ua.QualifiedName(name, self._ns)
        )
        self._folders[path] = folder
        return folder

    async def _build_tags(self) -> None:
        sim, at_us = self._sim, self._sim.now_ns // 1000
        levels = {
            Field.STATE: sim.state, Field.MODE: sim.mode, Field.BLOCKED: sim.blocked,
            Field.STARVED: sim.starved, Field.PROCESSED: sim.processed,
            Field.DEFECTIVE: sim.defective, Field.STOP_REASON: sim.stop_reason,
            Field.INFEED_LEVEL: sim.infeed_level,
        }  # fmt: skip
        capacity = sim.infeed_capacity
        sim.drain_changes()  # the arrays read below already contain them
        for device in sim.devices:
            root = device.path.split("/", 1)[1]
            folder = await self._folder(root)
            row = []
            for field, (name, kind) in TAGS.items():
                if field is Field.JOB:
                    value: Any = sim.job(device.index)
                elif field is Field.SERIAL:
                    value = sim.serial(device.index)
                else:
                    value = levels[field][device.index].item()
                row.append(await self._tag(folder, root, name, kind, value, at_us))
            self._tags.append(tuple(row))
            await self._describe(row, int(capacity[device.index]))
            if not device.counted:
                code = alarm_code(int(sim.stop_reason[device.index]))
                kind = ua.VariantType.Int32
                tag = await self._tag(folder, root, ALARM, kind, code, at_us)
                self._alarms[device.index] = tag

    async def _describe(self, row: Sequence["_Tag"], capacity: int) -> None:
        """Unit of the tags that count pieces; range of the infeed where a buffer stands before."""
        counts = (Field.PROCESSED, Field.DEFECTIVE, Field.INFEED_LEVEL)
        items = [_property_item(row[f].nodeid, "EngineeringUnits", PIECES) for f in counts]
        if capacity:
            span = ua.Range(Low=0.0, High=float(capacity))
            items.append(_property_item(row[Field.INFEED_LEVEL].nodeid, "EURange", span))
        for result in await self._server.iserver.isession.add_nodes(items):
            result.StatusCode.check()

    async def _tag(
        self, folder: Node, root: str, name: str, kind: ua.VariantType, value: Any, at_us: int
    ) -> "_Tag":
        nodeid = ua.NodeId(f"{root}/{name}", self._ns)
        value = _typed(kind, value)
        item = _variable_item(folder.nodeid, nodeid, ua.QualifiedName(name, self._ns), kind, value)
        results = await self._server.iserver.isession.add_nodes([item])
        results[0].StatusCode.check()
        signal = self._record.declare(f"{root}/{path_part(name)}")
        tag = _Tag(nodeid, kind, signal, self._history.track(nodeid, kind))
        await self._write(tag, at_us, value)
        return tag

    async def _write(self, tag: "_Tag", time_us: int, value: Any) -> None:
        time_us = max(time_us, tag.last_us + 1)
        tag.last_us = time_us
        tag.history.append((time_us, value))
        data = ua.DataValue(
            ua.Variant(value, tag.kind), ua.StatusCode(), SourceTimestamp=source_time(time_us)
        )
        status = await self._server.iserver.aspace.write_attribute_value(
            tag.nodeid, ua.AttributeIds.Value, data
        )
        if not status.is_good():
            raise SourceError(f"OPC UA tag {tag.nodeid.Identifier}: write of {value!r}: {status}")
        if isinstance(value, str):
            self._record.text(tag.signal, time_us * 1000, value)
        else:
            self._record.value(tag.signal, time_us * 1000, float(value))

    async def push(self, changes: Changes) -> None:
        """Write changes of the plant to their tags, in time order."""
        texts = self._sim.texts
        rows = zip(
            (changes.time_ns // 1000).tolist(),
            changes.device.tolist(),
            changes.field.tolist(),
            changes.value.tolist(),
            strict=True,
        )
        for n, (time_us, device, field, raw) in enumerate(rows, 1):
            tag = self._tags[device][field]
            text = field in (Field.JOB, Field.SERIAL)
            value = texts[int(raw)] if text else _typed(tag.kind, raw)
            await self._write(tag, time_us, value)
            if field == Field.STOP_REASON and device in self._alarms:
                alarm, code = self._alarms[device], alarm_code(int(raw))
                if not alarm.history or alarm.history[-1][1] != code:
                    await self._write(alarm, time_us, code)
            if n % _YIELD_EVERY == 0:
                await asyncio.sleep(0)

    async def refresh_jobs(self) -> None:
        """Publish job lists that have changed."""
        for receiver in self._receivers:
            await receiver.refresh()


class _Tag:
    """One variable: where it is, how its last value was stamped, and its history."""

    __slots__ = ("history", "kind", "last_us", "nodeid", "signal")

    def __init__(
        self,
        nodeid: ua.NodeId,
        kind: ua.VariantType,
        signal: int,
        history: deque[tuple[int, Any]],
    ) -> None:
        self.nodeid, self.kind, self.signal, self.history = nodeid, kind, signal, history
        self.last_us = 0


def _variable_item(
    parent: ua.NodeId, nodeid: ua.NodeId, name: ua.QualifiedName, kind: ua.VariantType, value: Any
) -> ua.AddNodesItem:
    """A read-only variable with history, complete in one service call."""
    levels = (ua.AccessLevel.CurrentRead, ua.AccessLevel.HistoryRead)
    attributes = ua.VariableAttributes()
    attributes.DisplayName = attributes.Description = ua.LocalizedText(name.Name)
    attributes.DataType = ua.NodeId(kind.value, 0)
    attributes.Value = ua.Variant(value, kind)
    attributes.ValueRank = ua.ValueRank.Scalar
    attributes.ArrayDimensions = None
    attributes.AccessLevel = attributes.UserAccessLevel = sum(1 << v.value for v in levels)
    attributes.WriteMask = attributes.UserWriteMask = 0
    attributes.Historizing = True
    item = ua.AddNodesItem()
    item.RequestedNewNodeId = nodeid
    item.BrowseName = name
    item.NodeClass = ua.NodeClass.Variable
    item.ParentNodeId = parent
    item.ReferenceTypeId = ua.NodeId(ua.ObjectIds.HasComponent, 0)
    item.TypeDefinition = ua.NodeId(ua.ObjectIds.BaseDataVariableType, 0)
    item.NodeAttributes = attributes
    return item


def _property_item(parent: ua.NodeId, name: str, value: Any) -> ua.AddNodesItem:
    """A property of a tag, such as its range, whose value is a structure."""
    attributes = ua.VariableAttributes()
    attributes.DisplayName = attributes.Description = ua.LocalizedText(name)
    attributes.DataType = ua.NodeId(getattr(ua.ObjectIds, type(value).__name__), 0)
    attributes.Value = ua.Variant(value, ua.VariantType.ExtensionObject)
    attributes.ValueRank = ua.ValueRank.Scalar
    attributes.ArrayDimensions = None
    attributes.AccessLevel = attributes.UserAccessLevel = 1 << ua.AccessLevel.CurrentRead.value
    attributes.WriteMask = attributes.UserWriteMask = 0
    item = ua.AddNodesItem()
    item.RequestedNewNodeId = ua.NodeId(f"{parent.Identifier}/{name}", parent.NamespaceIndex)
    item.BrowseName = ua.QualifiedName(name, 0)
    item.NodeClass = ua.NodeClass.Variable
    item.ParentNodeId = parent
    item.ReferenceTypeId = ua.NodeId(ua.ObjectIds.HasProperty, 0)
    item.TypeDefinition = ua.NodeId(ua.ObjectIds.PropertyType, 0)
    item.NodeAttributes = attributes
    return item


def _typed(kind: ua.VariantType, value: Any) -> Any:
    if kind == ua.VariantType.String:
        return str(value)
    if kind == ua.VariantType.Boolean:
        return bool(value)
    return int(np.int64(value))
