"""Certificates of OPC UA connections: our own, the servers we trust, those we refused.

PKI/own/cert.der, key.pem     ours; the server's operator has to trust cert.der
PKI/trusted/SOURCE.der        the one certificate that a source's server may show
PKI/trusted/*.der             certificates that any source's server may show
PKI/issuers/                  authorities that may sign servers' certificates, see ``issuers``
PKI/rejected/SOURCE-PRINT.der what servers showed that nobody has trusted yet
"""

import datetime as dt
import hashlib
import logging
import os
import socket
from pathlib import Path

from asyncua.crypto.cert_gen import (
    dump_private_key_as_pem,
    generate_private_key,
    generate_self_signed_app_certificate,
)
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from workshop_brain.connect.opcua.issuers import leaf, vouched
from workshop_brain.errors import SourceError

log = logging.getLogger(__name__)

_OWN_DAYS = 20 * 365
_RENEW_DAYS = 30
_MOST_REJECTED = 50


def application_uri() -> str:
    """Who we are to servers; it stands in our certificate too."""
    return f"urn:{socket.gethostname()}:workshop-brain:collector"


def own_pair(pki: Path, uri: str) -> tuple[Path, Path]:
    """(key, certificate) of ours; made when missing, the certificate also when it does not fit.

    SourceError when the key cannot be read.
    """
    key_file, file = pki / "own" / "key.pem", pki / "own" / "cert.der"
    key_file.parent.mkdir(parents=True, exist_ok=True)
    if not key_file.exists():
        pem = dump_private_key_as_pem(generate_private_key())
        # Two collectors may start at once: the first one's key counts for both.
        pending = key_file.with_suffix(f".{os.getpid()}")
        pending.touch(0o600)
        pending.write_bytes(pem)
        try:
            os.link(pending, key_file)
        except FileExistsError:
            log.info("another collector made %s", key_file)
        pending.unlink()
    if _fits(file, uri):
        return key_file, file
    try:
        key = load_pem_private_key(key_file.read_bytes(), None)
    except (OSError, TypeError, ValueError) as error:
        raise SourceError(
            f"{key_file} cannot be read as our private key ({error}); put a PEM key without a "
            "password there, or remove the file and a new pair is made"
        ) from error
    host = socket.gethostname()
    names = [x509.UniformResourceIdentifier(uri), x509.DNSName(host)]
    certificate = generate_self_signed_app_certificate(
        key, uri, {"organizationName": "Workshop Brain"}, names,
        extended=[ExtendedKeyUsageOID.CLIENT_AUTH], days=_OWN_DAYS,
    )  # fmt: skip
    pending = file.with_suffix(f".{os.getpid()}")
    pending.write_bytes(certificate.public_bytes(Encoding.DER))
    pending.replace(file)
    log.warning("made our certificate %s (%s): trust it at the servers", file, fingerprint(file))
    return key_file, file


def _fits(file: Path, uri: str) -> bool:
    try:
        own = x509.load_der_x509_certificate(file.read_bytes())
        names = own.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (OSError, ValueError, x509.ExtensionNotFound):
        return False
    left = own.not_valid_after_utc - dt.datetime.now(dt.UTC)
    uris = names.value.get_values_for_type(x509.UniformResourceIdentifier)
    return uri in uris and left > dt.timedelta(days=_RENEW_DAYS)


def fingerprint(certificate: Path | bytes) -> str:
    """SHA-256 of a DER certificate as people compare it.

    >>> fingerprint(b"")[:11]
    'E3:B0:C4:42'
    """
    der = certificate if isinstance(certificate, bytes) else certificate.read_bytes()
    digits = hashlib.sha256(der).hexdigest().upper()
    return ":".join(digits[at : at + 2] for at in range(0, len(digits), 2))


def check(
    pki: Path,
    source: str,
    url: str,
    chain: bytes,
    *,
    trust_first_use: bool,
    application_uri: str = "",
) -> None:
    """Return when a server's certificate is trusted; SourceError names the way to trust it.

    It is trusted when it stands in ``trusted`` or an authority in ``issuers`` signed it for the
    server that calls itself ``application_uri``. With ``trust_first_use`` the first certificate
    that a source's server shows is pinned.
    """
    offered = leaf(chain)
    if not offered:
        raise SourceError(f"{source}: {url} shows no certificate; use another security policy")
    pinned = pki / "trusted" / f"{source}.der"
    if pinned.exists():
        if pinned.read_bytes() == offered:
            _warn_of_its_end(source, offered)
            return
    elif _is_listed(pinned.parent, offered):
        _warn_of_its_end(source, offered)
        return
    elif vouched(pki, source, url, chain, application_uri):
        return
    elif trust_first_use:
        pinned.parent.mkdir(parents=True, exist_ok=True)
        pinned.write_bytes(offered)
        log.warning("%s: first use: the server's certificate %s is now trusted: %s",
                    source, fingerprint(offered), pinned)  # fmt: skip
        return
    rejected = _reject(pki / "rejected", source, offered)
    kind = (
        f"another certificate than the trusted one ({pinned})"
        if pinned.exists()
        else "a certificate that nobody has trusted yet"
    )
    raise SourceError(
        f"{source}: {url} shows {kind}: SHA-256 {fingerprint(offered)}, valid until "
        f"{_valid_until(offered)}. Compare the fingerprint with the server's; if it is right: "
        f"mv '{rejected}' '{pinned}' (connects by itself then)"
    )


def _is_listed(trusted: Path, offered: bytes) -> bool:
    """Whether the certificate is among the common ones (those of no one source)."""
    if not trusted.is_dir():
        return False
    return any(file.read_bytes() == offered for file in sorted(trusted.glob("*.der")))


def _reject(folder: Path, source: str, offered: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{source}-{hashlib.sha256(offered).hexdigest()[:16]}.der"
    if not file.exists():
        file.write_bytes(offered)
    # Whoever answers at the address chooses what is written here: keep the newest.
    kept = sorted(folder.glob("*.der"), key=lambda f: f.stat().st_mtime, reverse=True)
    for old in kept[_MOST_REJECTED:]:
        old.unlink(missing_ok=True)
    return file


def _valid_until(der: bytes) -> str:
    try:
        return x509.load_der_x509_certificate(der).not_valid_after_utc.date().isoformat()
    except ValueError:
        return "an unknown day (it cannot be read)"


def _warn_of_its_end(source: str, der: bytes) -> None:
    """A pinned certificate stays trusted behind its last day: a plant must not stop for it."""
    try:
        end = x509.load_der_x509_certificate(der).not_valid_after_utc
    except ValueError:
        return
    if end < dt.datetime.now(dt.UTC):
        log.warning("%s: the trusted certificate of the server ran out on %s", source, end.date())
