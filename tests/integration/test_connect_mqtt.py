"""Plain MQTT against a real mosquitto: nothing lost when killed, TLS, refusals named."""

import asyncio
import datetime
import ipaddress
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import gmqtt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from gmqtt.mqtt.constants import MQTTv311

from workshop_brain.app.ingest import Ingest
from workshop_brain.connect.discovery.watched import Watched
from workshop_brain.connect.mqtt import link
from workshop_brain.connect.mqtt.client import MqttClient
from workshop_brain.connect.mqtt.settings import TopicRow
from workshop_brain.connect.outbox import ended
from workshop_brain.connect.settings import MqttSettings
from workshop_brain.errors import SourceError
from workshop_brain.store.historian import Historian

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="needs mosquitto")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(config: str, folder: Path, port: int) -> subprocess.Popen[bytes]:
    file = folder / "mosquitto.conf"
    file.write_text(f"user root\n{config}")
    command = [str(MOSQUITTO), "-c", str(file)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(200):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
            return process
        time.sleep(0.05)
    raise AssertionError("mosquitto did not start")


def collector(tmp_path: Path, port: int) -> subprocess.Popen[bytes]:
    body = {
        "protocol": "mqtt", "id": "m", "url": f"mqtt://127.0.0.1:{port}",
        "topic": [
            {"topic": "stamped/+", "path": "works/a/l/c/u/{2}_{key}", "time": "/ts"},
            {"topic": "plain/+", "path": "works/a/l/c/u/{2}"},
        ],
    }  # fmt: skip
    code = (
        "import asyncio, json, sys\nfrom pathlib import Path\nfrom workshop_brain import config\n"
        "from workshop_brain.connect import collector\n"
        f"s = config.source(json.loads({json.dumps(json.dumps(body))}), 'source')\n"
        f"asyncio.run(collector.run(s, enterprise='local',"
        f" socket_path={str(tmp_path / 'i.sock')!r},"
        f" stop=asyncio.Event(), spool_dir=Path({str(tmp_path / 'spool' / 'm')!r})))"
    )
    return subprocess.Popen([sys.executable, "-c", code])


async def test_a_killed_collector_loses_nothing_and_stores_nothing_twice(tmp_path: Path) -> None:
    port = free_port()
    broker = start(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n", tmp_path, port
    )
    historian = Historian(tmp_path / "data")
    ingest = Ingest(
        historian,
        tmp_path / "i.sock",
        on_samples=lambda s, r: None,
        on_curve=lambda *a, **k: None,
        on_event=lambda e: None,
    )
    await ingest.start()
    process = collector(tmp_path, port)
    count = 3000
    try:
        await until(lambda: any(s.state == "up" for s in ingest.sources()))
        await asyncio.sleep(0.2)  # its subscriptions are on their way
        sender = gmqtt.Client("sender")
        await sender.connect("127.0.0.1", port, version=MQTTv311)
        for k in range(count):
            stamp = 1_790_000_000_000 + k
            sender.publish("stamped/x", json.dumps({"ts": stamp, "tick": k}), qos=1)
            sender.publish("plain/tock", str(k), qos=1)
            if k % 60 == 0:
                await asyncio.sleep(0.01)
            if k in (900, 1800):
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                process = collector(tmp_path, port)

        def values(name: str) -> list[float]:
            found = [s.path for s in historian.signals() if s.name == name]
            if not found:
                return []
            rows = historian.query(found, 0, 1 << 62)
            return [float(v) for v in rows.column("value").to_pylist()]

        await until(lambda: len(values("tock")) >= count and len(values("x_tick")) >= count)
        await asyncio.sleep(0.3)
        assert sorted(values("x_tick")) == list(range(count))
        assert sorted(values("tock")) == list(range(count))
        await sender.disconnect()
    finally:
        process.kill()
        process.wait()
        await ingest.close()
        historian.close()
        broker.kill()
        broker.wait()


async def test_two_clients_of_one_name_say_so_and_slow_down(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    broker = start(f"listener {port} 127.0.0.1\nallow_anonymous true\n", tmp_path, port)
    rows = (TopicRow(topic="t", path="works/a/l/c/u/tick", time="/ts"),)
    given = MqttSettings(id="m", url=f"mqtt://127.0.0.1:{port}", topic=rows, client_id="press")
    boxes, clients = [], []
    for name in ("one", "two"):
        folder = tmp_path / name / "spool" / "m"
        boxes.append(Watched("m", "mqtt", tmp_path / "i", folder, durable=1 << 60))
        clients.append(MqttClient(given, "local", boxes[-1], folder, tmp_path))
    tasks = [asyncio.create_task(client.run()) for client in clients]
    try:
        await until(lambda: "another client 'press'" in caplog.text)
        assert max(client._takeovers.pause_s() for client in clients) >= 0.8
        sender = gmqtt.Client("sender")
        await sender.connect("127.0.0.1", port, version=MQTTv311)
        for k in range(50):
            body = json.dumps({"ts": 1_790_000_000_000 + k, "x": k})
            sender.publish("t", body, qos=1)

        def values() -> set[float]:
            return {v for box in boxes for part in box.parts for v in part.value.tolist()}

        await until(lambda: values() == set(range(50)))
        await sender.disconnect()
    finally:
        for task in tasks:
            await ended(task)
        broker.kill()
        broker.wait()


async def until(condition, seconds: float = 20.0) -> None:  # type: ignore[no-untyped-def]
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


# --- TLS ---


def _certificate(folder: Path, name: str, signer: str, *, days: int = 10, host: str = "") -> None:
    """``name.pem`` and ``name.key``, signed by ``signer`` (itself when it is the same)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer, sign_key = subject, key
    if signer != name:
        issuer = x509.load_pem_x509_certificate((folder / f"{signer}.pem").read_bytes()).subject
        sign_key = serialization.load_pem_private_key(  # type: ignore[assignment]
            (folder / f"{signer}.key").read_bytes(), None
        )
    now = datetime.datetime.now(datetime.UTC)
    names: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    if host:
        names = [x509.DNSName(host)]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=30))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=signer == name, path_length=None), True)
        .add_extension(x509.SubjectAlternativeName(names), False)
        .sign(sign_key, hashes.SHA256())
    )
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


async def attempt(port: int, folder: Path, password: str = "right", **more: str | bool) -> None:
    """One connection, as both MQTT sources make it."""
    given = {"ca_file": "ca.pem", "cert_file": "brain.pem", "key_file": "brain.key"} | more
    settings = MqttSettings(id="t", url=f"mqtts://127.0.0.1:{port}", user="brain", **given)  # type: ignore[arg-type]
    lost, client = asyncio.Event(), gmqtt.Client("t", logger=link.QUIET)
    client.set_config({"reconnect_retries": link.NO_OWN_RECONNECT})
    client.on_disconnect = lambda *a, **k: lost.set()
    try:
        await link.connect(
            client, settings, password=password, folder=folder, lost=lost,
            told_keepalive_s=10, own_keepalive_s=2,
        )  # fmt: skip
    finally:
        await link.drop(client)


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    for name, signer, days, host in (
        ("ca", "ca", 10, ""), ("other", "other", 10, ""), ("server", "ca", 10, ""),
        ("expired", "ca", -1, ""), ("elsewhere", "ca", 10, "elsewhere"), ("brain", "ca", 10, ""),
        ("stranger", "other", 10, ""),
    ):  # fmt: skip
        _certificate(tmp_path, name, signer, days=days, host=host)
    (tmp_path / "users").write_text("brain:right\n")
    subprocess.run(["mosquitto_passwd", "-U", str(tmp_path / "users")], check=True)
    return tmp_path


@pytest.mark.skipif(shutil.which("mosquitto_passwd") is None, reason="needs mosquitto_passwd")
@pytest.mark.parametrize(
    ("server", "change", "says"),
    [
        ("server", {}, ""),
        ("server", {"password": "wrong"}, "refuses user 'brain'"),
        ("server", {"ca_file": "other.pem"}, "not signed by ca_file other.pem"),
        ("server", {"ca_file": ""}, "system's list"),
        ("server", {"ca_file": "none.pem"}, "no such file"),
        ("server", {"cert_file": "", "key_file": ""}, "client certificate"),
        ("server", {"cert_file": "stranger.pem", "key_file": "stranger.key"}, "cert_file"),
        ("expired", {}, "has expired"),
        ("elsewhere", {}, "not for '127.0.0.1'"),
        ("elsewhere", {"verify_host": False}, ""),
    ],
)
async def test_a_secure_broker_takes_us_or_we_say_why_not(
    certificates: Path, server: str, change: dict[str, str | bool], says: str
) -> None:
    port, folder = free_port(), certificates
    broker = start(
        f"listener {port} 127.0.0.1\nallow_anonymous false\npassword_file {folder}/users\n"
        f"cafile {folder}/ca.pem\ncertfile {folder}/{server}.pem\nkeyfile {folder}/{server}.key\n"
        "require_certificate true\n",
        folder,
        port,
    )
    try:
        if says:
            with pytest.raises(SourceError, match=says):
                await attempt(port, folder, **change)  # type: ignore[arg-type]
        else:
            await attempt(port, folder, **change)  # type: ignore[arg-type]
    finally:
        broker.kill()
        broker.wait()
