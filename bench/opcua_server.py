"""An OPC UA server for load: real channel (no security), real services, answers encoded beforehand.

    python -m bench.opcua_server --port 48400 --items 12000 --hz 4

Every variable counts ticks: its value is the number of the tick (a Boolean: odd or even), its
source time is the tick's. A PublishResponse is a block of bytes into which values and times are
written by columns. ``stop`` on stdin ends the ticks and prints the last one. It answers what a
client needs to browse, read and subscribe, and nothing else; it is no server for a plant.
"""

import argparse
import asyncio
import struct
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.object_ids import ObjectIdNames
from asyncua.ua.ua_binary import nodeid_from_binary, struct_from_binary, struct_to_binary
from numpy.typing import NDArray

Ids, Classes = ua.ObjectIds, ua.NodeClass
_TICKS_1601 = 116_444_736_000_000_000
_CHUNK = 65_535
_MOST_WAITING = 400
_KEPT = 50
_KINDS = ("Double",) * 7 + ("Int32", "Float", "Boolean")
_SCALARS = {"Double": (11, "<f8"), "Int32": (6, "<i4"), "Float": (10, "<f4"), "Boolean": (1, "u1")}
_VARIABLES, _UNITS, _ZONES = 1_000_000, 10_000, 1_000
_PER_UNIT, _PER_ZONE = 100, 20
_TOP = ("Plant", "works", "assembly", "asm1")


def ticks_100ns(time_ns: int) -> int:
    """OPC UA's time of a Unix time."""
    return time_ns // 100 + _TICKS_1601


def kind_of(item: int) -> str:
    """Data type of a variable: 70 % Double, 10 % each of Int32, Float, Boolean."""
    return _KINDS[item % 10]


@dataclass(slots=True)
class Block:
    """The encoded notifications of some items of one type."""

    rows: NDArray[np.void]

    def bytes_at(self, tick: int, stamp: int) -> bytes:
        """With the value and the time of a tick."""
        value = self.rows["value"]
        value[:] = tick % 2 if value.dtype == np.uint8 else tick
        self.rows["source"] = stamp
        self.rows["server"] = stamp
        return self.rows.tobytes()


@dataclass(slots=True)
class Subscription:
    """One subscription: its blocks by message, what waits, what can be sent again."""

    id: int
    keep_alive_s: float
    most: int
    handles: dict[str, list[int]] = field(default_factory=dict)
    messages: list[tuple[int, list[Block]]] = field(default_factory=list)
    waiting: deque[tuple[int, bytes]] = field(default_factory=deque)
    sent: dict[int, bytes] = field(default_factory=dict)
    sequence: int = 1
    dropped: int = 0
    sent_at: float = 0.0

    def prepare(self) -> None:
        """Lay out the messages of one tick."""
        self.messages = []
        room, blocks = self.most, []
        for kind, handles in self.handles.items():
            at = 0
            while at < len(handles):
                part = handles[at : at + room]
                blocks.append(_block(kind, part))
                at, room = at + len(part), room - len(part)
                if not room:
                    self.messages.append((self.most, blocks))
                    room, blocks = self.most, []
        if blocks:
            self.messages.append((self.most - room, blocks))

    def tick(self, number: int, now_ns: int) -> None:
        """Queue the messages of a tick; the oldest falls out of a full queue."""
        if not self.messages:
            self.prepare()
        stamp = ticks_100ns(now_ns)
        for count, blocks in self.messages:
            items = b"".join(block.bytes_at(number, stamp) for block in blocks)
            change = struct.pack("<i", count) + items + struct.pack("<i", -1)
            head = struct.pack("<Iqi", self.sequence, stamp, 1)
            notice = b"\x01\x00" + struct.pack("<HBi", 811, 1, len(change)) + change
            self.waiting.append((self.sequence, head + notice))
            self.sequence = self.sequence % 0xFFFFFFFF + 1
            if len(self.waiting) > _MOST_WAITING:
                self.waiting.popleft()
                self.dropped += 1


def _block(kind: str, handles: list[int]) -> Block:
    code, scalar = _SCALARS[kind]
    layout = [("handle", "<u4"), ("mask", "u1"), ("code", "u1"), ("value", scalar),
              ("source", "<i8"), ("server", "<i8")]  # fmt: skip
    rows = np.zeros(len(handles), np.dtype(layout))
    rows["handle"], rows["mask"], rows["code"] = handles, 0x0D, code
    return Block(rows)


@dataclass(slots=True)
class Plant:
    """The address space, by arithmetic: nothing is kept per node."""

    items: int
    per_subscription: int = 0
    per_call: int = 1000
    loses: int = 0
    """Every so many ticks the messages are lost, also for Republish; 0: never."""

    def children(self, node: ua.NodeId) -> list[tuple[int, str, Any]]:
        """(identifier, browse name, class) below a node of namespace 2, or below Objects."""
        at = node.Identifier if node.NamespaceIndex == 2 else 0
        units = -(-self.items // _PER_UNIT)
        if node.NamespaceIndex == 0:
            return [(1, _TOP[0], Classes.Object)] if at == 0 and node.Identifier == 85 else []
        if at < len(_TOP):
            return [(at + 1, _TOP[at], Classes.Object)]
        if at == len(_TOP):
            zones = -(-units // _PER_ZONE)
            return [(_ZONES + z, f"Z{z}", Classes.Object) for z in range(zones)]
        if at < _UNITS:
            first = (at - _ZONES) * _PER_ZONE
            last = min(first + _PER_ZONE, units)
            return [(_UNITS + u, f"U{u}", Classes.Object) for u in range(first, last)]
        if at < _VARIABLES:
            first = (at - _UNITS) * _PER_UNIT
            last = min(first + _PER_UNIT, self.items)
            return [(_VARIABLES + v, f"Tick{v}", Classes.Variable) for v in range(first, last)]
        return []

    def attribute(self, node: ua.NodeId, attribute: int, tick: int) -> ua.Variant | None:
        """A node's attribute, None when there is none."""
        if node.NamespaceIndex == 0:
            return self._server(node.Identifier)
        is_variable = node.Identifier >= _VARIABLES
        if attribute == ua.AttributeIds.BrowseName:
            return ua.Variant(ua.QualifiedName("x", 2), ua.VariantType.QualifiedName)
        if attribute == ua.AttributeIds.NodeClass:
            number = Classes.Variable if is_variable else Classes.Object
            return ua.Variant(int(number), ua.VariantType.Int32)
        if not is_variable:
            return None
        kind = kind_of(node.Identifier - _VARIABLES)
        if attribute == ua.AttributeIds.DataType:
            return ua.Variant(ua.NodeId(getattr(Ids, kind)), ua.VariantType.NodeId)
        if attribute == ua.AttributeIds.ValueRank:
            return ua.Variant(-1, ua.VariantType.Int32)
        if attribute == ua.AttributeIds.UserAccessLevel:
            return ua.Variant(1, ua.VariantType.Byte)
        if attribute != ua.AttributeIds.Value:
            return None
        value = {"Boolean": bool(tick % 2), "Int32": tick}.get(kind, float(tick))
        return ua.Variant(value, ua.VariantType[kind])

    def _server(self, identifier: int) -> ua.Variant | None:
        if identifier == Ids.Server_ServerStatus_State:
            return ua.Variant(0, ua.VariantType.Int32)
        if identifier == Ids.Server_NamespaceArray:
            uris = ["http://opcfoundation.org/UA/", "urn:bench:server", "urn:bench:plant"]
            return ua.Variant(uris, ua.VariantType.String)
        limits = {
            Ids.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead: self.per_call,
            Ids.Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse: self.per_call,
            Ids.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall: self.per_call,
            Ids.Server_ServerCapabilities_MaxMonitoredItemsPerSubscription: self.per_subscription,
        }
        if identifier in limits:
            return ua.Variant(limits[identifier], ua.VariantType.UInt32)
        return None


@dataclass(slots=True, eq=False)
class LoadServer:
    """Serves one plant to any number of clients, each with subscriptions of its own."""

    plant: Plant
    hz: float
    tick: int = 0
    refused: int = 0
    """Requests that were larger than the limits allow."""
    _links: "set[Link]" = field(default_factory=set)
    _ids: int = 0

    def new_id(self) -> int:
        """A number for a subscription or a session."""
        self._ids += 1
        return self._ids

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        link = Link(self, writer)
        self._links.add(link)
        try:
            await link.run(reader)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self._links.discard(link)
            writer.close()

    async def run(self, stop: asyncio.Event) -> None:
        """Tick until told to stop, then go on answering."""
        start = time.monotonic()
        while not stop.is_set():
            self.tick += 1
            now = time.time_ns()
            for link in self._links:
                link.on_tick(self.tick, now)
            wait = start + self.tick / self.hz - time.monotonic()
            await asyncio.sleep(max(0.0, wait))
        while True:
            await asyncio.sleep(0.25)
            for link in self._links:
                link.on_idle()

    @property
    def dropped(self) -> int:
        """Messages that fell out of full queues."""
        return sum(s.dropped for link in self._links for s in link.subscriptions.values())


@dataclass(slots=True, eq=False)
class Link:
    """One connection: channel, session, subscriptions."""

    server: LoadServer
    writer: asyncio.StreamWriter
    subscriptions: dict[int, Subscription] = field(default_factory=dict)
    _requests: deque[tuple[int, int]] = field(default_factory=deque)
    _sequence: int = 0

    async def run(self, reader: asyncio.StreamReader) -> None:
        """Read messages until the end."""
        parts: list[bytes] = []
        while True:
            head = await reader.readexactly(8)
            kind, final, size = head[:3], head[3:4], struct.unpack_from("<I", head, 4)[0]
            body = await reader.readexactly(size - 8)
            if kind == b"HEL":
                ack = struct.pack("<5I", 0, _CHUNK, _CHUNK, 0, 0)
                self.writer.write(b"ACKF" + struct.pack("<I", 8 + len(ack)) + ack)
            elif kind == b"OPN":
                self._open(body)
            elif kind == b"MSG":
                parts.append(body[16:])
                if final == b"F":
                    self._answer(struct.unpack_from("<I", body, 12)[0], b"".join(parts))
                    parts.clear()
            else:
                return
            await self.writer.drain()

    def _open(self, body: bytes) -> None:
        at = 4
        for _ in range(3):
            n = struct.unpack_from("<i", body, at)[0]
            at += 4 + max(n, 0)
        request_id = struct.unpack_from("<I", body, at + 4)[0]
        request = struct_from_binary(ua.OpenSecureChannelRequest, Buffer(body[at + 8 :]))
        response = ua.OpenSecureChannelResponse()
        response.ResponseHeader.RequestHandle = request.RequestHeader.RequestHandle
        token = response.Parameters.SecurityToken
        token.ChannelId = token.TokenId = 1
        token.CreatedAt = ua.uatypes.datetime.now(ua.uatypes.timezone.utc)
        token.RevisedLifetime = request.Parameters.RequestedLifetime
        response.Parameters.ServerNonce = b""
        uri = b"http://opcfoundation.org/UA/SecurityPolicy#None"
        head = struct.pack("<Ii", 1, len(uri)) + uri + struct.pack("<ii", -1, -1)
        self._sequence += 1
        head += struct.pack("<II", self._sequence, request_id)
        content = head + struct_to_binary(response)
        self.writer.write(b"OPNF" + struct.pack("<I", 8 + len(content)) + content)

    def _send(self, request_id: int, content: bytes) -> None:
        room = _CHUNK - 24
        out = []
        for at in range(0, len(content), room):
            part = content[at : at + room]
            self._sequence += 1
            kind = b"MSGF" if at + room >= len(content) else b"MSGC"
            head = struct.pack("<5I", 24 + len(part), 1, 1, self._sequence, request_id)
            out += [kind, head, part]
        self.writer.write(b"".join(out))

    def _answer(self, request_id: int, content: bytes) -> None:
        number = nodeid_from_binary(Buffer(content)).Identifier
        name = ObjectIdNames[number].removesuffix("_Encoding_DefaultBinary")
        request = struct_from_binary(getattr(ua, name), Buffer(content))
        handle = request.RequestHeader.RequestHandle
        if name == "PublishRequest":
            self._publish(request_id, handle, request)
            return
        how = getattr(self, f"_on_{name.removesuffix('Request').lower()}", None)
        try:
            if how is None:
                raise ua.UaStatusCodeError(ua.StatusCodes.BadServiceUnsupported)
            response = how(getattr(request, "Parameters", None))
        except ua.UaStatusCodeError as error:
            response = ua.ServiceFault()
            response.ResponseHeader.ServiceResult = ua.StatusCode(error.code)
        if isinstance(response, bytes):
            self._send(request_id, response)
            return
        response.ResponseHeader.RequestHandle = handle
        self._send(request_id, struct_to_binary(response))

    # --- publishing ---

    def _publish(self, request_id: int, handle: int, request: Any) -> None:
        for ack in request.Parameters.SubscriptionAcknowledgements or ():
            subscription = self.subscriptions.get(ack.SubscriptionId)
            if subscription is not None:
                subscription.sent.pop(ack.SequenceNumber, None)
        self._requests.append((request_id, handle))
        self._deliver()

    def on_tick(self, number: int, now_ns: int) -> None:
        """The variables have changed."""
        loses = self.server.plant.loses
        for subscription in self.subscriptions.values():
            if subscription.handles:
                subscription.tick(number, now_ns)
                if loses and number % loses == 0:
                    subscription.waiting.clear()
        self._deliver()

    def _deliver(self) -> None:
        for subscription in self.subscriptions.values():
            while subscription.waiting and self._requests:
                sequence, message = subscription.waiting.popleft()
                self._notify(subscription, message, more=bool(subscription.waiting))
                subscription.sent[sequence] = message
                while len(subscription.sent) > _KEPT:
                    subscription.sent.pop(next(iter(subscription.sent)))

    def on_idle(self) -> None:
        """Send keep-alives where they are due."""
        self._deliver()
        for s in self.subscriptions.values():
            due = time.monotonic() - s.sent_at > s.keep_alive_s
            if due and self._requests and not s.waiting:
                stamp = ticks_100ns(time.time_ns())
                self._notify(s, struct.pack("<Iqi", s.sequence, stamp, 0), more=False)

    def _notify(self, subscription: Subscription, message: bytes, *, more: bool) -> None:
        request_id, handle = self._requests.popleft()
        subscription.sent_at = time.monotonic()
        head = b"\x01\x00" + struct.pack(
            "<HqIIBi", 829, ticks_100ns(time.time_ns()), handle, 0, 0, 0
        )
        numbers = list(subscription.sent)
        named = struct.pack(f"<Ii{len(numbers)}IB", subscription.id, len(numbers), *numbers, more)
        end = struct.pack("<ii", -1, -1)
        self._send(request_id, head + b"\x00\x00\x00" + named + message + end)

    # --- services ---

    def _on_getendpoints(self, _parameters: Any) -> Any:
        response = ua.GetEndpointsResponse()
        response.Endpoints = [_endpoint()]
        return response

    def _on_createsession(self, parameters: Any) -> Any:
        response = ua.CreateSessionResponse()
        result = response.Parameters
        result.SessionId = ua.NodeId(self.server.new_id(), 1)
        result.AuthenticationToken = ua.NodeId(self.server.new_id(), 1)
        result.RevisedSessionTimeout = parameters.RequestedSessionTimeout
        result.ServerNonce = bytes(32)
        result.ServerEndpoints = [_endpoint()]
        return response

    def _on_activatesession(self, _parameters: Any) -> Any:
        response = ua.ActivateSessionResponse()
        response.Parameters.ServerNonce = bytes(32)
        return response

    def _on_closesession(self, _parameters: Any) -> Any:
        return ua.CloseSessionResponse()

    def _limited(self, count: int) -> None:
        if count > self.server.plant.per_call:
            self.server.refused += 1
            raise ua.UaStatusCodeError(ua.StatusCodes.BadTooManyOperations)

    def _on_read(self, parameters: Any) -> Any:
        self._limited(len(parameters.NodesToRead))
        response = ua.ReadResponse()
        for wanted in parameters.NodesToRead:
            found = self.server.plant.attribute(wanted.NodeId, wanted.AttributeId, self.server.tick)
            code = ua.StatusCodes.BadAttributeIdInvalid
            response.Results.append(
                ua.DataValue(StatusCode=ua.StatusCode(code)) if found is None
                else ua.DataValue(found)
            )  # fmt: skip
        return response

    def _on_browse(self, parameters: Any) -> Any:
        self._limited(len(parameters.NodesToBrowse))
        response = ua.BrowseResponse()
        for wanted in parameters.NodesToBrowse:
            result = ua.BrowseResult()
            result.References = [
                _reference(*child) for child in self.server.plant.children(wanted.NodeId)
            ]
            response.Results.append(result)
        return response

    def _on_createsubscription(self, parameters: Any) -> Any:
        response = ua.CreateSubscriptionResponse()
        result = response.Parameters
        id = result.SubscriptionId = self.server.new_id()
        interval = max(parameters.RequestedPublishingInterval, 20.0)
        result.RevisedPublishingInterval = interval
        result.RevisedLifetimeCount = parameters.RequestedLifetimeCount
        result.RevisedMaxKeepAliveCount = parameters.RequestedMaxKeepAliveCount
        keep_alive_s = interval * parameters.RequestedMaxKeepAliveCount / 1000
        most = parameters.MaxNotificationsPerPublish or 1_000_000
        self.subscriptions[id] = Subscription(id, keep_alive_s, most)
        return response

    def _on_createmonitoreditems(self, parameters: Any) -> Any:
        self._limited(len(parameters.ItemsToCreate))
        subscription = self.subscriptions[parameters.SubscriptionId]
        response = ua.CreateMonitoredItemsResponse()
        most = self.server.plant.per_subscription
        have = sum(len(handles) for handles in subscription.handles.values())
        subscription.messages = []
        for wanted in parameters.ItemsToCreate:
            result = ua.MonitoredItemCreateResult()
            if most and have >= most:
                result.StatusCode = ua.StatusCode(ua.StatusCodes.BadTooManyMonitoredItems)
            else:
                have += 1
                kind = kind_of(wanted.ItemToMonitor.NodeId.Identifier - _VARIABLES)
                given = wanted.RequestedParameters
                subscription.handles.setdefault(kind, []).append(given.ClientHandle)
                result.MonitoredItemId = have
                result.RevisedSamplingInterval = given.SamplingInterval
                result.RevisedQueueSize = given.QueueSize
            response.Results.append(result)
        return response

    def _on_republish(self, parameters: Any) -> Any:
        subscription = self.subscriptions.get(parameters.SubscriptionId)
        if subscription is None:
            raise ua.UaStatusCodeError(ua.StatusCodes.BadSubscriptionIdInvalid)
        message = subscription.sent.get(parameters.RetransmitSequenceNumber)
        if message is None:
            raise ua.UaStatusCodeError(ua.StatusCodes.BadMessageNotAvailable)
        head = struct.pack("<HqIIBi", 835, ticks_100ns(time.time_ns()), 0, 0, 0, 0)
        return b"\x01\x00" + head + b"\x00\x00\x00" + message

    def _on_deletesubscriptions(self, parameters: Any) -> Any:
        response = ua.DeleteSubscriptionsResponse()
        for id in parameters.SubscriptionIds:
            self.subscriptions.pop(id, None)
            response.Results.append(ua.StatusCode())
        return response


def _endpoint() -> ua.EndpointDescription:
    endpoint = ua.EndpointDescription()
    endpoint.EndpointUrl = "opc.tcp://127.0.0.1"
    endpoint.SecurityMode = ua.MessageSecurityMode.None_
    endpoint.SecurityPolicyUri = "http://opcfoundation.org/UA/SecurityPolicy#None"
    token = ua.UserTokenPolicy()
    token.PolicyId = "anonymous"
    endpoint.UserIdentityTokens = [token]
    return endpoint


def _reference(identifier: int, name: str, node_class: Any) -> ua.ReferenceDescription:
    reference = ua.ReferenceDescription()
    reference.ReferenceTypeId = ua.NodeId(Ids.HasComponent)
    reference.IsForward = True
    reference.NodeId = ua.NodeId(identifier, 2)
    reference.BrowseName = ua.QualifiedName(name, 2)
    reference.NodeClass = node_class
    return reference


async def run(port: int, plant: Plant, hz: float) -> None:
    """Serve until stdin ends."""
    server = LoadServer(plant, hz)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", port)
    stop = asyncio.Event()
    ticking = asyncio.create_task(server.run(stop))
    print("ready", flush=True)
    async with listening:
        while line := await asyncio.to_thread(sys.stdin.readline):
            stop.set()
            if line.strip() == "stop":
                print(f"final {server.tick} dropped {server.dropped} refused {server.refused}",
                      flush=True)  # fmt: skip
    ticking.cancel()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--items", type=int, default=12_000)
    parser.add_argument("--hz", type=float, default=4.0)
    parser.add_argument("--per-subscription", type=int, default=0, help="0: no limit")
    parser.add_argument("--per-call", type=int, default=1000)
    parser.add_argument("--loses", type=int, default=0, help="lose every so many ticks")
    given = parser.parse_args()
    plant = Plant(given.items, given.per_subscription, given.per_call, given.loses)
    asyncio.run(run(given.port, plant, given.hz))


if __name__ == "__main__":
    main()
