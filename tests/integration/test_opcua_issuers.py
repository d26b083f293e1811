"""A server whose certificate an authority signed: accepted for what it is, refused by name."""

import datetime as dt
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from asyncua import Server, ua
from bench.line import free_port
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from workshop_brain.connect.opcua import pki
from workshop_brain.connect.opcua.session import Session
from workshop_brain.connect.settings import OpcUaSettings
from workshop_brain.errors import SourceError

URI = "urn:plant:plc7"
NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)
KEYS = [rsa.generate_private_key(65537, 2048) for _ in range(3)]


@dataclass
class Authority:
    """Signs certificates and revocation lists."""

    name: str
    key: rsa.RSAPrivateKey
    certificate: x509.Certificate

    @classmethod
    def new(
        cls, name: str, key: rsa.RSAPrivateKey, above: "Authority | None" = None
    ) -> "Authority":
        """``above`` None makes a root."""
        builder = _begun(name, above.name if above else name, key, NOW + 90 * DAY)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        return cls(name, key, builder.sign(above.key if above else key, hashes.SHA256()))

    def issued(
        self, *, uri: str = URI, host: str = "127.0.0.1", until: dt.datetime = NOW + 30 * DAY
    ) -> x509.Certificate:
        """A server's certificate."""
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri)]
        names.append(x509.IPAddress(ipaddress.ip_address(host)))
        usage = x509.KeyUsage(True, True, True, True, False, False, False, False, False)
        builder = _begun("plc7", self.name, KEYS[0], until)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
        builder = builder.add_extension(usage, False)
        builder = builder.add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False
        )
        return builder.sign(self.key, hashes.SHA256())

    def revoking(self, *certificates: x509.Certificate) -> bytes:
        """A revocation list."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])
        builder = x509.CertificateRevocationListBuilder(name, NOW - DAY, NOW + DAY)
        for one in certificates:
            row = x509.RevokedCertificateBuilder(one.serial_number, NOW - DAY)
            builder = builder.add_revoked_certificate(row.build())
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _begun(
    name: str, issuer: str, key: rsa.RSAPrivateKey, until: dt.datetime
) -> x509.CertificateBuilder:
    common = NameOID.COMMON_NAME
    return x509.CertificateBuilder(
        issuer_name=x509.Name([x509.NameAttribute(common, issuer)]),
        subject_name=x509.Name([x509.NameAttribute(common, name)]),
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=NOW - 60 * DAY,
        not_valid_after=until,
    )


ROOT = Authority.new("Plant Root", KEYS[1])
CELL = Authority.new("Cell Authority", KEYS[2], ROOT)


def der(*certificates: x509.Certificate) -> bytes:
    return b"".join(c.public_bytes(Encoding.DER) for c in certificates)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A PKI folder that knows the root."""
    (tmp_path / "pki" / "issuers").mkdir(parents=True)
    (tmp_path / "pki" / "issuers" / "root.der").write_bytes(der(ROOT.certificate))
    return tmp_path / "pki"


@asynccontextmanager
async def serving(folder: Path, certificate: x509.Certificate) -> AsyncIterator[str]:
    (folder / "server.der").write_bytes(der(certificate))
    key = KEYS[0].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "server.pem").write_bytes(key)
    url = f"opc.tcp://127.0.0.1:{free_port()}/secure"
    running = Server()
    await running.init()
    await running.set_application_uri(URI)
    running.set_endpoint(url)
    running.set_security_policy([ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt])
    await running.load_certificate(str(folder / "server.der"))
    await running.load_private_key(str(folder / "server.pem"))
    async with running:
        yield url


def session(url: str, folder: Path) -> Session:
    # Trust on first use must not let through what an authority's rules refuse.
    settings = OpcUaSettings(id="plc", url=url, security="auto", trust_first_use=True)
    return Session(settings=settings, password="", pki_dir=folder)


async def read(ours: Session) -> None:
    await ours.open()
    assert await ours.client.get_node(ua.ObjectIds.Server_ServerStatus_State).read_value() == 0
    await ours.drop()


async def test_a_signed_certificate_is_accepted_until_it_is_revoked(
    tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = ROOT.issued()
    async with serving(tmp_path, first) as url:
        await read(session(url, folder))
        assert "no revocation list of 'CN=Plant Root'" in caplog.text
        assert not (folder / "trusted").exists()
        (folder / "issuers" / "root.crl").write_bytes(ROOT.revoking(first))
        with pytest.raises(SourceError, match=r"Plant Root' signed: 'CN=plc7' was revoked on"):
            await session(url, folder).open()
        (folder / "trusted").mkdir()
        (folder / "trusted" / "plc.der").write_bytes(der(first))
        await read(session(url, folder))
        (folder / "trusted" / "plc.der").unlink()
    # Renewed: accepted by itself.
    check(folder, ROOT.issued())


def check(folder: Path, *chain: x509.Certificate, url: str = "opc.tcp://127.0.0.1:4840") -> None:
    pki.check(folder, "plc", url, der(*chain), trust_first_use=False, application_uri=URI)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"until": NOW - DAY}, "it ran out on"),
        ({"uri": "urn:plant:other"}, "application URI is urn:plant:other, the server calls itself"),
        ({"host": "10.0.0.9"}, r"it is for 10\.0\.0\.9, not for '127\.0\.0\.1'"),
    ],
)
def test_a_signed_certificate_that_does_not_fit_is_refused(
    folder: Path, given: dict[str, object], told: str
) -> None:
    with pytest.raises(SourceError, match=told):
        check(folder, ROOT.issued(**given))  # type: ignore[arg-type]


def test_a_chain_is_followed_over_certificates_that_the_server_sends(folder: Path) -> None:
    leaf = CELL.issued()
    check(folder, leaf, CELL.certificate)
    with pytest.raises(SourceError, match="nobody has trusted yet"):
        check(folder, leaf)
    (folder / "issuers" / "root.crl").write_bytes(ROOT.revoking(CELL.certificate))
    with pytest.raises(SourceError, match="'CN=Cell Authority' was revoked"):
        check(folder, leaf, CELL.certificate)


def test_only_authorities_sign_and_a_name_alone_proves_nothing(folder: Path) -> None:
    false = Authority.new("Plant Root", KEYS[2])
    with pytest.raises(SourceError, match="nobody has trusted yet"):
        check(folder, false.issued())
    (folder / "issuers" / "root.crl").write_bytes(false.revoking(good := ROOT.issued()))
    check(folder, good)
    plain = ROOT.issued()
    as_authority = Authority("plc7", KEYS[0], plain)
    with pytest.raises(SourceError, match="may not sign certificates"):
        check(folder, as_authority.issued(), plain)
