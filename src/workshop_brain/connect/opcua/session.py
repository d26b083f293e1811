"""One OPC UA session: secure channel, activation, renewal, and coming back after a cut.

asyncua does channel, crypto and services; what is ours is the order of things: reactivate the
session that the server still holds, else a new session with the subscriptions transferred to it.
The session's token is kept on disk, so that a collector that was killed resumes where it was.
"""

import asyncio
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from asyncua import Client, ua
from asyncua.crypto import security_policies

from workshop_brain.connect.opcua import issuers, pki
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
    last_ns
        Newest source time handed over, 0 when not known.
    """

    url: str = ""
    token: str = ""
    nonce: str = ""
    saved_at: float = 0.0
    subscriptions: dict[int, int] = field(default_factory=dict)
    nodes: list[str] = field(default_factory=list)
    last_ns: int = 0


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
            last_ns=int(content.get("last_ns", 0)),
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
        "last_ns": remembered.last_ns,
    }
    pending = path.with_suffix(".new")
    handle = os.open(pending, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as out:
        out.write(orjson.dumps(content))
    pending.replace(path)


def load_last(path: Path) -> int:
    """The newest source time that an earlier life noted, ns; 0 when there is none."""
    try:
        return int(path.read_text("ascii"))
    except (OSError, ValueError):
        return 0


def save_last(path: Path, last_ns: int) -> None:
    """Note the newest source time atomically."""
    pending = path.with_suffix(".last-new")
    pending.write_text(str(last_ns), "ascii")
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
        client.application_uri = pki.application_uri()
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
        try:
            return await self._open(token, nonce)
        except BaseException:
            # The server may show another certificate now: look again the next time.
            self._secured = False
            raise

    async def _open(self, token: str, nonce: str) -> bool:
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
            if self.settings.security == "none":
                # Nobody asked for a certificate; a server may make a new one at every start.
                client.security_policy.peer_certificate = None
            await client.create_session()
            if self.settings.user and not client.security_policy.peer_certificate:
                await self._read_policies()
            await self._activate()
        self._renewal = asyncio.create_task(self._renew(), name="opcua-renew")
        return resumed

    async def _reactivate(self) -> bool:
        client = self.client
        client.uaclient.session.rebind_authentication_token()
        try:
            if not client._policy_ids:
                await self._read_policies()
            await self._activate()
        except ua.UaError as error:
            log.info("the server no longer holds the session: %s", error)
            return False
        return True

    async def _read_policies(self) -> None:
        """What asyncua learns when it creates a session, for one that an earlier life created or
        a server that shows its certificate only with the endpoints."""
        client = self.client
        endpoints, policy = await client.get_endpoints(), client.security_policy
        own = Client.find_endpoint(endpoints, policy.Mode, policy.URI)
        client._policy_ids = own.UserIdentityTokens
        if not policy.peer_certificate:
            # The password is encrypted for it also where the channel is not.
            shown = [e.ServerCertificate for e in (own, *endpoints) if e.ServerCertificate]
            policy.peer_certificate = issuers.leaf(bytes(shown[0])) if shown else None

    async def _activate(self) -> None:
        user = self.settings.user or None
        await self.client.activate_session(
            username=user,
            password=self.password or None,
            certificate=self.client.user_certificate,
        )

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
        """Own certificate, and the server's when it is trusted."""
        name, _, mode_name = self.settings.security.partition(",")
        plain = security_policies.SecurityPolicyNone()
        self.client.security_policy = self.client.uaclient.security_policy = plain
        endpoints = await self.client.connect_and_get_server_endpoints()
        policy, mode, endpoint = _choose(endpoints, name, mode_name, self.settings.url)
        chain = bytes(endpoint.ServerCertificate or b"")
        offered = issuers.leaf(chain)
        await asyncio.to_thread(
            pki.check, self.pki_dir, self.settings.id, self.settings.url, chain,
            trust_first_use=self.settings.trust_first_use,
            application_uri=str(endpoint.Server.ApplicationUri or ""),
        )  # fmt: skip
        key, certificate = await asyncio.to_thread(
            pki.own_pair, self.pki_dir, self.client.application_uri
        )
        await self.client.set_security(policy, str(certificate), str(key), None, offered, mode)
        if self.settings.user_cert:
            await self._load_user()

    async def _load_user(self) -> None:
        """The certificate that we sign in with; the password is its key's."""
        certificate = self.pki_dir / self.settings.user_cert
        key = self.pki_dir / self.settings.user_key
        try:
            given = await asyncio.to_thread(certificate.read_bytes)
            await self.client.load_client_certificate(given, _form(given))
            given = await asyncio.to_thread(key.read_bytes)
            await self.client.load_private_key(given, self.password or None, _form(given))
        except (OSError, TypeError, ValueError) as error:
            raise SourceError(
                f"{self.settings.id}: user_cert {certificate} and user_key {key} cannot be read "
                f"({error}); they must be a certificate and its RSA key, PEM or DER, and "
                "password_env names the key's password when it has one"
            ) from error


def _form(content: bytes) -> str:
    return "pem" if b"-----BEGIN" in content else "der"


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
