"""One Modbus TCP device, polled until cancelled.

What has changed is handed over, all of it after a connection. Source time is when the answer came:
the protocol has no other. Requests go out one after the other, each group on its own time grid.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException

from workshop_brain.connect import tags as naming
from workshop_brain.connect.modbus.blocks import Block, number, own_words, plan, text
from workshop_brain.connect.modbus.settings import ModbusSettings, ModbusTag
from workshop_brain.connect.outbox import Outbox
from workshop_brain.errors import SourceError
from workshop_brain.model.event import Event, EventKind
from workshop_brain.model.signal import Quality, Samples, SignalDef, SignalKind

log = logging.getLogger(__name__)
logging.getLogger("pymodbus").setLevel(logging.CRITICAL)

_BACKOFF_S = (0.1, 0.25, 0.5, 1.0)
_BAD_ADDRESS = (2, 3)
_AGAIN_POLLS = 30
"""A request that the device refuses is tried again after so many polls."""


async def collect(
    settings: ModbusSettings,
    enterprise: str,
    outbox: Outbox,
    *,
    spool_dir: Path,
    pki_dir: Path,
    password: str,
) -> None:
    """Poll all tags; connection faults are logged and tried again."""
    await Poller(settings, enterprise, outbox).run()


@dataclass(slots=True, eq=False)
class Poller:
    """Keeps one device read until cancelled."""

    settings: ModbusSettings
    enterprise: str
    outbox: Outbox
    wall_ns: Callable[[], int] = time.time_ns
    _blocks: list[Block] = field(default_factory=list)
    _first: int = 0
    _last: list[float | str | None] = field(default_factory=list)
    """Per tag: what was handed over last; None: hand over whatever comes."""
    _refused: dict[Block, int] = field(default_factory=dict)
    """Refused requests of one tag, and the polls until they are tried again."""
    _gap: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    _is_up: bool = False
    _is_told: bool = False
    _why: str = ""

    def __post_init__(self) -> None:
        tags = self.settings.tag
        self._first = self.outbox.declare([self._signal(tag) for tag in tags])
        self._blocks = plan(tags, self.settings.poll_ms, self.settings.gap)
        self._last = [None] * len(tags)
        self._gap = np.zeros(len(tags), np.bool_)

    def _signal(self, tag: ModbusTag) -> SignalDef:
        path = naming.signal_path(self.enterprise, tag.path.split("/"))
        name = path.rsplit("/", 1)[1]
        if tag.kind:
            kind = SignalKind[tag.kind.upper()]
        else:
            is_bool = tag.is_bit or tag.type == "bool"
            kind = naming.kind_of(
                name, is_bool=is_bool, is_text=tag.type == "string",
                is_integer="int" in tag.type and tag.scale == 1.0,
            )  # fmt: skip
        low, high = naming.range_of(name, kind, tag.low, tag.high)
        return SignalDef(
            path=path,
            source=self.settings.id,
            address=f"{tag.unit_id}/{tag.table}/{tag.address}",
            kind=kind,
            unit=tag.unit,
            low=low,
            high=high,
        )

    async def run(self) -> None:
        """Connect, poll, connect again."""
        tries = 0
        while True:
            parts = urlsplit(self.settings.url)
            client = AsyncModbusTcpClient(
                parts.hostname or "", port=parts.port or 502, timeout=self.settings.timeout_s,
                retries=0, reconnect_delay=0,
            )  # fmt: skip
            try:
                if not await client.connect():
                    raise SourceError("nobody answers; check address and port")
                tries = 0
                await self._poll(client)
            except (OSError, TimeoutError, ModbusException, SourceError) as error:
                self._down(str(error) or type(error).__name__)
            finally:
                client.close()
            await asyncio.sleep(_BACKOFF_S[min(tries, len(_BACKOFF_S) - 1)])
            tries += 1

    async def _poll(self, client: AsyncModbusTcpClient) -> None:
        """All groups on their grids, one request at a time, until the connection fails."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        due = dict.fromkeys({block.poll_ms for block in self._blocks}, start)
        while True:
            poll_ms = min(due, key=lambda ms: due[ms])
            await asyncio.sleep(max(0.0, due[poll_ms] - loop.time()))
            for block in [b for b in self._blocks if b.poll_ms == poll_ms]:
                await self._read(client, block)
            period = poll_ms / 1000
            missed = max(0.0, loop.time() - due[poll_ms]) // period
            due[poll_ms] += (missed + 1) * period

    async def _read(self, client: AsyncModbusTcpClient, block: Block) -> None:
        wait = self._refused.get(block, 0)
        if wait > 0:
            self._refused[block] = wait - 1
            return
        ask = {
            "holding": client.read_holding_registers, "input": client.read_input_registers,
            "coil": client.read_coils, "discrete": client.read_discrete_inputs,
        }[block.table]  # fmt: skip
        answer = await ask(block.start, count=block.count, device_id=block.unit_id)
        self._up()
        if answer.isError():
            self._refuse(block, int(getattr(answer, "exception_code", 0)))
            return
        is_bit = block.table in ("coil", "discrete")
        values = answer.bits[: block.count] if is_bit else answer.registers
        if len(values) != block.count:
            self.outbox.rejected += 1
            log.warning("%s: %d values instead of %d at %s %d", self.settings.id, len(values),
                        block.count, block.table, block.start)  # fmt: skip
            return
        self._refused.pop(block, None)
        self._take(block, np.array(values, np.uint16))

    def _refuse(self, block: Block, code: int) -> None:
        """A refused request is halved until the tag is found; others go on being read."""
        if code in _BAD_ADDRESS and len(block.tags) > 1:
            at = self._blocks.index(block)
            self._blocks[at : at + 1] = block.split(self.settings.tag)
            return
        if block not in self._refused:
            names = ", ".join(self.settings.tag[k].path for k in block.tags[:5])
            log.warning(
                "%s: unit %d refuses %s %d..%d (exception %d), so there is no value of %s; correct "
                "address, table or type in plant.toml", self.settings.id, block.unit_id,
                block.table, block.start, block.start + block.count - 1, code, names,
            )  # fmt: skip
            self.outbox.rejected += 1
        self._refused[block] = _AGAIN_POLLS
        fresh = [k for k in block.tags if self._last[k] != ""]
        for k in fresh:
            self._last[k] = ""  # no value of a number; a text comes anew as well
        self._send(fresh, [np.nan] * len(fresh), Quality.BAD)

    def _take(self, block: Block, words: NDArray[np.uint16]) -> None:
        tags, changed, values = self.settings.tag, [], []
        for k in block.tags:
            own = own_words(tags[k], block, words)
            is_text = tags[k].type == "string"
            value: float | str = "=" + text(own) if is_text else number(tags[k], own)
            if value == self._last[k]:
                continue
            self._last[k] = value
            changed.append(k)
            values.append(float(self.outbox.text(value[1:])) if isinstance(value, str) else value)
        self._send(changed, values, Quality.GOOD)

    def _send(self, changed: list[int], values: list[float], grade: Quality) -> None:
        if not changed:
            return
        now, at = self.wall_ns(), np.array(changed)
        value = np.array(values, np.float64)
        quality = np.full(len(at), int(grade), np.uint8)
        quality[~np.isfinite(value)] |= int(Quality.BAD)
        quality[self._gap[at]] |= int(Quality.GAP_BEFORE)
        self._gap[at] = False
        times = np.full(len(at), now, np.int64)
        self.outbox.add(Samples((self._first + at).astype(np.uint32), times, value, quality), now)

    def _up(self) -> None:
        if self._is_up:
            return
        self._is_up = True
        log.info("%s: connected to %s", self.settings.id, self.settings.url)
        self._tell(EventKind.SOURCE_UP)

    def _down(self, why: str) -> None:
        """What happened while nobody answered is not known: the next values say so."""
        if why != self._why:
            log.warning("%s: %s: %s", self.settings.id, self.settings.url, why)
        self._why = why
        if self._is_up:
            self._gap |= np.array([value is not None for value in self._last])
        self._last = [None] * len(self._last)
        if self._is_up or not self._is_told:
            self._tell(EventKind.SOURCE_LOST)
        self._is_up, self._is_told = False, True

    def _tell(self, kind: EventKind) -> None:
        self.outbox.event(Event(time_ns=self.wall_ns(), kind=kind, path=self.settings.id))
