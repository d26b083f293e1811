"""One OPC UA session: secure channel, activation, renewal, and coming back after a cut.

asyncua does channel, crypto and services; what is ours is the order of things: reactivate the
session that the server still holds, else a new session with the subscriptions transferred to it.
The session's token is kept on disk, so that a collector that was killed resumes where it was.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from asyncua import Client, ua
from asyncua.crypto import security_policies

from workshop_brain.connect.settings import OpcUaSettings
from workshop_brain.errors import SourceError

log = logging.getLogger(__name__)

TIMEOUT_S = 4.0
_RENEW_AT = 0.75
_STRONGEST_FIRST = ("Aes256Sha256RsaPss", "Basic256Sha256", "Aes128Sha256RsaOaep")


@dataclass(slots=True)
class Remembered:
    """What is kept on disk between two lives of a collector.

    Attributes
    ----------
    subscriptions
        Subscription id to the last sequence number known to be durable (0: none).
    nodes
        NodeIds in the order of the client handles.
    """

    url: str = ""
    token: str = ""
    nonce: str = ""
    saved_at: float = 0.0
    subscriptions: dict[int, int] = field(default_factory=dict)
    nodes: list[str] = field(default_factory=list)


def load(path: Path) -> Remembered | None:
    """What an earlier life left, None when there is nothing usable."""
    try:
        content = orjson.loads(path.read_bytes())
        return Remembered(
            url=str(content["url"]),
            token=str(content["token"]),
            nonce=str(content["nonce"]),
            saved_at=float(content["saved_at"]),
            subscriptions={int(k): int(v) for k, v in content["subscriptions"].items()},
            nodes=[str(n) for n in content["nodes"]],
        )
    except (OSError, KeyError, TypeError, ValueError, AttributeError):
        return None


def save(path: Path, remembered: Remembered) -> None:
    """Write atomically, readable by the owner alone: the token is as good as the session."""
    remembered.saved_at = time.time()
    content = {
        "url": remembered.url,
        "token": remembered.token,
        "nonce": remembered.nonce,
        "saved_at": remembered.saved_at,
        "subscriptions": {str(k): v for k, v in remembered.subscriptions.items()},
        "nodes": remembered.nodes,
    }
    pending = path.with_suffix(".new")
    handle = os.open(pending, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as out:
        out.write(orjson.dumps(content))
    pending.replace(path)


@dataclass(slots=True)
class Session:
    """The connection to one server.

    Attributes
    ----------
    client
        asyncua's client, used for its channel and services only.
    """

    settings: OpcUaSettings
    password: str
    pki_dir: Path
    client: Client = field(init=False)
    _renewal: asyncio.Task[None] | None = None
    _secured: bool = False

    def __post_init__(self) -> None:
        client = Client(self.settings.url, timeout=TIMEOUT_S)
        client.name = client.description = "Workshop Brain"
        client.application_uri = f"urn:{socket.gethostname()}:workshop-brain:collector"
        client.product_uri = "urn:workshop-brain"
        client.session_timeout = 1000 * (2 * self.settings.queue_s + 60)
        if self.settings.user:
            client.set_user(self.settings.user)
            client.set_password(self.password)
        self.client = client

    async def open(self, token: str = "", nonce: str = "") -> bool:
        """Connect; True when the session of ``token`` (or the one held before) goes on.

        OSError, TimeoutError or ua.UaError when the server cannot be reached or refuses.
        """
        await self.drop()
        if self.settings.security != "none" and not self._secured:
            await self._secure()
            self._secured = True
        client = self.client
        await client.connect_socket()
        await client.send_hello()
        await client.open_secure_channel()
        session = client.uaclient.session
        if token:
            session.restore_authentication_token(ua.NodeId.from_string(token))
            client._server_nonce = bytes.fromhex(nonce)
        resumed = False
        if not session.authentication_token.is_null():
            resumed = await self._reactivate()
        if not resumed:
            session.reset_authentication_token()
            await client.create_session()
            await self._activate()
        self._renewal = asyncio.create_task(self._renew(), name="opcua-renew")
        return resumed

    async def _reactivate(self) -> bool:
        self.client.uaclient.session.rebind_authentication_token()
        try:
            await self._activate()
        except ua.UaStatusCodeError as error:
            log.info("the server no longer holds the session: %s", error)
            return False
        return True

    async def _activate(self) -> None:
        user = self.settings.user or None
        await self.client.activate_session(username=user, password=self.password or None)

    async def _renew(self) -> None:
        """Renew the channel's security token before it expires."""
        while True:
            await asyncio.sleep(self.client.secure_channel_timeout / 1000 * _RENEW_AT)
            try:
                await self.client.open_secure_channel(renew=True)
                self.client.uaclient.revolve_security_token()
            except (OSError, TimeoutError, ua.UaError) as error:
                log.warning("secure channel could not be renewed: %s", error)
                self.client.disconnect_socket()
                return

    async def drop(self) -> None:
        """Close the socket and nothing more: session and subscriptions stay on the server."""
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.gather(self._renewal, return_exceptions=True)
            self._renewal = None
        if self.client.uaclient.has_transport:
            protocol = self.client.uaclient.protocol
            if protocol is not None and protocol.transport is not None:
                protocol.transport.abort()
            self.client.disconnect_socket()

    @property
    def is_open(self) -> bool:
        """Whether the socket is there."""
        protocol = self.client.uaclient.protocol
        return protocol is not None and not protocol.is_closed

    @property
    def token(self) -> tuple[str, str]:
        """Authentication token and server nonce, as texts."""
        nonce: bytes | None = self.client._server_nonce
        text = self.client.uaclient.session.authentication_token.to_string()
        return str(text), nonce.hex() if nonce else ""

    async def send(self, request: Any, timeout_s: float = TIMEOUT_S) -> bytes:
        """The body of the answer to one request; ``timeout_s`` 0 waits for ever."""
        protocol = self.client.uaclient.protocol
        if protocol is None:
            raise ConnectionError("not connected")
        answer = await protocol.send_request(request, timeout=timeout_s)
        return bytes(answer)

    async def transfer(self, subscriptions: Sequence[int]) -> list[int]:
        """Move subscriptions of an earlier session here; the ids that came along."""
        parameters = ua.TransferSubscriptionsParameters()
        parameters.SubscriptionIds = list(subscriptions)
        parameters.SendInitialValues = False
        try:
            results = await self.client.uaclient.session.transfer_subscriptions(parameters)
        except ua.UaStatusCodeError as error:
            # node-opcua answers BadNothingToDo when they are here already.
            if error.code == ua.StatusCodes.BadNothingToDo:
                return list(subscriptions)
            log.info("subscriptions cannot be transferred: %s", error)
            return []
        good = [r.StatusCode is None or r.StatusCode.is_good() for r in results]
        return [s for s, ok in zip(subscriptions, good, strict=True) if ok]

    # --- security ---

    async def _secure(self) -> None:
        """Own certificate, the server's pinned at the first connection."""
        name, _, mode_name = self.settings.security.partition(",")
        endpoints = await self.client.connect_and_get_server_endpoints()
        policy, mode, endpoint = _choose(endpoints, name, mode_name, self.settings.url)
        pinned = self.pki_dir / "trusted" / f"{self.settings.id}.der"
        pinned.parent.mkdir(parents=True, exist_ok=True)
        offered = bytes(endpoint.ServerCertificate)
        if not pinned.exists():
            pinned.write_bytes(offered)
            log.warning("%s: the server's certificate is now trusted: %s", self.settings.id, pinned)
        elif pinned.read_bytes() != offered:
            raise SourceError(
                f"{self.settings.id}: {self.settings.url} shows another certificate than the "
                f"trusted one; if that is right, remove {pinned} and connect again"
            )
        key, certificate = self.pki_dir / "own" / "key.pem", self.pki_dir / "own" / "cert.der"
        await self.client.setup_self_signed_certificate(key, certificate)
        await self.client.set_security(policy, certificate, key, None, pinned, mode)


def _choose(
    endpoints: Sequence[Any], name: str, mode_name: str, url: str
) -> tuple[type[security_policies.SecurityPolicy], ua.MessageSecurityMode, Any]:
    mode = ua.MessageSecurityMode[mode_name or "SignAndEncrypt"]
    wanted = _STRONGEST_FIRST if name == "auto" else (name,)
    for candidate in wanted:
        policy = getattr(security_policies, f"SecurityPolicy{candidate}", None)
        if policy is None:
            raise SourceError(
                f"security {candidate!r} is unknown; known are {', '.join(_STRONGEST_FIRST)}, auto"
            )
        for endpoint in endpoints:
            if endpoint.SecurityPolicyUri == policy.URI and endpoint.SecurityMode == mode:
                return policy, mode, endpoint
    offered = [f"{e.SecurityPolicyUri.rsplit('#')[-1]},{e.SecurityMode.name}" for e in endpoints]
    raise SourceError(
        f"{url} does not offer security {name!r} {mode.name}; it offers {'; '.join(offered)}"
    )
