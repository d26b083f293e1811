"""``brain collector``: collectors on other hosts, enrolled here and run there."""

import asyncio
import dataclasses
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workshop_brain.cli.show import note, print_json
from workshop_brain.errors import ConfigError

if TYPE_CHECKING:
    from workshop_brain.app.supervise import ChildSpec
    from workshop_brain.config import Settings
    from workshop_brain.connect.remote import Bundle

app = typer.Typer(help="Collectors on other hosts.", no_args_is_help=True)
DataOption = Annotated[Path, typer.Option(help="Data directory of the brain.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
_RENEW_DAYS = 30


@app.command()
def enroll(
    name: Annotated[str, typer.Argument(help="Name of the collector, as in the plant file.")],
    plant: Annotated[Path, typer.Option(help="plant.toml with its sources.")],
    address: Annotated[str, typer.Option(help="host:port at which it finds this brain.")],
    data: DataOption = Path("data"),
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long it is good.")] = 730,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="The bundle; else NAME.bundle.json.")
    ] = None,
) -> None:
    """Make the bundle with which a collector on another host may deliver its sources.

    Its sources are those with `collector = "NAME"` in the plant file. A name that is enrolled
    already gets a new bundle, and its old one counts no more. Keep the bundle secret.
    """
    from workshop_brain import config
    from workshop_brain.app.collectors import Collectors
    from workshop_brain.connect.remote import Bundle, split_listen, write_bundle

    try:
        split_listen(address)
    except ValueError as error:
        raise ConfigError(f"--address: {error}") from error
    settings = config.load(plant)
    sources = _sources(settings, name, plant)
    ids = [str(source["id"]) for source in sources]
    authority, certificate, key = Collectors(data / "pki" / "collectors").enroll(
        name, ids, days=days
    )
    path = out if out is not None else Path(f"{name}.bundle.json")
    bundle = Bundle(
        name=name, address=address, enterprise=settings.plant.enterprise, authority=authority,
        certificate=certificate, key=key, sources=tuple(sources), lost_s=settings.ingest.lost_s,
        spool_mb=settings.ingest.spool_mb,
    )  # fmt: skip
    write_bundle(bundle, path)
    print(path)
    note(f"{name} may deliver {', '.join(ids)} for {days} days; the bundle is secret")
    note(f"on the other host: brain collector run {path.name}")
    if not settings.ingest.listen:
        note(f'{plant}: no [ingest] listen = "0.0.0.0:PORT": the brain lets nobody in so far')


def _sources(settings: "Settings", name: str, plant: Path) -> list[dict[str, object]]:
    found = [
        {"protocol": source.protocol, **dataclasses.asdict(source)}
        for source in settings.sources
        if settings.afar.get(source.id) == name
    ]
    if not found:
        known = ", ".join(sorted(set(settings.afar.values()))) or "none"
        raise ConfigError(f'{plant}: no [[source]] has collector = "{name}"; named so far: {known}')
    return found


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="Name of the collector.")],
    data: DataOption = Path("data"),
) -> None:
    """Let a collector in no more; a running brain closes its link within two seconds."""
    from workshop_brain.app.collectors import Collectors

    revoked = Collectors(data / "pki" / "collectors").revoke(name)
    note(f"{name} is let in no more since {revoked.revoked}; what it still holds stays there")


@app.command("list")
def list_collectors(data: DataOption = Path("data"), json_: JsonOption = False) -> None:
    """List the collectors that were enrolled."""
    from workshop_brain.app.collectors import Collectors

    rows = Collectors(data / "pki" / "collectors").all()
    if json_:
        print_json([dataclasses.asdict(row) for row in rows])
        return
    for row in rows:
        state = f"revoked {row.revoked}" if row.revoked else f"until {row.until}"
        print(f"{row.name}  {state}  {', '.join(row.sources)}  SHA-256 {row.fingerprint}")


@app.command()
def run(
    bundle: Annotated[Path, typer.Argument(help="The bundle that the brain made.")],
    data: Annotated[Path, typer.Option(help="Directory for what waits on disk, and logs.")] = Path(
        "collector"
    ),
) -> None:
    """Read the bundle's sources and deliver them to the brain until Ctrl-C."""
    from workshop_brain.app import supervise
    from workshop_brain.connect.remote import read_bundle, remote

    given = read_bundle(bundle)
    remote(given)  # damaged is told here, not in a log
    children = _children(given, bundle, data.absolute())
    lock = supervise.lock_data(data.absolute())
    logging.basicConfig(level=logging.WARNING, format="brain: %(message)s", stream=sys.stderr)
    _warn_of_its_end(given)
    try:
        asyncio.run(_keep(given, children, data.absolute()))
    finally:
        lock.close()


def _children(given: "Bundle", bundle: Path, data: Path) -> "list[ChildSpec]":
    from workshop_brain import config
    from workshop_brain.cli.up import collector

    children = []
    for i, row in enumerate(given.sources):
        source = config.source(row, f"{bundle}: sources[{i}]")
        try:
            config.secret(source.password_env)
        except ConfigError as error:
            raise ConfigError(f"source {source.id!r}: {error}") from error
        way = ("--bundle", str(bundle.absolute()))
        children.append(collector(source, given.enterprise, data, given.spool_mb, *way))
    return children


def _warn_of_its_end(given: "Bundle") -> None:
    import datetime as dt

    from cryptography import x509

    end = x509.load_pem_x509_certificate(given.certificate.encode()).not_valid_after_utc
    if end - dt.datetime.now(dt.UTC) < dt.timedelta(days=_RENEW_DAYS):
        note(f"the certificate of {given.name} is good until {end:%Y-%m-%d}; enroll it again")


async def _keep(given: "Bundle", children: "list[ChildSpec]", data: Path) -> None:
    from workshop_brain.app.supervise import Supervisor
    from workshop_brain.process import stop_requested

    house = Supervisor(data, lambda child, line: None)
    for child in children:
        house.start(child)
    print(
        f"Collector {given.name}: {len(children)} source(s) to {given.address}; logs in "
        f"{data / 'logs'}. Ctrl-C stops.",
        flush=True,
    )
    await stop_requested(watch_parent=False)
    print("Stopping; what is not delivered waits on disk.", flush=True)
    await house.stop()
