"""``brain connect`` against real servers."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from asyncua import Server, ua
from asyncua.crypto.permission_rules import User, UserRole
from bench import node_opcua
from bench.house import free_port
from typer.testing import CliRunner

from workshop_brain import config
from workshop_brain.cli import app
from workshop_brain.connect.choice import Choice
from workshop_brain.connect.discovery import http, modbus, opcua
from workshop_brain.connect.discovery.options import Certificate, Options
from workshop_brain.connect.opcua import browse, pki
from workshop_brain.connect.opcua.session import Session
from workshop_brain.connect.settings import OpcUaSettings
from workshop_brain.errors import ConfigError, SourceError


def options(tmp_path: Path, **more: Any) -> Options:
    return Options(**({"seconds": 1.0, "source": "m1", "pki_dir": tmp_path / "pki"} | more))


def brain(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line without a terminal."""
    command = [sys.executable, "-m", "workshop_brain", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, cwd=cwd,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


@asynccontextmanager
async def machine(
    port: int,
    policies: list[ua.SecurityPolicyType] | None = None,
    more: str = "",
    users: Any = None,
    beside: str = "",
) -> AsyncIterator[Callable[[str], Awaitable[object]]]:
    """An OPC UA server: one unit with a counter without a telling name, a gauge, diagnostics.

    Gives a function that adds a variable.
    """
    server = Server(user_manager=users)
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/t")
    server.set_security_policy(policies or [ua.SecurityPolicyType.NoSecurity])
    if policies:
        key, certificate = (
            Path(os.environ["TEST_PKI"]) / "k.pem",
            Path(os.environ["TEST_PKI"]) / "c",
        )
        from asyncua.crypto.cert_gen import setup_self_signed_certificate
        from cryptography.x509.oid import ExtendedKeyUsageOID

        await setup_self_signed_certificate(
            key, certificate, "urn:t", "h", [ExtendedKeyUsageOID.SERVER_AUTH], {}
        )
        await server.load_certificate(str(certificate))
        await server.load_private_key(str(key))
    space = await server.register_namespace("urn:test")
    unit = await server.nodes.objects.add_folder(ua.NodeId("Plant", space), "Plant")
    for name in ("works", "assembly", "asm1", "Z1", "OP010"):
        unit = await unit.add_folder(ua.NodeId(name, space), f"{space}:{name}")
    pieces = await unit.add_variable(ua.NodeId("P", space), f"{space}:Pieces", 0)
    force = await unit.add_variable(ua.NodeId("F", space), f"{space}:Force", 1.25)
    await force.add_property(ua.NodeId("FR", space), "0:EURange", ua.Range(0.0, 250.0))
    kilo = ua.EUInformation(DisplayName=ua.LocalizedText("kN"))
    await force.add_property(ua.NodeId("FU", space), "0:EngineeringUnits", kilo)
    health = await unit.add_folder(ua.NodeId("D", space), f"{space}:Diagnostics")
    await health.add_variable(ua.NodeId("DL", space), f"{space}:Load", 0.5)
    if beside:
        other = await server.nodes.objects.add_folder(ua.NodeId(beside, space), beside)
        await other.add_variable(ua.NodeId("O", space), f"{space}:PartCount", 0)

    async def add(name: str) -> object:
        return await unit.add_variable(ua.NodeId(name, space), f"{space}:{name}", 1.0)

    if more:
        await add(more)

    async def run() -> None:
        n = 0
        while True:
            n += 1
            await pieces.write_value(n)
            await asyncio.sleep(0.1)

    async with server:
        task = asyncio.create_task(run())
        try:
            yield add
        finally:
            task.cancel()


@pytest.mark.parametrize("beside", ["", "Simulation"])
async def test_what_is_proposed_is_right_and_is_what_the_collector_takes(
    tmp_path: Path, beside: str
) -> None:
    port = free_port()
    live: list[dict[str, tuple[str, float]]] = []
    async with machine(port, beside=beside, more="StateCurrent"):
        found = await opcua.discover(
            f"opc.tcp://127.0.0.1:{port}/t",
            options(tmp_path, show=lambda rows, seconds: live.append(rows)),
        )
        given = config.source({"id": "m1", **found.source}, "source")
        assert isinstance(given, OpcUaSettings)
        session = Session(given, "", tmp_path / "pki")
        await session.open()
        services = session.client.uaclient.session
        taken = await browse.find(
            services,
            root=given.root,
            choice=Choice(
                enterprise="local",
                include=given.include,
                exclude=given.exclude,
                overrides=given.override,
            ),
            source="m1",
            limits=await browse.read_limits(services),
        )
        await session.client.close_session()
        await session.drop()
    proposed = {p.signal.path: (p.signal.kind, p.signal.unit) for p in found.proposals}
    assert proposed == {i.signal.path: (i.signal.kind, i.signal.unit) for i in taken.items}
    by_name = {p.signal.name: p for p in found.proposals}
    pieces, force = by_name["pieces"], by_name["force"]
    assert pieces.signal.path == "local/works/assembly/asm1/z1/op010/pieces"
    assert pieces.signal.kind.name == "COUNTER"
    assert 4 < pieces.rate_hz < 15
    assert (force.signal.unit, force.signal.low, force.signal.high) == ("kN", 0.0, 250.0)
    assert force.guesses["unit"].confidence == 1.0
    assert {"match": "*/Pieces", "kind": "counter"} in found.source["override"]
    assert "*/Diagnostics/*" in found.source["exclude"]
    assert found.skipped["diagnostics"] == 1
    assert any(pieces.signal.path in rows for rows in live)
    assert found.source.get("root", "") == ("" if beside else "Plant")


async def test_a_certificate_is_shown_and_nothing_is_trusted_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, shown = free_port(), list[Certificate]()
    monkeypatch.setenv("TEST_PKI", str(tmp_path))
    policies = [
        ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
        ua.SecurityPolicyType.Aes256Sha256RsaPss_SignAndEncrypt,
    ]

    def trust(certificate: Certificate) -> bool:
        shown.append(certificate)
        return certificate.known or len(shown) > 1

    url = f"opc.tcp://127.0.0.1:{port}/t"
    given = options(tmp_path, trust=trust, seconds=0.1)
    async with machine(port, policies):
        with pytest.raises(SourceError, match=r"fingerprint .* is not trusted; compare"):
            await opcua.discover(url, given)
        assert not (tmp_path / "pki/trusted").exists()
        found = await opcua.discover(url, given)
        assert found.source["security"] == "auto"
        assert pki.fingerprint(tmp_path / "pki/trusted/m1.der") == shown[1].fingerprint
        await opcua.discover(url, given)
    assert [c.known for c in shown] == [False, False, True]
    assert "Aes256" in shown[0].policy


async def test_what_is_wrong_with_an_address_is_named(tmp_path: Path) -> None:
    given = options(tmp_path)
    with pytest.raises(SourceError, match=r"no host 'no-such-host\.invalid' is known"):
        await opcua.discover("opc.tcp://no-such-host.invalid:4840", given)
    closed = free_port()
    with pytest.raises(SourceError, match=f"127.0.0.1 refuses port {closed}"):
        await opcua.discover(f"opc.tcp://127.0.0.1:{closed}", given)
    server = await asyncio.start_server(_says_no, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(SourceError, match="does not speak OPC UA"):
        await opcua.discover(f"opc.tcp://127.0.0.1:{port}", given)
    server.close()


class OnlyAnna:
    """Lets in whoever calls herself anna."""

    def get_user(
        self, iserver: Any, username: Any = None, password: Any = None, certificate: Any = None
    ) -> User | None:
        return User(role=UserRole.User) if username == "anna" else None


async def test_who_is_not_let_in_is_told_what_to_give(tmp_path: Path) -> None:
    port = free_port()
    url = f"opc.tcp://127.0.0.1:{port}/t"
    async with machine(port, users=OnlyAnna()):
        with pytest.raises(SourceError, match="give --user and --password-env"):
            await opcua.discover(url, options(tmp_path))
        with pytest.raises(SourceError, match="user 'bob' is refused"):
            await opcua.discover(url, options(tmp_path, user="bob", password="x"))
        anna = {"user": "anna", "password": "x", "password_env": "ANNA", "seconds": 0.1}
        found = await opcua.discover(url, options(tmp_path, **anna))
    assert found.source["user"] == "anna"
    assert found.source["password_env"] == "ANNA"
    assert "x" not in found.source.values()


async def _says_no(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(10)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    writer.close()


async def test_the_second_look_tells_what_is_new_and_keeps_the_file(tmp_path: Path) -> None:
    port = free_port()
    url, file = f"opc.tcp://127.0.0.1:{port}/t", tmp_path / "plant.toml"
    look = ("connect", url, "-o", "plant.toml", "--seconds", "1", "--yes")
    (tmp_path / "b").mkdir()
    async with machine(port) as add:
        first, unasked = await asyncio.gather(
            asyncio.to_thread(brain, *look, cwd=tmp_path),
            asyncio.to_thread(brain, *look[:-1], cwd=tmp_path / "b"),
        )
        assert first.returncode == 0, first.stderr
        assert unasked.returncode == 1
        assert "give --yes" in unasked.stderr
        assert not (tmp_path / "b/plant.toml").exists()
        assert "Written: plant.toml" in first.stderr
        written = file.read_text()
        assert len(written.splitlines()) < 25
        file.write_text(f"# mine\n{written}")
        await add("Extra")
        again = await asyncio.to_thread(brain, *look, "--json", "--language", "zh", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "正在查询端点" in again.stderr
    body = json.loads(again.stdout)
    assert body["written"] is None
    path = "local/works/assembly/asm1/z1/op010/extra"
    assert body["found"][0]["difference"] == {"new": [path], "gone": [], "changed": []}
    assert file.read_text() == f"# mine\n{written}"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ftp://x",), "address 'ftp://x': must be one of opc.tcp://host"),
        (("mqtt://x", "--seconds", "0"), "--seconds 0: must be from 1 to 3600"),
        (("mqtt://x", "--language", "fr"), "--language 'fr': en or zh"),
        (("mqtt://x", "--password-env", "NO_SUCH"), "environment variable NO_SUCH is not set"),
        (("mqtt://x", "-o", "/"), "/: cannot be read"),
    ],
)
def test_wrong_words_are_named(arguments: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(app, ["connect", *arguments])
    assert isinstance(result.exception, ConfigError)
    assert said in str(result.exception)


PROBE = """<?xml version="1.0"?>
<MTConnectDevices xmlns="urn:mtconnect.org:MTConnectDevices:2.0">
 <Header instanceId="1" nextSequence="3"/>
 <Devices><Device id="d" name="Mill1" uuid="u"><DataItems>
   <DataItem id="avail" category="EVENT" type="AVAILABILITY"/></DataItems>
  <Components><Axes id="a"><Components><Rotary id="c" name="Spindle"><DataItems>
   <DataItem id="s1" name="Speed" category="SAMPLE" type="ROTARY_VELOCITY"
     units="REVOLUTION/MINUTE"/>
  </DataItems></Rotary></Components></Axes></Components></Device></Devices>
</MTConnectDevices>"""
STREAMS = """<MTConnectStreams xmlns="urn:mtconnect.org:MTConnectStreams:2.0">
 <Header instanceId="1" nextSequence="{next}"/><Streams><DeviceStream name="Mill1">
  <ComponentStream component="Rotary"><Samples>
   <RotaryVelocity dataItemId="s1" sequence="1" timestamp="{now}">{speed}</RotaryVelocity></Samples>
   <Events><Availability dataItemId="avail" sequence="2" timestamp="{now}"
     >AVAILABLE</Availability></Events>
  </ComponentStream></DeviceStream></Streams></MTConnectStreams>"""


@asynccontextmanager
async def web(pages: dict[str, str]) -> AsyncIterator[str]:
    """Serves documents by the beginning of their path; {next} counts up."""
    asked = [0]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                path = head.split(b" ", 2)[1].decode()
                asked[0] += 1
                body = next((text for at, text in pages.items() if path.startswith(at)), "nothing")
                body = body.replace("{next}", str(asked[0])).replace("{speed}", f"{asked[0]}.5")
                body = body.replace("{now}", f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}")
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
                writer.write(body.encode())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_an_mtconnect_agent_is_read_and_other_web_pages_are_told_apart(
    tmp_path: Path,
) -> None:
    pages = {"/probe": PROBE, "/current": STREAMS, "/sample": STREAMS}
    async with web(pages) as url:
        found = await http.discover(url, options(tmp_path, seconds=1.2))
    by_name = {p.signal.name: p for p in found.proposals}
    speed = by_name["a_spindle_speed"]
    assert speed.signal.path == "local/site/_/_/_/mill1/a_spindle_speed"
    assert speed.signal.unit == "REVOLUTION/MINUTE"
    assert speed.rate_hz > 0
    assert found.facts[0] == ("mtconnect", {"devices": "Mill1"})
    config.source({"id": "m1", **found.source}, "source")
    async with web({"/api/v1/health": '{"status":"ok"}'}) as url:
        with pytest.raises(SourceError, match="is a Workshop Brain; programs push"):
            await http.discover(url, options(tmp_path))
    async with web({}) as url:
        with pytest.raises(SourceError, match="is no MTConnect agent"):
            await http.discover(url, options(tmp_path))
    with pytest.raises(SourceError, match="refuses port"):
        await http.discover(f"http://127.0.0.1:{free_port()}", options(tmp_path))


async def test_modbus_registers_are_found_and_guessed(tmp_path: Path) -> None:
    pymodbus = pytest.importorskip("pymodbus.server", reason="needs pymodbus: pip install pymodbus")
    from pymodbus.simulator import DataType, SimData, SimDevice

    values = [0] * 60
    values[10:12] = [0x41BC, 0x0000]  # 23.5, high word first
    values[20:22] = [0x5000, 0x44B5]  # 1450.5, low word first
    values[30] = 7
    device = SimDevice(2, simdata=[SimData(0, values=values, datatype=DataType.REGISTERS)])
    port = free_port()
    server = pymodbus.ModbusTcpServer(device, address=("127.0.0.1", port))
    task = asyncio.create_task(server.serve_forever())
    await asyncio.sleep(0.3)
    try:
        found = await modbus.discover(
            f"modbus://127.0.0.1:{port}", options(tmp_path, units=2, seconds=1.0)
        )
    finally:
        await server.shutdown()
        task.cancel()
    rows = [r for r in found.source["tag"] if r["table"] == "holding"]
    assert [(r["address"], r["type"], r.get("word_order", "big")) for r in rows] == [
        (10, "float32", "big"), (20, "float32", "little"), (30, "uint16", "big")
    ]  # fmt: skip
    assert {r["unit_id"] for r in rows} == {2}
    assert all(p.confidence <= 0.5 for p in found.proposals)
    with pytest.raises(SourceError, match="refuses port"):
        await modbus.discover(f"modbus://127.0.0.1:{free_port()}", options(tmp_path))


COMPANIONS = """
const { OPCUAServer, OPCUACertificateManager, Variant, DataType, nodesets: n } =
  require("node-opcua");
(async () => {
  const manager = new OPCUACertificateManager({ rootFolder: process.env.PKI_HOME + "/pki",
    automaticallyAcceptUnknownCertificate: true });
  await manager.initialize();
  const server = new OPCUAServer({ port: Number(process.argv[2]), hostname: "127.0.0.1",
    resourcePath: "/t", serverCertificateManager: manager, nodeset_filename: [n.standard, n.di,
      n.ia, n.machinery, n.amb, n.machineryResult, n.packML, n.isa95JobControl, n.machineryJobs,
      n.machineTool, n.ijtBase, n.tightening] });
  await server.initialize();
  const space = server.engine.addressSpace, own = space.getOwnNamespace();
  const type = (name, uri) => space.findObjectType(name,
    space.getNamespaceIndex("http://opcfoundation.org/UA/" + uri));
  const machines = space.rootFolder.objects.getFolderElementByName("Machines");
  const put = (kind, name) =>
    kind.instantiate({ browseName: name, organizedBy: machines, nodeId: "s=" + name });
  put(type("PackMLBaseObjectType", "PackML/"), "Packer1");
  put(type("JoiningSystemType", "IJT/Base/"), "Bolt1");
  put(type("ISA95JobOrderReceiverObjectType", "ISA95-JOBCONTROL_V2/"), "Receiver1");
  const vendor = own.addObjectType({ browseName: "AcmeMillType",
    subtypeOf: type("MachineToolType", "MachineTool/") });
  const mill = put(vendor, "Mill2");
  const spindle = own.addObject({ browseName: "Spindle", componentOf: mill });
  const speed = own.addVariable({ componentOf: spindle, browseName: "Speed", dataType: "Double",
    minimumSamplingInterval: 0 });
  let k = 0;
  setInterval(() => speed.setValueFromSource(
    new Variant({ dataType: DataType.Double, value: 1000.5 + k++ % 7 })), 100);
  await server.start();
  console.log("ready");
})();
"""


@pytest.mark.slow
async def test_companion_types_of_node_opcua_are_recognised(tmp_path: Path) -> None:
    folder = node_opcua.folder()
    if isinstance(folder, str):
        pytest.skip(folder)
    port, script = free_port(), tmp_path / "server.js"
    script.write_text(COMPANIONS)
    process = await asyncio.create_subprocess_exec(
        "node", str(script), str(port), cwd=folder, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "NODE_PATH": str(folder / "node_modules"), "PKI_HOME": str(tmp_path),
             "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)},
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            while line := await process.stdout.readline():
                if b"ready" in line:
                    break
        found = await opcua.discover(
            f"opc.tcp://127.0.0.1:{port}/t", options(tmp_path, trust=lambda certificate: True)
        )
    finally:
        process.kill()
        await process.wait()
    types = {companion.id: companion.types for companion in found.companions}
    assert types["machine_tool"]["MachineToolType"] == ["Machines/Mill2"]  # by its supertype
    assert types["tightening"]["JoiningSystemType"] == ["Machines/Bolt1"]
    assert types["packml"]["PackMLBaseObjectType"] == ["Machines/Packer1"]
    assert found.receivers == ["Machines/Receiver1"]
    assert "machinery" in types
    assert found.source["root"] == "Machines"
    assert found.source["security"] == "auto"
    speed = next(p for p in found.proposals if p.signal.name == "spindle_speed")
    assert speed.signal.path == "local/site/_/_/_/mill2/spindle_speed"
    assert speed.companion == "machine_tool"
    assert speed.rate_hz > 3
