"""Signed and encrypted OPC UA: unknown and changed certificates are refused by name."""

import asyncio
import shlex
import shutil
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

from workshop_brain.connect.opcua import pki
from workshop_brain.connect.opcua.session import Session
from workshop_brain.connect.settings import SECURITY_POLICIES, OpcUaSettings
from workshop_brain.errors import SourceError


class OnePerson:
    """Knows one user, by password or certificate."""

    def __init__(self, certificate: bytes = b"") -> None:
        self.certificate = certificate

    def get_user(
        self, iserver: object, username: str = "", password: str = "", certificate: object = None
    ) -> User | None:
        known = (username, password) == ("brain", "secret")
        if not username:  # asyncua also gives the client's application certificate here
            known = certificate == self.certificate
        return User(role=UserRole.User, name=username) if known else None


def new_pair(folder: Path) -> tuple[Path, Path]:
    """Where a server's key and certificate go."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "key.pem", folder / "cert.der"


@asynccontextmanager
async def server(
    folder: Path,
    port: int,
    *policies: ua.SecurityPolicyType,
    person: bytes = b"",
) -> AsyncIterator[str]:
    key, certificate = new_pair(folder)
    uri = f"urn:{socket.gethostname()}:test:server"
    await setup_self_signed_certificate(
        key, certificate, uri, socket.gethostname(), [ExtendedKeyUsageOID.SERVER_AUTH], {}
    )
    running = Server(user_manager=OnePerson(person))
    await running.init()
    await running.set_application_uri(uri)
    running.set_endpoint(f"opc.tcp://127.0.0.1:{port}/secure")
    running.set_security_policy(
        list(policies or [ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt]),
        permission_ruleset=SimpleRoleRuleset(),
    )
    await running.load_certificate(str(certificate))
    await running.load_private_key(str(key))
    async with running:
        yield f"opc.tcp://127.0.0.1:{port}/secure"


def session(
    url: str, folder: Path, *, password: str = "secret", security: str = "auto", **more: object
) -> Session:
    given = {"user": "brain", "trust_first_use": True, **more}
    settings = OpcUaSettings(id="plc", url=url, security=security, **given)  # type: ignore[arg-type]
    return Session(settings=settings, password=password, pki_dir=folder)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


ALL = [ua.SecurityPolicyType[f"{policy}_SignAndEncrypt"] for policy in SECURITY_POLICIES[:3]]


async def read(ours: Session) -> None:
    await ours.open()
    assert await ours.client.get_node(ua.ObjectIds.Server_ServerStatus_State).read_value() == 0
    await ours.drop()


async def test_each_policy_carries_values_for_user_or_certificate(tmp_path: Path) -> None:
    key, certificate = pki.own_pair(tmp_path / "person", "urn:person")
    (tmp_path / "pki").mkdir()
    key.rename(tmp_path / "pki" / "me.key")
    more = {"user": "", "user_cert": str(certificate), "user_key": "me.key"}
    person = certificate.read_bytes()
    async with server(tmp_path / "a", free_port(), *ALL, person=person) as url:
        for policy in SECURITY_POLICIES[:3]:
            await read(session(url, tmp_path / "pki", security=policy))
            assert (tmp_path / "pki" / "trusted" / "plc.der").exists()
            await read(session(url, tmp_path / "pki", security=policy, password="", **more))
        nobody = session(url, tmp_path / "pki", password="", **{**more, "user_key": "none.key"})
        with pytest.raises(SourceError, match=r"user_key .*none\.key cannot be read"):
            await nobody.open()


async def test_an_unknown_certificate_is_refused_until_it_is_moved(tmp_path: Path) -> None:
    async with server(tmp_path / "a", free_port()) as url:
        ours = session(url, tmp_path / "pki", trust_first_use=False)
        with pytest.raises(SourceError, match=r"nobody has trusted yet: SHA-256 ..:..:.*mv '") as e:
            await ours.open()
        (rejected,) = (tmp_path / "pki" / "rejected").glob("plc-*.der")
        assert pki.fingerprint(rejected) in str(e.value)
        assert not (tmp_path / "pki" / "trusted" / "plc.der").exists()
        command = str(e.value).split("is right: ")[1].split(" (connects")[0]
        (tmp_path / "pki" / "trusted").mkdir()
        words = shlex.split(command)
        assert words[0] == "mv"
        await asyncio.to_thread(shutil.move, words[1], words[2])
        await read(ours)
        await asyncio.to_thread(
            shutil.move, words[2], tmp_path / "pki" / "trusted" / "all plcs.der"
        )
        await read(session(url, tmp_path / "pki", trust_first_use=False))


def test_our_pair_is_made_once_and_kept_private(tmp_path: Path) -> None:
    key, certificate = pki.own_pair(tmp_path, "urn:a")
    first = certificate.read_bytes()
    assert key.stat().st_mode & 0o077 == 0
    assert pki.own_pair(tmp_path, "urn:a") == (key, certificate)
    assert certificate.read_bytes() == first
    pki.own_pair(tmp_path, "urn:b")
    assert certificate.read_bytes() != first
    key.write_text("nonsense")
    certificate.unlink()
    with pytest.raises(SourceError, match=r"key\.pem cannot be read"):
        pki.own_pair(tmp_path, "urn:a")


def test_the_folder_of_refused_certificates_is_bounded(tmp_path: Path) -> None:
    for number in range(70):
        with pytest.raises(SourceError):
            pki.check(tmp_path, "plc", "opc.tcp://plc", bytes([number]) * 9, trust_first_use=False)
    assert len(list((tmp_path / "rejected").iterdir())) == 50


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"user_cert": "a.der"}, "give both or neither"),
        ({"user_cert": "a.der", "user_key": "a.key"}, "security other than none"),
        ({"user_cert": "a", "user_key": "b", "security": "auto", "user": "x"}, "not both"),
    ],
)
def test_settings_that_cannot_be_are_named(given: dict[str, str], told: str) -> None:
    assert told in OpcUaSettings(id="plc", url="opc.tcp://plc:4840", **given).fault()


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
        with pytest.raises((OSError, TimeoutError, ua.UaError)):
            await first.open()  # the channel for the old certificate
        with pytest.raises(SourceError, match="another certificate"):
            await first.open()


async def test_a_policy_that_is_not_offered_and_an_unknown_one_are_named(tmp_path: Path) -> None:
    async with server(tmp_path / "a", free_port()) as url:
        with pytest.raises(SourceError, match="it offers Basic256Sha256,SignAndEncrypt"):
            await session(
                url, tmp_path / "pki", security="Aes256Sha256RsaPss,SignAndEncrypt"
            ).open()
        with pytest.raises(SourceError, match="'Basic1' is unknown"):
            await session(url, tmp_path / "pki", security="Basic1").open()


async def test_a_wrong_password_and_an_unknown_person_are_refused(tmp_path: Path) -> None:
    key, certificate = pki.own_pair(tmp_path / "person", "urn:person")
    more = {"user": "", "user_cert": str(certificate), "user_key": str(key)}
    async with server(tmp_path / "a", free_port()) as url:
        for ours in (
            session(url, tmp_path / "pki", password="wrong"),
            session(url, tmp_path / "pki", password="", **more),
        ):
            with pytest.raises(ua.UaStatusCodeError, match="BadUserAccessDenied"):
                await ours.open()
            await ours.drop()
