"""The way to a broker: address, TLS, and a connection whose refusal is named."""

import asyncio
import logging
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import gmqtt
from gmqtt.mqtt.constants import MQTTv311

from workshop_brain.errors import ConfigError, SourceError

QUIET = logging.getLogger(f"{__name__}.mqtt")
QUIET.setLevel(logging.CRITICAL)
# It prints a traceback for every connection that ends; the reason is told by ``connect``.
logging.getLogger("gmqtt.mqtt.protocol").setLevel(logging.CRITICAL)

NO_OWN_RECONNECT = -2
_CONNECT_S = 5.0
_SHORT_S, _SUSPICIOUS = 5.0, 3
_EXPIRED, _NOT_YET, _WRONG_HOST, _WRONG_ADDRESS = 10, 9, 62, 64
_ALERTS = (
    ("CERTIFICATE_REQUIRED", "the broker wants a client certificate; give cert_file and key_file"),
    ("UNKNOWN_CA", "the broker does not know who signed cert_file"),
    ("CERTIFICATE_EXPIRED", "the broker says that cert_file has expired"),
    ("CERTIFICATE_REVOKED", "the broker says that cert_file is revoked"),
    ("BAD_CERTIFICATE", "the broker does not take cert_file"),
    ("HANDSHAKE_FAILURE", "the broker refused the handshake; does it want a client certificate?"),
    ("WRONG_VERSION", "this port does not speak TLS; use mqtt:// or the broker's TLS port"),
    ("RECORD_LAYER_FAILURE", "this port does not speak TLS; use mqtt:// or the broker's TLS port"),
)


@dataclass(slots=True)
class Takeovers:
    """Notices that a broker ends connection after connection: another client has our name.

    MQTT 3.1.1 tells no reason when it lets a client go for another of the same name.
    """

    began: float = 0.0
    short: int = 0

    def connected(self) -> None:
        """A connection is there."""
        self.began = time.monotonic()

    def ended(self) -> bool:
        """It is over; whether it is time to say that somebody else uses our name."""
        self.short = self.short + 1 if time.monotonic() - self.began < _SHORT_S else 0
        return self.short == _SUSPICIOUS

    def pause_s(self) -> float:
        """How long to keep away, so that two clients do not fight at full speed."""
        return min(5.0, 0.1 * 2.0**self.short) if self.short >= _SUSPICIOUS else 0.0


class Given(Protocol):
    """What the settings of every MQTT source say of the broker."""

    @property
    def url(self) -> str: ...
    @property
    def user(self) -> str: ...
    @property
    def ca_file(self) -> str: ...
    @property
    def cert_file(self) -> str: ...
    @property
    def key_file(self) -> str: ...
    @property
    def verify_host(self) -> bool: ...


def broker_address(url: str) -> tuple[str, int, bool]:
    """(host, port, TLS) of ``mqtt://host:port`` or ``mqtts://host:port``.

    >>> broker_address("mqtt://127.0.0.1")
    ('127.0.0.1', 1883, False)
    """
    parts = urlsplit(url)
    if parts.scheme not in ("mqtt", "mqtts", "tcp", "ssl") or not parts.hostname:
        raise ConfigError(f"source url {url!r}: must be mqtt://host:port or mqtts://host:port")
    tls = parts.scheme in ("mqtts", "ssl")
    try:
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"source url {url!r}: {error}") from error
    return parts.hostname, port or (8883 if tls else 1883), tls


def tls_context(given: Given, folder: Path) -> ssl.SSLContext:
    """Context of a connection to a broker; SourceError names the file that is wrong.

    Parameters
    ----------
    folder
        Where files stand whose name has no folder.
    """
    ca = _file(given.ca_file, folder, "ca_file")
    cert = _file(given.cert_file, folder, "cert_file")
    key = _file(given.key_file, folder, "key_file")
    try:
        context = ssl.create_default_context(cafile=ca)
    except (ssl.SSLError, OSError) as error:
        raise SourceError(f"ca_file {ca}: holds no certificate in PEM form ({error})") from error
    context.check_hostname = given.verify_host
    if cert is not None:
        try:
            context.load_cert_chain(cert, key, password=_no_password)
        except (ssl.SSLError, OSError, ValueError) as error:
            raise SourceError(
                f"cert_file {cert} and key_file {key}: cannot be used: "
                f"{error or 'they do not belong together'}"
            ) from error
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted; store it without a password, readable by the brain")


def _file(name: str, folder: Path, key: str) -> str | None:
    if not name:
        return None
    path = folder / name
    if not path.is_file():
        raise SourceError(f"{key} {path}: there is no such file")
    return str(path)


async def connect(
    client: gmqtt.Client,
    given: Given,
    *,
    password: str,
    folder: Path,
    lost: asyncio.Event,
    told_keepalive_s: int,
    own_keepalive_s: int,
) -> None:
    """Open a client's connection; SourceError says why the broker or its certificate was refused.

    Parameters
    ----------
    lost
        Set by the client's ``on_disconnect``.
    own_keepalive_s
        How often the line is probed: twice as long in silence and it is given up.
    """
    host, port, tls = broker_address(given.url)
    context = tls_context(given, folder) if tls else False
    if given.user:
        client.set_auth_credentials(given.user, password)
    attempt = asyncio.ensure_future(
        client.connect(host, port, ssl=context, keepalive=told_keepalive_s, version=MQTTv311)
    )
    gone = asyncio.ensure_future(lost.wait())
    try:
        await asyncio.wait({attempt, gone}, timeout=_CONNECT_S, return_when=asyncio.FIRST_COMPLETED)
        if not attempt.done() and gone.done():
            await asyncio.wait({attempt}, timeout=0.05)  # a refusal may be on its way
        if not attempt.done():
            raise SourceError(_ended(client, given, gone.done()))
        attempt.result()
    except (OSError, gmqtt.MQTTConnectError) as error:
        raise SourceError(_said(error, host, given)) from error
    finally:
        attempt.cancel()
        gone.cancel()
        await asyncio.wait({attempt, gone})
    client._connection.keepalive = own_keepalive_s


def _ended(client: gmqtt.Client, given: Given, is_closed: bool) -> str:
    """Why a connection ended before the broker had answered."""
    connection = client._connection
    cause = connection._protocol._hard_reader.exception() if connection is not None else None
    if cause is not None:
        return _said(cause, broker_address(given.url)[0], given)
    if not is_closed:
        return f"no answer within {_CONNECT_S:.0f} s"
    return _closed(given)


def _said(error: BaseException, host: str, given: Given) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _not_trusted(error, host, given)
    if isinstance(error, ssl.SSLError):
        said = f"{error.reason or ''} {error}".upper().replace(" ", "_")
        return next((text for word, text in _ALERTS if word in said), f"TLS: {error}")
    if isinstance(error, gmqtt.MQTTConnectError) and error._code in (4, 5):
        who = f"user {given.user!r}" if given.user else "a connection without user"
        return f"the broker refuses {who}; check user and password_env"
    if isinstance(error, ConnectionResetError):
        return _closed(given)
    return str(error) or type(error).__name__


def _closed(given: Given) -> str:
    """Why a broker may close without a word; the TLS alert is lost when the socket is reset."""
    if not given.url.startswith("mqtts://"):
        return "the broker closed the connection; does this port want mqtts://?"
    if given.cert_file:
        return f"the broker closed the connection; does it trust cert_file {given.cert_file}?"
    return (
        "the broker closed the connection; does it want a client certificate "
        "(cert_file and key_file)?"
    )


def _not_trusted(error: ssl.SSLCertVerificationError, host: str, given: Given) -> str:
    signers = f"ca_file {given.ca_file}" if given.ca_file else "the system's list (no ca_file)"
    if error.verify_code == _EXPIRED:
        return "the broker's certificate has expired; renew it, or check this machine's clock"
    if error.verify_code == _NOT_YET:
        return "the broker's certificate is not valid yet; check this machine's clock"
    if error.verify_code in (_WRONG_HOST, _WRONG_ADDRESS):
        return (
            f"the broker's certificate is not for {host!r} ({error.verify_message}); "
            "use the name in it, or set verify_host = false"
        )
    return f"the broker's certificate is not signed by {signers} ({error.verify_message})"


async def drop(client: Any) -> None:
    """Close a client's socket without a DISCONNECT."""
    connection = client._connection if client is not None else None
    if connection is not None:
        connection._transport.abort()
        await asyncio.sleep(0)


def send_acks(client: Any, ids: Sequence[int]) -> None:
    """PUBACK of QoS 1 messages, in one write."""
    client._connection.send_package(b"".join(b"\x40\x02" + i.to_bytes(2, "big") for i in ids))
