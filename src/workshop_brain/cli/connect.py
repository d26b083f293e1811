"""``brain connect``: look at an address, propose signals, write the plant file."""

import asyncio
import logging
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from workshop_brain.cli.show import note, print_json
from workshop_brain.errors import ConfigError

if TYPE_CHECKING:
    from workshop_brain.connect.discovery.draft import Draft
    from workshop_brain.connect.discovery.options import Certificate, Options
    from workshop_brain.connect.discovery.propose import Discovery
    from workshop_brain.connect.discovery.snapshot import Difference

SCHEMES = ("opc.tcp", "mqtt", "mqtts", "modbus", "s7", "slmp", "http", "https")


@dataclass(slots=True)
class _Result:
    """One discovery and what it means for the plant file."""

    found: "Discovery"
    draft: "Draft"
    difference: "Difference | None"


def connect(
    address: Annotated[
        str,
        typer.Argument(
            help="opc.tcp://, mqtt://, mqtts://, modbus://, s7://, slmp:// or http:// address"
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="plant.toml to write or add to.")
    ] = None,
    id_: Annotated[str, typer.Option("--id", help="Name of the source; else the host's.")] = "",
    seconds: Annotated[float, typer.Option(help="How long values are watched.")] = 10.0,
    user: Annotated[str, typer.Option(help="User name at the machine or broker.")] = "",
    password_env: Annotated[
        str, typer.Option(help="Environment variable that holds the password.")
    ] = "",
    ca_file: Annotated[str, typer.Option(help="mqtts: PEM of who signed the broker.")] = "",
    cert_file: Annotated[str, typer.Option(help="mqtts: our certificate.")] = "",
    key_file: Annotated[str, typer.Option(help="mqtts: its key.")] = "",
    units: Annotated[int, typer.Option(help="Modbus: unit ids 1..n that are asked.")] = 4,
    data: Annotated[Path, typer.Option(help="Data directory; certificates are kept there.")] = Path(
        "data"
    ),
    language: Annotated[str, typer.Option(help="en or zh")] = "en",
    yes: Annotated[
        bool, typer.Option("--yes", help="Trust the certificate and write without asking.")
    ] = False,
    json_: Annotated[
        bool, typer.Option("--json", help="Print all that was found as JSON.")
    ] = False,
) -> None:
    """Find what an address offers, propose signals and write a small plant.toml. Only reads."""
    from workshop_brain.config import secret
    from workshop_brain.connect.discovery.options import Options

    logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # what counts is told by our errors
    protocol = _protocol(address)
    _check(language, seconds, units)
    text = _existing(output)
    plant = _plant_of(text, output)
    asker = _Asker(language, yes=yes, quiet=json_)
    with asker.screen(seconds) as show:
        options = Options(
            seconds=seconds,
            enterprise=plant["enterprise"],
            site=plant["site"],
            source=_id(text, protocol, address, id_, output),
            pki_dir=data.absolute() / "pki",
            user=user,
            password=secret(password_env),
            password_env=password_env,
            ca_file=ca_file,
            cert_file=cert_file,
            key_file=key_file,
            trust=asker.trust,
            say=asker.say,
            show=show,
            units=units,
        )
        found = asyncio.run(_discover(address, options))
    results = _results(found, text, plant, id_, output)
    new_text = results[-1].draft.text
    if not json_:
        _print(results, language, output)
    wanted = output is not None and new_text != text and (yes or not json_)
    written = wanted and (yes or asker.agrees("file.ask"))
    if output is not None and written:
        _readable(new_text, output)
        _write(output, new_text)
    if output is not None and (yes or not json_):
        _keep(output, [r for r in results if written or not r.draft.is_new])
    if json_:
        print_json(_as_json(address, results, str(output) if written else None))
    elif written:
        note(asker.word("file.written", file=output))
    elif wanted:
        note(asker.word("file.not"))
        if not sys.stdin.isatty():
            raise ConfigError(
                f"--output {output}: was not written, for nobody could be asked (no terminal); "
                "give --yes to write it"
            )


# --- what is asked for ---


def _protocol(address: str) -> str:
    scheme, separator, rest = address.partition("://")
    if not separator or scheme not in SCHEMES or not rest.strip("/"):
        forms = ", ".join(f"{s}://host" for s in SCHEMES)
        raise ConfigError(f"address {address!r}: must be one of {forms}")
    try:
        _ = urlsplit(address).port
    except ValueError as error:
        raise ConfigError(f"address {address!r}: {error}") from error
    return {"opc.tcp": "opcua", "mqtts": "mqtt", "https": "http"}.get(scheme, scheme)


def _check(language: str, seconds: float, units: int) -> None:
    if language not in ("en", "zh"):
        raise ConfigError(f"--language {language!r}: en or zh")
    if not 1 <= seconds <= 3600:
        raise ConfigError(f"--seconds {seconds:g}: must be from 1 to 3600")
    if not 1 <= units <= 247:
        raise ConfigError(f"--units {units}: must be from 1 to 247")


def _existing(output: Path | None) -> str:
    """The plant file as it is, "" when there is none."""
    if output is None or not output.exists():
        return ""
    try:
        text = output.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{output}: cannot be read: {error}") from error
    if text.strip():
        _readable(text, output)
    return text


def _readable(text: str, output: Path | None) -> None:
    from workshop_brain import config

    config.parse(text, origin=str(output or "plant.toml"))


def _plant_of(text: str, output: Path | None) -> dict[str, str]:
    from workshop_brain import config

    if not text.strip():
        return {"enterprise": "local", "site": "site"}
    plant = config.parse(text, origin=str(output)).plant
    return {"enterprise": plant.enterprise, "site": plant.site}


def _id(text: str, protocol: str, address: str, wanted: str, output: Path | None) -> str:
    from workshop_brain.connect.discovery.draft import source_id

    return source_id(text, protocol, address, wanted, origin=str(output or "plant.toml"))


async def _discover(address: str, options: "Options") -> list["Discovery"]:
    """The way of discovery for an address."""
    protocol = _protocol(address)
    if protocol == "opcua":
        from workshop_brain.connect.discovery import opcua

        return [await opcua.discover(address, options)]
    if protocol == "mqtt":
        from workshop_brain.connect.discovery import mqtt

        return await mqtt.discover(address, options)
    if protocol == "modbus":
        from workshop_brain.connect.discovery import modbus

        return [await modbus.discover(address, options)]
    if protocol == "s7":
        from workshop_brain.connect.discovery import s7

        return [await s7.discover(address, options)]
    if protocol == "slmp":
        from workshop_brain.connect.discovery import slmp

        return [await slmp.discover(address, options)]
    from workshop_brain.connect.discovery import http

    return [await http.discover(address, options)]


# --- what comes of it ---


def _results(
    found: list["Discovery"], text: str, plant: dict[str, str], wanted: str, output: Path | None
) -> list[_Result]:
    from workshop_brain.connect.discovery import draft, snapshot

    origin = str(output or "plant.toml")
    out: list[_Result] = []
    for one in found:
        id = draft.source_id(text, one.protocol, one.source["url"], wanted, origin=origin)
        new = draft.merged(text, one.source, id=id, plant=plant, origin=origin)
        text = new.text
        before = snapshot.load(snapshot.place(output, id)) if output is not None else None
        now = snapshot.rows(one.proposals)
        out.append(_Result(one, new, None if before is None else snapshot.difference(before, now)))
    return out


def _write(output: Path, text: str) -> None:
    pending = output.with_name(output.name + ".new")
    try:
        pending.write_text(text, "utf-8")
        pending.replace(output)
    except OSError as error:
        raise ConfigError(f"{output}: cannot be written: {error}") from error


def _keep(output: Path, results: list[_Result]) -> None:
    """The snapshots that the next look is compared with."""
    from workshop_brain.connect.discovery import snapshot

    for result in results:
        place = snapshot.place(output, result.draft.id)
        snapshot.save(place, result.found.url, snapshot.rows(result.found.proposals))


def _print(results: list[_Result], language: str, output: Path | None) -> None:
    from workshop_brain.cli.discovery_report import report, word
    from workshop_brain.connect.discovery.draft import block

    for result in results:
        print(report(result.found, result.difference, language=language))
        new, source = result.draft, result.found.source
        if new.is_new:
            key = "file.new" if output is not None else "file.show"
            print(f"\n{word(key, language, file=output)}\n\n{block({'id': new.id, **source})}")
        elif new.added:
            print(f"\n{word('file.add', language, file=output, id=new.id)}\n")
            rows: dict[str, list[dict[str, Any]]] = {}
            for key, row in new.added:
                rows.setdefault(key, []).append(row)
            print(block(rows).partition("\n")[2])
        else:
            print(f"\n{word('file.same', language, file=output, id=new.id)}\n")
        for key, (was, now) in new.differs.items():
            print(word("file.stays", language, key=key, was=was, now=now))


def _as_json(address: str, results: list[_Result], written: str | None) -> dict[str, Any]:
    return {
        "address": address,
        "found": [_one_as_json(result) for result in results],
        "written": written,
    }


def _one_as_json(result: _Result) -> dict[str, Any]:
    from workshop_brain.cli.discovery_report import BYTES_PER_SAMPLE, estimate

    found = result.found
    amount = estimate(found.samples_per_s)
    return {
        "id": result.draft.id,
        "protocol": found.protocol,
        "source": found.source,
        "facts": {name: params for name, params in found.facts},
        "skipped": found.skipped,
        "companions": [asdict(companion) for companion in found.companions],
        "receivers": found.receivers,
        "estimate": {
            "samples_per_s": amount.samples_per_s,
            "bytes_per_sample": BYTES_PER_SAMPLE,
            "gb_per_day": amount.gb_per_day,
            "formula": "samples_per_s * 86400 * bytes_per_sample / 1e9",
            "watched": found.watched,
            "seconds": found.seconds,
        },
        "units": dict(sorted(Counter(p.signal.unit_path for p in found.proposals).items())),
        "difference": asdict(result.difference) if result.difference is not None else None,
        "signals": [
            {
                "path": p.signal.path,
                "kind": p.signal.kind.name.lower(),
                "unit": p.signal.unit,
                "low": p.signal.low,
                "high": p.signal.high,
                "rate_hz": p.rate_hz,
                "confidence": p.confidence,
                "guesses": {name: asdict(guess) for name, guess in p.guesses.items()},
                "companion": p.companion,
                "browse": p.browse,
                "address": p.signal.address,
            }
            for p in found.proposals
        ],
    }


# --- talking ---


class _Asker:
    """Speaks on standard error, in the person's language."""

    def __init__(self, language: str, *, yes: bool, quiet: bool) -> None:
        self._language = language
        self._yes = yes
        self._live: Any = None
        self._is_terminal = sys.stderr.isatty() and not quiet

    def word(self, key: str, /, **params: Any) -> str:
        """A text of the report's table."""
        from workshop_brain.cli.discovery_report import word

        return word(key, self._language, **params)

    def say(self, step: str, params: dict[str, Any]) -> None:
        """One step of the work."""
        note(self.word(f"step.{step}", **params))

    def trust(self, certificate: "Certificate") -> bool:
        """Whether the server's certificate is to be trusted."""
        shown = {
            "policy": certificate.policy,
            "mode": certificate.mode,
            "fingerprint": certificate.fingerprint,
        }
        note(self.word("cert", **shown))
        return certificate.known or self._yes or self.agrees("cert.ask")

    def agrees(self, question: str) -> bool:
        """A yes on the terminal; no without one."""
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            return False
        return typer.confirm(self.word(question), default=question == "file.ask", err=True)

    @contextmanager
    def screen(self, seconds: float) -> Iterator[Any]:
        """A table of live values on the terminal while the address is watched."""
        if not self._is_terminal or os.environ.get("TERM") == "dumb":
            yield lambda rows, passed: None
            return
        from rich.console import Console
        from rich.live import Live

        from workshop_brain.cli.discovery_report import live_table

        live = Live(console=Console(stderr=True), transient=True, auto_refresh=False)
        started = False

        def show(rows: dict[str, tuple[str, float]], passed: float) -> None:
            nonlocal started
            if not started:  # not before: a question may be asked first
                live.start()
                started = True
            table = live_table(rows, self._language)
            table.title = f"{passed:.0f} / {seconds:g} s"
            live.update(table, refresh=True)

        try:
            yield show
        finally:
            if started:
                live.stop()
