"""Signed and encrypted OPC UA: the certificate is pinned, a changed one is refused by name."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from asyncua import Server, ua
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from asyncua.crypto.permission_rules import SimpleRoleRuleset
from asyncua.server.user_managers import User, UserRole
from cryptography.x509.oid import ExtendedKeyUsageOID

from workshop_brain.connect.opcua.session import Session
from workshop_brain.connect.settings import OpcUaSettings
from workshop_brain.errors import SourceError


class OnePerson:
    """Knows one user."""

    def get_user(
        self, iserver: object, username: str = "", password: str = "", certificate: object = None
    ) -> User | None:
        known = (username, password) == ("brain", "secret")
        return User(role=UserRole.User, name=username) if known else None


def new_pair(folder: Path) -> tuple[Path, Path]:
    """Where a server's key and certificate go."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "key.pem", folder / "cert.der"


@asynccontextmanager
async def server(folder: Path, port: int) -> AsyncIterator[str]:
    key, certificate = new_pair(folder)
    uri = f"urn:{socket.gethostname()}:test:server"
    await setup_self_signed_certificate(
        key, certificate, uri, socket.gethostname(), [ExtendedKeyUsageOID.SERVER_AUTH], {}
    )
    running = Server(user_manager=OnePerson())
    await running.init()
    await running.set_application_uri(uri)
    running.set_endpoint(f"opc.tcp://127.0.0.1:{port}/secure")
    running.set_security_policy(
        [ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt],
        permission_ruleset=SimpleRoleRuleset(),
    )
    await running.load_certificate(str(certificate))
    await running.load_private_key(str(key))
    async with running:
        yield f"opc.tcp://127.0.0.1:{port}/secure"


def session(url: str, pki: Path, *, password: str = "secret", security: str = "auto") -> Session:
    settings = OpcUaSettings(id="plc", url=url, user="brain", security=security)
    return Session(settings=settings, password=password, pki_dir=pki)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_an_encrypted_session_with_user_and_password_reads(tmp_path: Path) -> None:
    async with server(tmp_path / "a", free_port()) as url:
        ours = session(url, tmp_path / "pki")
        await ours.open()
        node = ours.client.get_node(ua.ObjectIds.Server_ServerStatus_State)
        assert await node.read_value() == 0
        assert (tmp_path / "pki" / "trusted" / "plc.der").exists()
        await ours.drop()


async def test_another_certificate_than_the_trusted_one_is_refused_and_named(
    tmp_path: Path,
) -> None:
    port = free_port()
    async with server(tmp_path / "a", port) as url:
        first = session(url, tmp_path / "pki")
        await first.open()
        await first.drop()
    async with server(tmp_path / "b", port) as url:
        with pytest.raises(SourceError, match=r"another certificate.*plc\.der"):
            await session(url, tmp_path / "pki").open()


async def test_a_policy_that_is_not_offered_and_an_unknown_one_are_named(tmp_path: Path) -> None:
    async with server(tmp_path / "a", free_port()) as url:
        with pytest.raises(SourceError, match="it offers Basic256Sha256,SignAndEncrypt"):
            await session(
                url, tmp_path / "pki", security="Aes256Sha256RsaPss,SignAndEncrypt"
            ).open()
        with pytest.raises(SourceError, match="'Basic1' is unknown"):
            await session(url, tmp_path / "pki", security="Basic1").open()


async def test_a_wrong_password_is_refused(tmp_path: Path) -> None:
    async with server(tmp_path / "a", free_port()) as url:
        ours = session(url, tmp_path / "pki", password="wrong")
        with pytest.raises(ua.UaStatusCodeError, match="BadUserAccessDenied"):
            await ours.open()
        await ours.drop()
