"""``brain up``: the main job, and ``brain doctor``."""

import asyncio
import dataclasses
import json
import logging
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workshop_brain.cli.show import note, print_json
from workshop_brain.errors import BrainError, ConfigError, StoreError

if TYPE_CHECKING:
    from workshop_brain.app.supervise import ChildSpec
    from workshop_brain.config import Settings
    from workshop_brain.connect.settings import SourceSettings

DEFAULT_PORT = 8600


def up(
    plant: Annotated[
        Path | None, typer.Argument(help="plant.toml; without it the built-in plant runs")
    ] = None,
    data: Annotated[Path, typer.Option(help="Data directory.")] = Path("data"),
    port: Annotated[int, typer.Option(help="Port of the screens.")] = DEFAULT_PORT,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    browser: Annotated[bool, typer.Option(help="Open the screens in a browser.")] = True,
    speed: Annotated[
        str, typer.Option(help="Built-in plant: plant seconds per second, or max.")
    ] = "1",
    rate: Annotated[float, typer.Option(help="Built-in plant: factor on signal rates.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Built-in plant: random seed.")] = 1,
    start: Annotated[
        str, typer.Option(help="Built-in plant: plant time at its first start; default now.")
    ] = "now",
    broker: Annotated[str, typer.Option(help="MQTT broker, mqtt://host:port; else own one.")] = "",
    collectors: Annotated[
        str, typer.Option(help="Listen here for collectors on other hosts, host:port.")
    ] = "",
    record: Annotated[
        Path | None, typer.Option(help="Built-in plant: record all that it sends, for checks.")
    ] = None,
) -> None:
    """Start the brain: collectors, history, decisions, screens. Ctrl-C stops it."""
    from workshop_brain import config
    from workshop_brain.app import supervise
    from workshop_brain.app.gate import bound
    from workshop_brain.twin.journal import read_speed

    settings = config.load(plant) if plant is not None else config.built_in()
    settings = _listening(settings, collectors)
    try:
        read_speed(speed)
    except ValueError as error:
        raise ConfigError(f"--speed: {error}") from error
    check_sources(settings, plant)
    data = data.absolute()
    lock = supervise.lock_data(data)
    check_records(data)
    supervise.check_port(host, port)
    if settings.ingest.listen:
        bound(settings.ingest.listen).close()
    logging.basicConfig(level=logging.WARNING, format="brain: %(message)s", stream=sys.stderr)
    try:
        asyncio.run(
            _run(
                settings, plant, data, host, port,
                browser=browser, broker=broker,
                twin_options={
                    "speed": speed, "rate": rate, "seed": seed, "start": start, "record": record,
                },
            )
        )  # fmt: skip
    finally:
        lock.close()


def _listening(settings: "Settings", collectors: str) -> "Settings":
    """The settings, with the address for collectors that was given on the command line."""
    listen = collectors or settings.ingest.listen
    ingest = dataclasses.replace(settings.ingest, listen=listen)
    if fault := ingest.fault():
        raise ConfigError(f"--collectors: {fault.partition(': ')[2]}")
    return dataclasses.replace(settings, ingest=ingest)


def check_records(data: Path) -> None:
    """StoreError when DATA/records.sqlite is damaged: its process would end again and again."""
    import sqlite3
    from contextlib import closing

    path = data / "records.sqlite"
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(path)) as records:
            (fault,) = records.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        fault = str(error)
    if fault != "ok":
        raise StoreError(
            f"{path}: orders, users and settings are damaged ({fault}); put the newest backup into "
            "a new directory ('brain restore'), or move this file away: then everything but these "
            "goes on"
        )


def check_sources(settings: "Settings", plant: Path | None) -> None:
    """ConfigError when there is nothing to read from or a source's secret is not at hand."""
    from workshop_brain import config

    if not settings.sources and not settings.simulated:
        raise ConfigError(f"{plant}: [[source]] is missing: no machine to read from")
    for i, source in enumerate(settings.sources):
        if source.id in settings.afar:
            continue
        try:
            config.secret(source.password_env)
        except ConfigError as error:
            raise ConfigError(f"{plant}: source[{i}].password_env: {error}") from error


async def _run(
    settings: "Settings",
    plant: Path | None,
    data: Path,
    host: str,
    port: int,
    *,
    browser: bool,
    broker: str,
    twin_options: dict[str, Any],
) -> None:
    from workshop_brain.app.supervise import Supervisor, stable_ports
    from workshop_brain.process import stop_requested

    ready = asyncio.Event()
    told: dict[str, Any] = {}

    def on_line(child: str, line: str) -> None:
        if child == "brain" and line.startswith("{"):
            told.update(json.loads(line))
            ready.set()

    ports = stable_ports(data, ["opcua", "mqtt", "twin_control"])
    house = Supervisor(data, on_line)
    for spec in _children(settings, plant, data, host, port, ports, broker, twin_options):
        house.start(spec)
    stopping = asyncio.create_task(stop_requested(watch_parent=False))
    first = asyncio.create_task(ready.wait())
    await asyncio.wait({stopping, first}, return_when=asyncio.FIRST_COMPLETED)
    if ready.is_set():
        if settings.ingest.listen:
            print(f"Collectors:   {settings.ingest.listen}   (those on other hosts)")
        _greet(told, ports if settings.simulated else {}, browser=browser)
    await stopping
    first.cancel()
    print("Stopping; nothing acknowledged is lost.", flush=True)
    await house.stop()


def _greet(told: dict[str, Any], ports: dict[str, int], *, browser: bool) -> None:
    print(f"Screens:      {told['url']}", flush=True)
    if told.get("link"):
        print(f"First start:  {told['link']}   (works once, makes you the administrator)")
    if ports:
        control = f"http://127.0.0.1:{ports['twin_control']}/"
        print(f"Demo plant:   {control}   (break a machine here)")
        print(f"              opc.tcp://127.0.0.1:{ports['opcua']}/workshop")
        print(f"              mqtt://127.0.0.1:{ports['mqtt']}")
    print("Ctrl-C stops.", flush=True)
    if browser and sys.stdout.isatty():
        webbrowser.open(told.get("link") or told["url"])


def with_twin(settings: "Settings", ports: dict[str, int], broker: str) -> "Settings":
    """Settings of the built-in plant with the addresses of the twin filled in."""
    from workshop_brain.connect.settings import OpcUaSettings, SparkplugSettings
    from workshop_brain.dispatch.settings import DispatchSettings

    url = f"opc.tcp://127.0.0.1:{ports['opcua']}/workshop"
    mqtt = broker or f"mqtt://127.0.0.1:{ports['mqtt']}"
    site = settings.plant.site
    return dataclasses.replace(
        settings,
        sources=(
            OpcUaSettings(id="plc", url=url, root="Plant"),
            SparkplugSettings(id="bulk", url=mqtt, groups=(f"{site}-assembly",)),
        ),
        dispatch=tuple(
            DispatchSettings(
                work_center=c.id,
                way="job_order",
                url=url,
                receiver=f"Plant/{site}/{c.area}/{c.id}/JobOrderControl",
            )
            for c in settings.plant.work_centers
        ),
    )


def _children(
    settings: "Settings",
    plant: Path | None,
    data: Path,
    host: str,
    port: int,
    ports: dict[str, int],
    broker: str,
    twin_options: dict[str, Any],
) -> list["ChildSpec"]:
    from workshop_brain.app.supervise import ChildSpec
    from workshop_brain.connect.settings import SparkplugSettings

    children: list[ChildSpec] = []
    brain = ["process", "brain", "--data", str(data), "--host", host, "--port", str(port)]
    brain += ["--plant", str(plant)] if plant is not None else []
    brain += ["--listen", settings.ingest.listen] if settings.ingest.listen else []
    if settings.simulated:
        settings = with_twin(settings, ports, broker)
        brain += ["--ports", json.dumps(ports), "--broker", broker]
        mqtt = broker or f"mqtt://127.0.0.1:{ports['mqtt']}"
        twin = ["twin", "serve", "--parent", "--opcua-port", str(ports["opcua"])]
        twin += ["--mqtt", mqtt, "--control-port", str(ports["twin_control"])]
        twin += ["--journal", str(data / "twin"), "--speed", str(twin_options["speed"])]
        twin += ["--rate", str(twin_options["rate"]), "--seed", str(twin_options["seed"])]
        twin += ["--start", str(twin_options["start"])]
        if twin_options["record"] is not None:
            twin += ["--record", str(twin_options["record"])]
        children.append(ChildSpec(name="twin", arguments=tuple(twin), stage=0))
        brain += ["--import-orders", str(data / "twin" / "orders.csv")]
    own_broker = f"mqtt://127.0.0.1:{ports['mqtt']}"
    sources = tuple(
        dataclasses.replace(s, url=own_broker)
        if isinstance(s, SparkplugSettings) and not s.url
        else s
        for s in settings.sources
    )
    if any(s.url == own_broker for s in sources):
        children.append(_broker(ports["mqtt"], data))
    children.append(ChildSpec(name="brain", arguments=tuple(brain), stage=2))
    enterprise, spool_mb = settings.plant.enterprise, settings.ingest.spool_mb
    here = (source for source in sources if source.id not in settings.afar)
    children += [collector(source, enterprise, data, spool_mb) for source in here]
    return children


def _broker(port: int, data: Path) -> "ChildSpec":
    """mosquitto when it is installed, else the embedded broker."""
    from workshop_brain.app.supervise import ChildSpec
    from workshop_brain.connect.sparkplug.broker import mosquitto_command

    command = mosquitto_command(port=port, directory=data / "run")
    if command:
        return ChildSpec(name="broker", program=command[0], arguments=tuple(command[1:]), stage=2)
    arguments = ("process", "broker", "--port", str(port))
    return ChildSpec(name="broker", arguments=arguments, stage=2)


def collector(
    source: "SourceSettings", enterprise: str, data: Path, spool_mb: int, *more: str
) -> "ChildSpec":
    """The process that reads one source."""
    from workshop_brain.app.supervise import ChildSpec

    body = json.dumps({"protocol": source.protocol, **dataclasses.asdict(source)})
    file = data / "run" / f"source-{source.id}.json"  # a list of tags may be too long an argument
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(body, "utf-8")
    return ChildSpec(
        name=f"collector-{source.id}",
        arguments=(
            "process", "collector", "--source", f"@{file}", "--enterprise", enterprise,
            "--data", str(data), "--spool-mb", str(spool_mb), *more,
        ),
    )  # fmt: skip


def doctor(
    data: Annotated[Path, typer.Option(help="Data directory to look at.")] = Path("data"),
    compile_: Annotated[
        bool, typer.Option("--compile", help="Compile the kernels now and stop.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Do not read the bytes of the history's files.")
    ] = False,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Make a damaged history readable; stop the brain first."),
    ] = False,
    backup: Annotated[
        Path | None, typer.Option(help="With --repair: where 'brain backup' keeps backups.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Say what is in order and what is not; each finding with the way out.

    Every file of the history is read and its checksum compared, about a minute for 40 GB.
    """
    from workshop_brain.app.doctor import compile_kernels, examine
    from workshop_brain.app.doctor import repair as repair_history

    if compile_:
        for name, seconds in compile_kernels():
            print(f"    {name}: {seconds:.1f} s", flush=True)
        return
    if repair:
        for line in repair_history(data, backup):
            note(f"repaired {line}")
    findings = examine(data, quick=quick)
    if json_:
        print_json([dataclasses.asdict(finding) for finding in findings])
    for finding in [] if json_ else findings:
        print(("ok    " if finding.ok else "WRONG ") + finding.text)
    if not all(f.ok for f in findings):
        raise BrainError("doctor found what needs a hand; see above")
