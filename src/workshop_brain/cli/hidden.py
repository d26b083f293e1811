"""The processes that the supervisor starts; not meant to be typed."""

import asyncio
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workshop_brain.errors import ConfigError

if TYPE_CHECKING:
    from workshop_brain.config import Settings

app = typer.Typer(help="Processes of the house.", no_args_is_help=True)
DataOption = Annotated[Path, typer.Option()]


@app.command()
def brain(
    data: DataOption,
    host: Annotated[str, typer.Option()] = "127.0.0.1",
    port: Annotated[int, typer.Option()] = 8600,
    plant: Annotated[Path | None, typer.Option()] = None,
    ports: Annotated[str, typer.Option()] = "{}",
    broker: Annotated[str, typer.Option()] = "",
    import_orders: Annotated[Path | None, typer.Option()] = None,
) -> None:
    """Store, live state, decisions, dispatch and screens."""
    from workshop_brain.process import log_to_stderr
    from workshop_brain.web.serve import serve

    log_to_stderr("brain")
    settings = _settings(plant, ports, broker)
    _run(serve(settings, data=data, host=host, port=port, orders=import_orders))


def _settings(plant: Path | None, ports: str, broker: str) -> "Settings":
    from workshop_brain import config
    from workshop_brain.cli.up import with_twin

    settings = config.load(plant) if plant is not None else config.built_in()
    return with_twin(settings, json.loads(ports), broker) if settings.simulated else settings


@app.command()
def collector(
    source: Annotated[str, typer.Option(help="JSON of the source's settings.")],
    enterprise: Annotated[str, typer.Option()],
    data: DataOption,
) -> None:
    """Read one source and hand it to the brain."""
    from workshop_brain.connect import collector as process
    from workshop_brain.connect.settings import OpcUaSettings, SparkplugSettings
    from workshop_brain.process import log_to_stderr

    table = json.loads(source)
    kinds = {"opcua": OpcUaSettings, "sparkplug": SparkplugSettings}
    kind = kinds.get(table.pop("protocol"))
    if kind is None:
        raise ConfigError(f"--source: unknown protocol in {source}")
    settings = kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in table.items()})
    log_to_stderr(f"collector-{settings.id}")
    _run(
        process.run(
            settings,
            enterprise=enterprise,
            socket_path=data / "run" / "ingest.sock",
            spool_dir=data / "spool" / settings.id,
        )
    )


@app.command()
def broker(port: Annotated[int, typer.Option()]) -> None:
    """The embedded MQTT broker."""
    from workshop_brain.connect.sparkplug.broker import run_embedded
    from workshop_brain.process import log_to_stderr

    log_to_stderr("broker")
    run_embedded(port, parent=os.getppid())


def _run(main: "asyncio._CoroutineLike[None]") -> None:
    import uvloop

    uvloop.run(main)
