"""The processes that the supervisor starts; not meant to be typed."""

import asyncio
import json
import os
from dataclasses import replace
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
    listen: Annotated[str, typer.Option()] = "",
) -> None:
    """Store, live state, decisions, dispatch and screens."""
    from workshop_brain.process import log_to_stderr
    from workshop_brain.web.serve import serve

    log_to_stderr("brain")
    settings = _settings(plant, ports, broker)
    if listen:
        settings = replace(settings, ingest=replace(settings.ingest, listen=listen))
    _run(serve(settings, data=data, host=host, port=port, orders=import_orders))


def _settings(plant: Path | None, ports: str, broker: str) -> "Settings":
    from workshop_brain import config
    from workshop_brain.cli.up import with_twin

    settings = config.load(plant) if plant is not None else config.built_in()
    return with_twin(settings, json.loads(ports), broker) if settings.simulated else settings


@app.command()
def collector(
    source: Annotated[str, typer.Option(help="The source's settings as JSON, or @FILE with it.")],
    enterprise: Annotated[str, typer.Option()],
    data: DataOption,
    spool_mb: Annotated[int, typer.Option()] = 2048,
    bundle: Annotated[Path | None, typer.Option(help="The way to a brain elsewhere.")] = None,
) -> None:
    """Read one source and hand it to the brain."""
    from workshop_brain import config
    from workshop_brain.connect import collector as process
    from workshop_brain.connect.remote import read_bundle, remote
    from workshop_brain.process import log_to_stderr

    try:
        text = Path(source[1:]).read_text("utf-8") if source.startswith("@") else source
        settings = config.source(json.loads(text), "--source")
    except OSError as error:
        raise ConfigError(f"--source {source}: cannot be read: {error}") from error
    except ValueError as error:
        raise ConfigError(f"--source: {source!r} is not JSON: {error}") from error
    log_to_stderr(f"collector-{settings.id}")
    given = read_bundle(bundle) if bundle is not None else None
    _run(
        process.run(
            settings,
            enterprise=enterprise,
            socket_path=given.address if given is not None else data / "run" / "ingest.sock",
            spool_dir=data / "spool" / settings.id,
            spool_bytes=spool_mb * 1024**2,
            remote=remote(given) if given is not None else None,
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
