"""A collector on another host: its bundle, and the TLS context that the bundle makes.

A bundle is one JSON file that the brain makes and that is all the other host needs: where the brain
is, the brain's own authority, this collector's certificate with its key, and the sources to read.
"""

import json
import ssl
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workshop_brain.connect.handover import REMOTE_LOST_S, Remote
from workshop_brain.errors import ConfigError

VERSION = 1
SERVER_NAME = "brain.workshop-brain.internal"
"""In the brain's certificate: it holds at whatever address a collector finds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestSettings:
    """How collectors reach the brain, and how much they keep while it is away.

    Attributes
    ----------
    listen
        ``host:port`` for collectors on other hosts; "" takes none in.
    lost_s
        Silence after which a link from another host is dead, seconds.
    spool_mb
        Most megabytes of each source that wait on disk; beyond it the oldest go.
    """

    listen: str = ""
    lost_s: float = REMOTE_LOST_S
    spool_mb: int = 2048

    def fault(self) -> str:
        """Key and what is wrong with its value; "" when nothing is.

        >>> IngestSettings(listen="8700").fault()
        "listen: must be host:port, like 0.0.0.0:8700, got '8700'"
        """
        try:
            if self.listen:
                split_listen(self.listen)
        except ValueError as error:
            return f"listen: {error}"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What a collector on another host is given.

    Attributes
    ----------
    name
        The collector; its certificate carries it.
    address
        ``host:port`` at which the brain listens for collectors.
    authority, certificate, key
        PEM texts; the key is secret.
    sources
        Tables of the plant file, with ``protocol``.
    spool_mb
        Most megabytes of each source that wait on disk.
    """

    version: int = VERSION
    name: str
    address: str
    enterprise: str
    authority: str
    certificate: str
    key: str
    sources: tuple[dict[str, Any], ...] = ()
    lost_s: float = REMOTE_LOST_S
    spool_mb: int = 2048


def write_bundle(bundle: Bundle, path: Path) -> None:
    """Write a bundle, readable by its owner alone; ConfigError when it cannot be."""
    try:
        path.unlink(missing_ok=True)
        path.touch(0o600)
        path.write_text(json.dumps(asdict(bundle), indent=1, ensure_ascii=False), "utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error}") from error


def read_bundle(path: Path) -> Bundle:
    """A bundle from its file; ConfigError says what is wrong with it."""
    try:
        content = json.loads(path.read_text("utf-8"))
        version = content.get("version")
        if version != VERSION:
            raise ConfigError(
                f"{path}: is of version {version!r}, this program reads {VERSION}; use the same "
                "version here and on the brain"
            )
        return Bundle(**{**content, "sources": tuple(content["sources"])})
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{path}: is no bundle of 'brain collector enroll' ({error}); copy it again"
        ) from error


def remote(bundle: Bundle) -> Remote:
    """The way to the brain of a bundle; ConfigError when its certificate or key is damaged."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(cadata=bundle.authority)
        with tempfile.NamedTemporaryFile("w") as pair:  # only its owner may read it
            pair.write(bundle.certificate + bundle.key)
            pair.flush()
            context.load_cert_chain(pair.name, password=_no_password)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"bundle of collector {bundle.name!r}: its certificate cannot be used ({error}); "
            "copy it again, or make a new one with 'brain collector enroll'"
        ) from error
    return Remote(context=context, server_name=SERVER_NAME, lost_s=bundle.lost_s)


def _no_password() -> str:
    raise ValueError("the key is encrypted")


def split_listen(listen: str) -> tuple[str, int]:
    """(host, port) of ``host:port``, IPv6 in brackets; ValueError when it is none.

    >>> split_listen("0.0.0.0:8700"), split_listen("[::]:8700")
    (('0.0.0.0', 8700), ('::', 8700))
    """
    host, colon, port = listen.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not bare or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"must be host:port, like 0.0.0.0:8700, got {listen!r}")
    return bare, int(port)
