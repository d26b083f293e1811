"""Server certificates that an authority signed: chain, validity, revocation, identity.

PKI/issuers/*.der, *.pem, *.crt   certificates of authorities whose signature counts
PKI/issuers/*.crl                 their revocation lists, DER or PEM

Each certificate in ``issuers`` is an anchor: the chain ends there, root or not. What cannot be
checked (name constraints, unknown critical extensions) is refused.
"""

import datetime as dt
import ipaddress
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from workshop_brain.errors import SourceError

log = logging.getLogger(__name__)

_MOST_LINKS = 5
_SMALLEST_KEY = 2048
Certificate = x509.Certificate
E = TypeVar("E", bound=x509.ExtensionType)


class _RefusedError(Exception):
    """Why a certificate of a known authority is not accepted."""


def vouched(pki: Path, source: str, url: str, chain: bytes, application_uri: str) -> bool:
    """Whether an authority in ``issuers`` signed the first certificate of ``chain``.

    ``chain`` is DER, one certificate behind the other, as servers send it. SourceError when an
    authority signed it and it must not be accepted all the same.
    """
    folder = pki / "issuers"
    anchors = list(_anchors(folder))
    if not anchors:
        return False
    certificates = list(_split(chain))
    if not certificates:
        return False
    path = _path(certificates[0], certificates[1:], anchors)
    if not path:
        return False
    try:
        now = dt.datetime.now(dt.UTC)
        for at, certificate in enumerate(path):
            _check_one(certificate, at, now)
        for certificate, issuer in zip(path, path[1:], strict=False):  # noqa: RUF007
            _check_revoked(source, certificate, issuer, list(_lists(folder)), now)
        _check_identity(path[0], url, application_uri)
    except _RefusedError as error:
        raise SourceError(
            f"{source}: {url} shows a certificate that {_name(path[1])} signed: {error}. Let the "
            "authority issue a right one for the server, or trust this very certificate by "
            f"putting it into {pki / 'trusted' / (source + '.der')}"
        ) from error
    return True


def _path(
    leaf: Certificate, sent: Sequence[Certificate], anchors: Sequence[Certificate]
) -> list[Certificate]:
    """From the certificate to an anchor by signatures; empty when there is no way."""
    path = [leaf]
    while len(path) <= _MOST_LINKS:
        for issuer in anchors:
            if _signed(path[-1], issuer):
                return [*path, issuer]
        above = [c for c in sent if c not in path and _signed(path[-1], c)]
        if not above:
            return []
        path.append(above[0])
    return []


def _signed(certificate: Certificate, issuer: Certificate) -> bool:
    if certificate.issuer != issuer.subject:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, UnsupportedAlgorithm, TypeError, ValueError):
        return False
    return True


def _check_one(certificate: Certificate, depth: int, now: dt.datetime) -> None:
    """``depth`` 0 is the server's own certificate, else one of an authority."""
    name = "it" if depth == 0 else f"the authority {_name(certificate)}"
    if now < certificate.not_valid_before_utc:
        raise _RefusedError(f"{name} is valid only from {certificate.not_valid_before_utc.date()}")
    if now > certificate.not_valid_after_utc:
        raise _RefusedError(f"{name} ran out on {certificate.not_valid_after_utc.date()}")
    if isinstance(certificate.signature_hash_algorithm, hashes.SHA1 | hashes.MD5):
        raise _RefusedError(f"{name} is signed with {certificate.signature_hash_algorithm.name}")
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _SMALLEST_KEY:
        raise _RefusedError(f"{name} has a key of {key.key_size} bits, below {_SMALLEST_KEY}")
    try:
        extensions = certificate.extensions
    except ValueError as error:
        raise _RefusedError(f"{name} cannot be read: {error}") from error
    for one in extensions:
        unknown = one.critical and isinstance(one.value, x509.UnrecognizedExtension)
        if unknown or isinstance(one.value, x509.NameConstraints):
            raise _RefusedError(f"{name} has a limit ({one.oid.dotted_string}) not checked here")
    if depth:
        _check_authority(extensions, depth, name)
        return
    usage = _extension(extensions, x509.ExtendedKeyUsage)
    if usage is not None and ExtendedKeyUsageOID.SERVER_AUTH not in usage:
        raise _RefusedError("it is not meant for servers (extended key usage)")


def _check_authority(extensions: x509.Extensions, depth: int, name: str) -> None:
    basic = _extension(extensions, x509.BasicConstraints)
    if basic is None or not basic.ca:
        raise _RefusedError(f"{name} may not sign certificates (basic constraints)")
    if basic.path_length is not None and depth - 1 > basic.path_length:
        raise _RefusedError(f"{name} allows {basic.path_length} authorities below it")
    usage = _extension(extensions, x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        raise _RefusedError(f"{name} may not sign certificates (key usage)")


def _check_revoked(
    source: str,
    certificate: Certificate,
    issuer: Certificate,
    lists: Sequence[x509.CertificateRevocationList],
    now: dt.datetime,
) -> None:
    """A missing or old list is warned of: a plant must not stop for it."""
    own = []
    for one in lists:
        try:
            if one.issuer == issuer.subject and one.is_signature_valid(issuer.public_key()):  # type: ignore[arg-type]
                own.append(one)
        except (UnsupportedAlgorithm, TypeError, ValueError):
            continue
    if not own:
        log.warning("%s: no revocation list of %s in 'issuers': certificates that it revoked are "
                    "not noticed", source, _name(issuer))  # fmt: skip
        return
    newest = max(own, key=lambda one: one.last_update_utc)
    if newest.next_update_utc is not None and newest.next_update_utc < now:
        log.warning("%s: the revocation list of %s is old; a new one was due on %s",
                    source, _name(issuer), newest.next_update_utc.date())  # fmt: skip
    found = newest.get_revoked_certificate_by_serial_number(certificate.serial_number)
    if found is not None:
        day = found.revocation_date_utc.date()
        raise _RefusedError(f"{_name(certificate)} was revoked on {day}")


def _check_identity(certificate: Certificate, url: str, application_uri: str) -> None:
    """Whoever has any certificate of the authority must not stand in for this server."""
    names = _extension(certificate.extensions, x509.SubjectAlternativeName)
    uris = names.get_values_for_type(x509.UniformResourceIdentifier) if names else []
    if application_uri not in uris:
        shown = ", ".join(uris) or "none"
        raise _RefusedError(
            f"its application URI is {shown}, the server calls itself {application_uri!r}"
        )
    host = (urlsplit(url).hostname or "").lower()
    known = {name.lower() for name in names.get_values_for_type(x509.DNSName)} if names else set()
    if names is not None:
        known |= {str(ip) for ip in names.get_values_for_type(x509.IPAddress)}
    try:
        host = str(ipaddress.ip_address(host))
    except ValueError:
        host = host.removesuffix(".")
    if host not in known:
        raise _RefusedError(
            f"it is for {', '.join(sorted(known)) or 'no host'}, not for {host!r}; use one of its "
            "names in the url"
        )


def _extension(extensions: x509.Extensions, kind: type[E]) -> E | None:
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _name(certificate: Certificate) -> str:
    return repr(certificate.subject.rfc4514_string())


def _split(chain: bytes) -> Iterable[Certificate]:
    """The certificates of a chain; it ends where one cannot be read."""
    while chain:
        one = leaf(chain)
        try:
            yield x509.load_der_x509_certificate(one)
        except ValueError:
            return
        chain = chain[len(one) :]


def _anchors(folder: Path) -> Iterable[Certificate]:
    for file in _files(folder, (".der", ".pem", ".crt", ".cer")):
        content = file.read_bytes()
        try:
            if b"-----BEGIN" in content:
                yield from x509.load_pem_x509_certificates(content)
            else:
                yield x509.load_der_x509_certificate(content)
        except ValueError as error:
            log.warning("%s is no certificate (%s) and is left out", file, error)


def _lists(folder: Path) -> Iterable[x509.CertificateRevocationList]:
    for file in _files(folder, (".crl",)):
        content = file.read_bytes()
        try:
            if b"-----BEGIN" in content:
                yield x509.load_pem_x509_crl(content)
            else:
                yield x509.load_der_x509_crl(content)
        except ValueError as error:
            log.warning("%s is no revocation list (%s) and is left out", file, error)


def _files(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in endings)


def leaf(chain: bytes) -> bytes:
    """The first certificate of a chain as servers send it: DER, one behind the other.

    >>> leaf(bytes([0x30, 2, 1, 1, 0x30, 0])).hex()
    '30020101'
    """
    if len(chain) < 4 or chain[0] != 0x30:
        return chain
    head, size = 2, chain[1]
    if size & 0x80:
        head = 2 + (size & 0x7F)
        size = int.from_bytes(chain[2:head], "big")
    return chain[: head + size]
