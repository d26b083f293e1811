"""The brain's own small authority: certificates of collectors on other hosts, and who they are.

``DATA/pki/collectors`` holds the authority (``ca.key``, ``ca.pem``), the brain's certificate for
them (``brain.pem``), and ``collectors.json``: of each name its one certificate that counts, the
sources that it may deliver, and whether it was revoked. The command line writes it, the running
brain reads it anew when it has changed.
"""

import datetime as dt
import fcntl
import hashlib
import json
import os
import re
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from workshop_brain.connect.remote import SERVER_NAME
from workshop_brain.errors import ConfigError, RefusedError

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_CA_DAYS, _OWN_DAYS, _RENEW_DAYS = 20 * 365, 730, 60
_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME: ``admit`` looks at the time itself, so that it can name whose
certificate ran out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """One collector on another host.

    Attributes
    ----------
    fingerprint
        SHA-256 of its one certificate that counts, hexadecimal.
    sources
        Ids of the sources that it may deliver.
    since, until
        Days of the certificate, ISO 8601, UTC.
    revoked
        When it was revoked; "" when it was not.
    """

    name: str
    fingerprint: str
    sources: tuple[str, ...]
    since: str
    until: str
    revoked: str = ""


class Collectors:
    """Enrols and admits collectors on other hosts.

    Parameters
    ----------
    folder
        ``DATA/pki/collectors``; made when somebody is enrolled.
    now
        The wall clock, UTC.
    """

    def __init__(
        self, folder: Path, *, now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)
    ) -> None:
        self._folder = folder
        self._now = now
        self._read_at = (0, 0)
        self._known: dict[str, Enrolled] = {}

    # --- what the command line does ---

    def enroll(self, name: str, sources: Sequence[str], *, days: int) -> tuple[str, str, str]:
        """(authority, certificate, key) of a collector as PEM texts, for its bundle.

        Under a name that is known already the new certificate replaces the old one at once.
        """
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"{name!r}: must be 1 to 40 of a-z, 0-9, _ and -, a letter or digit first"
            )
        with self._writing() as known:
            ca, ca_key = self._authority()
            key = ec.generate_private_key(ec.SECP256R1())
            certificate = self._issue(
                name, key, ca, ca_key, days=days, usage=ExtendedKeyUsageOID.CLIENT_AUTH
            )
            known[name] = Enrolled(
                name=name,
                fingerprint=_fingerprint(certificate.public_bytes(Encoding.DER)),
                sources=tuple(sources),
                since=self._now().isoformat(timespec="seconds"),
                until=certificate.not_valid_after_utc.isoformat(timespec="seconds"),
            )
        return _pem(ca), _pem(certificate), _key_pem(key)

    def revoke(self, name: str) -> Enrolled:
        """Let a collector in no more; ConfigError when there is none of this name."""
        with self._writing() as known:
            if name not in known:
                raise ConfigError(
                    f"no collector {name!r} is enrolled; known are {', '.join(known) or 'none'}"
                )
            revoked = self._now().isoformat(timespec="seconds")
            known[name] = replace(known[name], revoked=known[name].revoked or revoked)
            return known[name]

    def all(self) -> list[Enrolled]:
        """Every collector that was ever enrolled, by name."""
        self._refresh()
        return [self._known[name] for name in sorted(self._known)]

    # --- what the brain does ---

    def server_context(self) -> ssl.SSLContext:
        """TLS 1.3 for links from collectors: a certificate of our authority is asked for.

        Its time is not looked at here: ``admit`` must follow every handshake.
        """
        with self._writing():
            ca, ca_key = self._authority()
            pair = self._own_pair(ca, ca_key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags = ssl.VerifyFlags(context.verify_flags | _NO_CHECK_TIME)
        context.load_verify_locations(cadata=_pem(ca))
        context.load_cert_chain(pair)
        context.num_tickets = 0  # a resumed session would bring no certificate to look at
        return context

    def admit(self, der: bytes) -> Enrolled:
        """Whose certificate it is; RefusedError says why its holder is not let in.

        The certificate must have been verified against our authority.
        """
        certificate = x509.load_der_x509_certificate(der)
        name = _common_name(certificate)
        self._refresh()
        known = self._known.get(name)
        again = f"run 'brain collector enroll {name}' on the brain and use the new bundle"
        if known is None:
            raise RefusedError(f"collector {name!r} is not enrolled here; {again}")
        if known.revoked:
            raise RefusedError(f"collector {name!r} was revoked at {known.revoked}; {again}")
        if known.fingerprint != _fingerprint(der):
            raise RefusedError(
                f"collector {name!r}: this certificate was replaced at {known.since} by a newer "
                "one; use the newest bundle"
            )
        if self._now() > certificate.not_valid_after_utc:
            raise RefusedError(
                f"collector {name!r}: its certificate expired {known.until}; {again}"
            )
        if self._now() < certificate.not_valid_before_utc:
            raise RefusedError(
                f"collector {name!r}: its certificate is not valid before "
                f"{certificate.not_valid_before_utc:%Y-%m-%d}; check the brain's clock"
            )
        return known

    # --- files ---

    @contextmanager
    def _writing(self) -> Iterator[dict[str, Enrolled]]:
        """One at a time changes the list; it is on disk at the end."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with (self._folder / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._refresh()
                known = dict(self._known)
                yield known
                if known != self._known:
                    rows = [asdict(known[name]) for name in sorted(known)]
                    _write(self._folder / "collectors.json", json.dumps(rows, indent=1).encode())
                    self._known = known
        except OSError as error:
            raise ConfigError(f"{self._folder}: cannot be used: {error}") from error

    def _refresh(self) -> None:
        path = self._folder / "collectors.json"
        try:
            found = path.stat()
            stamp = (found.st_mtime_ns, found.st_ino)
            if stamp == self._read_at:
                return
            rows = json.loads(path.read_bytes())
            self._known = {
                row["name"]: Enrolled(**{**row, "sources": tuple(row["sources"])}) for row in rows
            }
            self._read_at = stamp
        except FileNotFoundError:
            self._known, self._read_at = {}, (0, 0)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"{path}: cannot be read ({error}); restore it from a backup, or remove it and "
                "enroll the collectors again"
            ) from error

    def _authority(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        """Certificate and key that sign all others; made when missing."""
        path, key_path = self._folder / "ca.pem", self._folder / "ca.key"
        try:
            if path.exists() and key_path.exists():
                key = load_pem_private_key(key_path.read_bytes(), None)
                assert isinstance(key, ec.EllipticCurvePrivateKey)
                return x509.load_pem_x509_certificate(path.read_bytes()), key
        except ValueError as error:
            raise ConfigError(
                f"{self._folder}: the authority cannot be read ({error}); restore ca.pem and "
                "ca.key from a backup, or remove both and enroll every collector again"
            ) from error
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._issue("Workshop Brain collectors", key, None, key, days=_CA_DAYS)
        _write(key_path, _key_pem(key).encode())
        _write(path, _pem(certificate).encode())
        return certificate, key

    def _own_pair(self, ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey) -> Path:
        """The brain's own certificate and key in one file, renewed before its end."""
        path = self._folder / "brain.pem"
        if path.exists():
            own = x509.load_pem_x509_certificate(path.read_bytes())
            left = own.not_valid_after_utc - self._now()
            if own.issuer == ca.subject and left > dt.timedelta(days=_RENEW_DAYS):
                return path
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._issue(
            SERVER_NAME, key, ca, ca_key, days=_OWN_DAYS, usage=ExtendedKeyUsageOID.SERVER_AUTH
        )
        _write(path, (_pem(certificate) + _key_pem(key)).encode())
        return path

    def _issue(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey,
        ca: x509.Certificate | None,
        ca_key: ec.EllipticCurvePrivateKey,
        *,
        days: int,
        usage: x509.ObjectIdentifier | None = None,
    ) -> x509.Certificate:
        """Sign a certificate for a name; without ``ca`` it is an authority of its own."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        public = key.public_key()
        begin = self._now() - dt.timedelta(hours=1)  # clocks differ
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca.subject if ca is not None else subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(self._now() + dt.timedelta(days=days))
            .add_extension(
                x509.BasicConstraints(ca=ca is None, path_length=0 if ca is None else None), True
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), False
            )
            .add_extension(_key_usage(is_authority=ca is None), True)
        )
        if usage is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), True).add_extension(
                x509.SubjectAlternativeName([x509.DNSName(name)]), False
            )
        return builder.sign(ca_key, hashes.SHA256())


def _key_usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority, key_cert_sign=is_authority, crl_sign=is_authority,
        content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _common_name(certificate: x509.Certificate) -> str:
    found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def _fingerprint(der: bytes) -> str:
    return hashlib.sha256(der).hexdigest()


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _write(path: Path, content: bytes) -> None:
    """Replace a file in one step, durably; only its owner may read it."""
    pending = path.with_name(path.name + ".new")
    pending.unlink(missing_ok=True)
    fd = os.open(pending, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    pending.replace(path)
