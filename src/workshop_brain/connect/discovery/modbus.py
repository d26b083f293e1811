"""Looking at a Modbus TCP device: which units answer, what can be read, what it may be.

Reads only (functions 1 to 4), one request at a time, with a pause between and a bound on how many.
"""

import asyncio
import struct
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from workshop_brain.connect import tags
from workshop_brain.connect.discovery import registers
from workshop_brain.connect.discovery.options import Options
from workshop_brain.connect.discovery.propose import Discovery, Proposal
from workshop_brain.connect.discovery.reach import CONNECT_S, unreachable
from workshop_brain.connect.discovery.words import proposal, series
from workshop_brain.errors import SourceError
from workshop_brain.model.signal import SignalDef, SignalKind

_TABLES = {"holding": 3, "input": 4, "coil": 1, "discrete": 2}
_PAUSE_S = 0.01
_ANSWER_S = 1.0
_MOST_REQUESTS = 120
"""For one table of one unit."""
_LAST = 1000
_BLOCK = 100
_LEAST_BLOCK = 10
_NOT_THERE = frozenset({0x0A, 0x0B})
_FUNCTION_UNKNOWN = 0x01
_SHOWN = 15


class _RefusedError(Exception):
    """The device answers a request with an exception code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code}")
        self.code = code


@dataclass(slots=True, eq=False)
class _Line:
    """One connection; requests go out one after the other."""

    url: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int = 0
    sent: int = 0

    async def read(self, unit: int, function: int, start: int, count: int) -> NDArray[np.uint16]:
        """Registers or bits; _RefusedError for an exception, TimeoutError for silence."""
        await asyncio.sleep(_PAUSE_S)
        self.number = self.number % 0xFFFF + 1
        self.sent += 1
        request = struct.pack(">HHHBBHH", self.number, 0, 6, unit, function, start, count)
        self.writer.write(request)
        async with asyncio.timeout(_ANSWER_S):
            while True:
                head = await self.reader.readexactly(7)
                number, protocol, size, _ = struct.unpack(">HHHB", head)
                if protocol != 0 or not 2 <= size <= 260:
                    raise SourceError(f"{self.url}: does not speak Modbus TCP; is the port right?")
                body = await self.reader.readexactly(size - 1)
                if number == self.number:  # what comes late belongs to a request given up
                    return _values(self.url, body, function, count)


def _values(url: str, body: bytes, function: int, count: int) -> NDArray[np.uint16]:
    if len(body) == 2 and body[0] == function | 0x80:
        raise _RefusedError(body[1])
    if len(body) < 2 or body[0] != function or len(body) != 2 + body[1]:
        raise SourceError(f"{url}: answers function {function} with {body[:8].hex()}")
    if function in (1, 2):
        bits = np.unpackbits(np.frombuffer(body[2:], np.uint8), bitorder="little")
        return bits[:count].astype(np.uint16)
    return np.frombuffer(body[2:], ">u2").astype(np.uint16)


@dataclass(slots=True)
class _Range:
    """A run of readable registers or bits, and how they read over time."""

    unit: int
    table: str
    start: int
    count: int
    reads: list[NDArray[np.uint16]] = field(default_factory=list)


async def discover(url: str, options: Options) -> Discovery:
    """What ``modbus://host:port`` holds; SourceError says what is wrong."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 502
    options.say("connecting", {"url": url})
    try:
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        raise SourceError(unreachable(url, host, port, error)) from error
    line = _Line(url, reader, writer)
    try:
        ranges = await _ranges(line, url, options)
        seconds = await _sampled(line, ranges, options)
    except (OSError, EOFError) as error:
        raise SourceError(
            f"{url}: closed the connection after {line.sent} requests; is it Modbus TCP, and may "
            "another client connect (many devices take few)?"
        ) from error
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    return _discovery(url, ranges, seconds, options)


# --- what can be read ---


async def _ranges(line: _Line, url: str, options: Options) -> list[_Range]:
    out: list[_Range] = []
    answering = []
    for unit in range(1, options.units + 1):
        options.say("asking", {"url": url, "unit": unit})
        if await _is_there(line, unit):
            answering.append(unit)
            for table in _TABLES:
                out += await _table(line, unit, table)
    if not answering:
        raise SourceError(
            f"{url}: the port is open and none of the units 1..{options.units} answers; ask more "
            "with --units, or look the unit id up in the device"
        )
    if not out:
        units = ", ".join(map(str, answering))
        raise SourceError(
            f"{url}: unit {units} answers and lets nothing below address {_LAST} be read; take the "
            "addresses from the device's manual and write [[source.tag]] rows"
        )
    return out


async def _is_there(line: _Line, unit: int) -> bool:
    try:
        await line.read(unit, _TABLES["holding"], 0, 1)
    except _RefusedError as refused:
        return refused.code not in _NOT_THERE
    except TimeoutError:
        return False
    return True


async def _table(line: _Line, unit: int, table: str) -> list[_Range]:
    """Readable runs of one table: whole blocks first, smaller ones near the beginning."""
    found: list[tuple[int, int]] = []
    budget = [_MOST_REQUESTS]
    for start in range(0, _LAST, _BLOCK):
        least = _LEAST_BLOCK if start < 2 * _BLOCK or found else _BLOCK
        if not await _search(line, unit, _TABLES[table], start, _BLOCK, least, found, budget):
            break
    return [_Range(unit, table, start, count) for start, count in _joined(found)]


async def _search(
    line: _Line,
    unit: int,
    function: int,
    start: int,
    count: int,
    least: int,
    found: list[tuple[int, int]],
    budget: list[int],
) -> bool:
    """Add what can be read of a block; False when it is of no use to ask on."""
    if budget[0] <= 0:
        return False
    budget[0] -= 1
    try:
        await line.read(unit, function, start, count)
    except _RefusedError as refused:
        if refused.code == _FUNCTION_UNKNOWN:
            return False
        if count <= least:
            return True
    except TimeoutError:
        return False
    else:
        found.append((start, count))
        return True
    half = count // 2
    first = await _search(line, unit, function, start, half, least, found, budget)
    return first and await _search(
        line, unit, function, start + half, count - half, least, found, budget
    )


def _joined(found: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Runs that touch are one, as long as one request can read it."""
    out: list[tuple[int, int]] = []
    for start, count in sorted(found):
        if out and sum(out[-1]) == start and out[-1][1] + count <= _BLOCK:
            out[-1] = (out[-1][0], out[-1][1] + count)
        else:
            out.append((start, count))
    return out


async def _sampled(line: _Line, ranges: list[_Range], options: Options) -> float:
    """Read every range again and again for the seconds given; how long that took."""
    options.say("reading", {"s": options.seconds})
    begin = time.monotonic()
    while True:
        for run in ranges:
            with suppress(_RefusedError, TimeoutError):
                function = _TABLES[run.table]
                run.reads.append(await line.read(run.unit, function, run.start, run.count))
        passed = time.monotonic() - begin
        options.show(_shown(ranges), passed)
        if passed >= options.seconds:
            return passed
        await asyncio.sleep(min(0.5, options.seconds - passed))


def _shown(ranges: list[_Range]) -> dict[str, tuple[str, float]]:
    out: dict[str, tuple[str, float]] = {}
    for run in ranges:
        if run.reads:
            busy = np.flatnonzero(run.reads[-1])[:_SHOWN].tolist()
            for at in busy:
                name = f"unit {run.unit} {run.table} {run.start + at}"
                out[name] = (str(run.reads[-1][at]), 0.0)
    return dict(list(out.items())[:_SHOWN])


# --- what it may be ---


def _discovery(url: str, ranges: list[_Range], seconds: float, options: Options) -> Discovery:
    rows: list[dict[str, Any]] = []
    proposals: list[Proposal] = []
    live: dict[str, tuple[str, float]] = {}
    rate = 0.0
    kept = _without_twins([run for run in ranges if run.reads])
    for run in kept:
        words = np.stack([r for r in run.reads if len(r) == run.count])
        for row, proposed, text in _tags(run, words, seconds, options):
            rows.append(row)
            proposals.append(proposed)
            live[proposed.signal.path] = (text, proposed.rate_hz)
            rate += proposed.rate_hz
    if not rows:
        raise SourceError(
            f"{url}: {sum(r.count for r in ranges)} registers can be read and all are 0; look "
            "again while the machine runs, or write [[source.tag]] rows from the manual"
        )
    units = sorted({run.unit for run in ranges})
    table = {"protocol": "modbus", "url": url, "tag": rows}
    ordered = sorted(live.items(), key=lambda item: -item[1][1])[:_SHOWN]
    return Discovery(
        url=url,
        protocol="modbus",
        source=table,
        proposals=proposals,
        facts=[
            (
                "modbus",
                {
                    "units": ", ".join(map(str, units)),
                    "registers": sum(run.count for run in ranges),
                },
            ),
            ("guessed", {}),
        ],
        skipped={"twin": len(ranges) - len(kept)} if len(ranges) > len(kept) else {},
        live=dict(ordered),
        seconds=seconds,
        watched=len(proposals),
        samples_per_s=rate,
    )


def _without_twins(ranges: list[_Range]) -> list[_Range]:
    """Without the tables that read as another one does: many devices show one memory twice."""
    out: list[_Range] = []
    for run in ranges:
        of = {"input": "holding", "discrete": "coil"}.get(run.table)
        twins = [
            other
            for other in out
            if (other.unit, other.table, other.start) == (run.unit, of, run.start)
            and np.array_equal(other.reads[0], run.reads[0])
        ]
        if not twins:
            out.append(run)
    return out


def _tags(
    run: _Range, words: NDArray[np.uint16], seconds: float, options: Options
) -> list[tuple[dict[str, Any], Proposal, str]]:
    """(row of the plant file, proposal, last value) of each value in a run."""
    is_bit = run.table in ("coil", "discrete")
    guesses = (
        [registers.Guessed(int(at), "bool", "", 0.8) for at in np.flatnonzero(words.any(axis=0))]
        if is_bit
        else registers.guess(words)
    )
    out = []
    for found in guesses:
        name = f"{run.table}_{run.start + found.offset}"
        names = [options.site, f"{options.source}_{run.unit}", name]
        values = series(words, found)
        kind = SignalKind.FLAG if is_bit else SignalKind.GAUGE
        low, high = tags.range_of(name, kind, 0.0, 0.0)
        address = f"{run.unit}/{run.table}/{run.start + found.offset}"
        signal = SignalDef(
            path=tags.signal_path(options.enterprise, names),
            kind=kind,
            low=low,
            high=high,
            source=options.source,
            address=address,
        )
        row = _row(run, found, "/".join(names))
        out.append((row, proposal(signal, found, values, seconds), f"{values[-1]:.6g}"))
    return out


def _row(run: _Range, found: registers.Guessed, path: str) -> dict[str, Any]:
    row: dict[str, Any] = {
        "path": path,
        "unit_id": run.unit,
        "table": run.table,
        "address": run.start + found.offset,
        "type": found.type,
    }
    if found.word_order == "little":
        row["word_order"] = "little"
    return row
