"""One OPC UA session that several ways out share: connects on demand, comes back after a cut."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from asyncua import Client, Node, ua
from asyncua.common.structures104 import load_custom_struct

from workshop_brain.errors import DispatchError

T = TypeVar("T")
_log = logging.getLogger(__name__)
_BACK_OFF_S = (0.2, 0.5, 1.0)

CUT = (ConnectionError, OSError, TimeoutError, asyncio.TimeoutError, ua.UaError)
"""What a lost or refused connection looks like; a bad status of one call is a ua.UaError too."""


async def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """The result of some work with the OPC UA client; TimeoutError after ``seconds``.

    ``asyncio.timeout`` does not do here: the client's own waiting answers a cancellation with a
    subclass of CancelledError, which Python 3.11 then takes for a cancellation from outside.
    """
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if not done:
        task.cancel()
        await asyncio.wait({task}, timeout=1.0)
        if task.done() and not task.cancelled():
            task.exception()
        raise TimeoutError(f"no answer within {seconds:g} s")
    if task.cancelled():
        raise ConnectionError("the session ended while waiting for an answer")
    return task.result()


class OpcUaLink:
    """A session to one endpoint, opened when first needed and again after it broke.

    Structured data types are read from the server at each connect, so that structures of any
    vendor's job control are written and read by their own definitions.
    """

    def __init__(self, url: str, *, timeout_s: float = 5.0, user: str = "", password: str = ""):
        self.url = url
        self.timeout_s = timeout_s
        self._user, self._password = user, password
        self._client: Client | None = None
        self._lock = asyncio.Lock()
        self._nodes: dict[str, Node] = {}
        self._failures = 0
        self._retry_at = 0.0

    async def client(self) -> Client:
        """The open session; DispatchError names the endpoint when it cannot be reached."""
        if self._client is not None:
            return self._client
        async with self._lock:
            return self._client or await self._connect()

    async def _connect(self) -> Client:
        await self._wait_turn()
        client = Client(self.url, timeout=self.timeout_s)
        if self._user:
            client.set_user(self._user)
            client.set_password(self._password)
        try:
            await within(max(self.timeout_s, 10.0), _open(client))
        except (*CUT, ValueError) as error:
            self._failures += 1
            await _leave(client)
            raise DispatchError(
                f"{self.url}: no session ({type(error).__name__}: {error}); "
                "check the address in [[dispatch]] and that the server runs"
            ) from error
        self._failures = 0
        self._client = client
        return client

    async def node(self, path: str) -> Node:
        """The node at a browse path below Objects; DispatchError names the part not found."""
        client = await self.client()
        known = self._nodes.get(path)
        if known is not None:
            return known
        node = client.nodes.objects
        for part in path.strip("/").split("/"):
            node = await _child(node, part, path, self.url)
        self._nodes[path] = node
        return node

    async def child(self, path: str, name: str) -> Node:
        """A component of the node at ``path`` by its browse name, whatever its namespace."""
        return await self.node(f"{path.strip('/')}/{name}")

    async def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run reads that may be repeated; one retry on a fresh session after a cut."""
        try:
            return await work()
        except CUT:
            await self.drop()
            return await work()

    async def drop(self) -> None:
        """Forget a broken session; the next use opens a new one."""
        client, self._client = self._client, None
        self._nodes.clear()
        if client is not None:
            await _leave(client)

    async def close(self) -> None:
        """Close the session."""
        await self.drop()

    async def _wait_turn(self) -> None:
        """Reconnects come at most once a second."""
        now = asyncio.get_running_loop().time()
        if now < self._retry_at:
            await asyncio.sleep(self._retry_at - now)
        delay = _BACK_OFF_S[min(self._failures, len(_BACK_OFF_S) - 1)]
        self._retry_at = asyncio.get_running_loop().time() + delay


async def _open(client: Client) -> None:
    await client.connect()
    await _load_structures(client)


async def _load_structures(client: Client) -> None:
    """Learn the server's own structures; those of the standard are known to the client.

    A structure that uses another one can only be made after it, so the rest is tried again as
    long as that gets further.
    """
    waiting = await _own_structures(client, client.nodes.base_structure_type)
    while waiting:
        left, fault = [], ""
        for node in waiting:
            try:
                await load_custom_struct(node)
            except (ua.UaError, RuntimeError, AttributeError, NameError, TypeError) as error:
                left.append(node)
                fault = f"{node.nodeid}: {error}"
        if len(left) == len(waiting):
            _log.warning("%s: %d structures cannot be read, last %s", client, len(left), fault)
            return
        waiting = left


async def _own_structures(client: Client, base: Node) -> list[Node]:
    found: list[Node] = []
    for reference in await base.get_references(
        refs=ua.ObjectIds.HasSubtype, direction=ua.BrowseDirection.Forward
    ):
        node = client.get_node(reference.NodeId)
        if reference.NodeId.NamespaceIndex:
            found.append(node)
            found += await _own_structures(client, node)
    return found


async def _child(node: Node, part: str, path: str, url: str) -> Node:
    for reference in await node.get_references(
        refs=ua.ObjectIds.HierarchicalReferences, direction=ua.BrowseDirection.Forward
    ):
        if reference.BrowseName.Name == part:
            return Node(node.session, reference.NodeId)
    raise DispatchError(
        f"{url}: no node {part!r} on the browse path {path!r}; check [[dispatch]] receiver"
    )


async def _leave(client: Client) -> None:
    try:
        await within(1.0, client.disconnect())
    except CUT as error:
        _log.debug("leaving %s: %s", client, error)


def plain(value: Any) -> Any:
    """A LocalizedText or Variant as the Python value inside."""
    if isinstance(value, ua.Variant):
        return plain(value.Value)
    if isinstance(value, ua.LocalizedText):
        return value.Text or ""
    return value
