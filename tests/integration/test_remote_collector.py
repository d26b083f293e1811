"""Collectors on other hosts: who is let in, and that a rough link loses nothing."""

import asyncio
import datetime as dt
import logging
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from bench.rough_line import RoughLine, Weather
from tests.integration.test_connect_link import SIGNALS, Heard, MemoryHistorian, ticks, until

from workshop_brain.app.collectors import Collectors
from workshop_brain.app.gate import Gate, bound
from workshop_brain.app.ingest import Ingest
from workshop_brain.connect import handover
from workshop_brain.connect import outbox as outbox_module
from workshop_brain.connect.handover import FrameType, Hello
from workshop_brain.connect.outbox import Outbox, ended
from workshop_brain.connect.remote import Bundle, read_bundle, remote, write_bundle
from workshop_brain.errors import ConfigError, DecodeError
from workshop_brain.model.curve import Curve
from workshop_brain.model.event import Event, EventKind
from workshop_brain.model.signal import SignalDef, SignalKind


def bundle(collectors: Collectors, *sources: str, name: str = "cell7", days: int = 30) -> Bundle:
    authority, certificate, key = collectors.enroll(name, sources, days=days)
    return Bundle(
        name=name, address="127.0.0.1:1", enterprise="local", authority=authority,
        certificate=certificate, key=key,
    )  # fmt: skip


@asynccontextmanager
async def gate(
    tmp_path: Path,
    historian: MemoryHistorian,
    heard: Heard,
    collectors: Collectors,
    lost_s: float = 1.0,
) -> AsyncIterator[Gate]:
    owners = {"local/works/a/l/c/u/foreign": "other"}
    ingest = Ingest(
        historian, tmp_path / "i.sock", on_samples=heard.on_samples, on_curve=heard.on_curve,
        on_event=heard.events.append, owner=lambda path: owners.get(path, ""),
    )  # fmt: skip
    await ingest.start()
    door = Gate(ingest, collectors, "127.0.0.1:0", lost_s)
    await door.start()
    try:
        yield door
    finally:
        await door.close()
        await ingest.close()


@asynccontextmanager
async def afar(
    tmp_path: Path, given: Bundle, port: int, source: str = "m1"
) -> AsyncIterator[Outbox]:
    box = Outbox(source, "test", f"127.0.0.1:{port}", tmp_path / f"spool-{source}",
                 remote=remote(given))  # fmt: skip
    task = asyncio.create_task(box.run())
    try:
        yield box
    finally:
        await box.close()
        await ended(task)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "_REFUSED_S", 0.2)


def said(caplog: pytest.LogCaptureFixture, *words: str) -> bool:
    return any(all(w in r.getMessage() for w in words) for r in caplog.records)


async def test_samples_and_curves_come_in_over_mutual_tls(tmp_path: Path) -> None:
    collectors = Collectors(tmp_path / "pki")
    given = bundle(collectors, "m1")
    historian, heard = MemoryHistorian(), Heard()
    async with (
        gate(tmp_path, historian, heard, collectors) as door,
        afar(tmp_path, given, door.port) as box,
    ):
        box.declare(SIGNALS)
        box.event(Event(time_ns=1, kind=EventKind.SOURCE_UP, path="m1"))
        code = box.text("S-1" * 100)
        for k in range(50):
            box.add(ticks(range(k * 20, k * 20 + 20)), 1)
        box.add(ticks([code], signal=1), 1)
        channels = {"x": np.arange(300_000, dtype=np.float32)}
        last = box.curve(
            Curve(serial="a", station="b", program="c", step=1, time_ns=9, channels=channels)
        )
        await until(lambda: box.durable >= last)
        assert historian.values(SIGNALS[0].path) == list(range(1000))
        assert historian.words == ["S-1" * 100]
        np.testing.assert_array_equal(heard.curves[0].channels["x"], channels["x"])
        status = door.ingest.sources()[0]
        assert (status.state, status.samples) == ("up", 1001)


async def test_who_is_not_let_in_is_named_and_told_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    collectors = Collectors(tmp_path / "pki")
    good = bundle(collectors, "m1")
    elsewhere = bundle(Collectors(tmp_path / "else"), "m1", name="stranger")
    foreign = Bundle(**{**_fields(elsewhere), "authority": good.authority})
    then = dt.datetime.now(dt.UTC) - dt.timedelta(days=9)
    expired = bundle(Collectors(tmp_path / "pki", now=lambda: then), "m1", name="old", days=3)
    replaced = bundle(collectors, "m1", name="twice")
    bundle(collectors, "m1", name="twice")
    revoked = bundle(collectors, "m1", name="gone")
    collectors.revoke("gone")
    cases = {
        "foreign": (foreign, "not of this brain's authority", "who signed this bundle"),
        "expired": (expired, "'old': its certificate expired", "enroll old"),
        "replaced": (replaced, "'twice': this certificate was replaced", "use the newest bundle"),
        "revoked": (revoked, "'gone' was revoked at", "enroll gone"),
        "wrong brain": (elsewhere, "127.0.0.1", "not the brain's of this bundle"),
    }
    async with gate(tmp_path, MemoryHistorian(), Heard(), collectors) as door:
        for name, (given, logged, told) in cases.items():
            async with afar(tmp_path, given, door.port, source=name.replace(" ", "-")) as box:
                await until(lambda box=box: bool(box._trouble), 5)  # type: ignore[misc]
                assert told in box._trouble, name
                assert not box.connected
            assert said(caplog, "refused a link from 127.0.0.1", logged), name
        caplog.clear()
        _, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        await until(lambda: said(caplog, "it does not speak TLS"), 5)
        writer.close()
        await _plain_client(good, door.port, ssl.TLSVersion.TLSv1_2)
        await until(lambda: said(caplog, "it does not speak TLS 1.3"), 5)


def _fields(given: Bundle) -> dict[str, object]:
    return {name: getattr(given, name) for name in Bundle.__slots__}


async def _plain_client(given: Bundle, port: int, version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context(cadata=given.authority)
    context.check_hostname = False
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1_2, version
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection("127.0.0.1", port, ssl=context)


async def test_a_collector_delivers_its_own_sources_and_signals_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    collectors = Collectors(tmp_path / "pki")
    given = bundle(collectors, "m1", "m2")
    historian, heard = MemoryHistorian(), Heard()
    async with gate(tmp_path, historian, heard, collectors) as door:
        async with afar(tmp_path, given, door.port, source="m3") as box:
            await until(lambda: "may not deliver source 'm3'" in box._trouble, 5)
        assert said(caplog, "collector 'cell7'", "its own are m1, m2")
        async with afar(tmp_path, given, door.port) as box:
            box.declare([SignalDef(path="local/works/a/l/c/u/foreign", kind=SignalKind.GAUGE)])
            box.add(ticks([1]), 1)
            await until(lambda: "belongs to source 'other'" in box._trouble, 5)
        for event in (
            Event(time_ns=1, kind=EventKind.SOURCE_LOST, path="other"),
            Event(time_ns=1, kind=EventKind.BREAKDOWN, path="local/works/a/l/c/u"),
            Event(time_ns=1, kind=EventKind.DEATH, path="g/n", payload={"source": "other"}),
        ):
            link = remote(given)
            reader, writer = await handover.connect(f"127.0.0.1:{door.port}", link)
            writer.write(handover.pack_hello(Hello(source="m2", protocol="x", session=1)))
            writer.write(handover.pack_event(event))
            with suppress(asyncio.IncompleteReadError):
                async with asyncio.timeout(2):
                    while True:
                        await handover.read_frame(reader)
            writer.close()
    assert heard.events == []
    assert historian.rows == []


async def test_revoking_closes_the_link_and_enrolling_anew_lets_it_go_on(tmp_path: Path) -> None:
    collectors = Collectors(tmp_path / "pki")
    given = bundle(collectors, "m1")
    historian = MemoryHistorian()
    async with gate(tmp_path, historian, Heard(), Collectors(tmp_path / "pki")) as door:
        async with afar(tmp_path, given, door.port) as box:
            box.declare(SIGNALS[:1])
            box.add(ticks([0]), 1)
            await until(lambda: box._acked >= 1)
            collectors.revoke("cell7")
            await until(lambda: "was revoked at" in box._trouble, 5)
            box.add(ticks([1]), 1)
        assert door.ingest.sources()[0].state == "lost"
        async with afar(tmp_path, bundle(collectors, "m1"), door.port) as box:
            box.declare(SIGNALS[:1])
            last = box.add(ticks([2]), 1)
            await until(lambda: box._acked >= last)
        assert historian.values(SIGNALS[0].path) == [0, 1, 2]


async def test_a_rough_link_delivers_every_sample_once_and_in_order(tmp_path: Path) -> None:
    collectors = Collectors(tmp_path / "pki")
    given = bundle(collectors, "m1")
    historian, heard = MemoryHistorian(), Heard()
    weather = Weather(
        delay_s=0.025, jitter_s=0.02, bytes_per_s=2.5e6, loss=0.01, reset_every_s=0.4,
        stall_every_s=0.9, stall_s=0.3,
    )  # fmt: skip
    async with gate(tmp_path, historian, heard, collectors) as door:
        line = RoughLine(door.port, weather)
        await line.start()
        async with afar(tmp_path, given, line.port) as box:
            box.declare(SIGNALS[:1])
            sent = last = 0
            while sent < 12_000 or line.resets < 4:
                last = box.add(ticks(range(sent, sent + 40)), box.wall_ns())
                sent += 40
                await asyncio.sleep(0.008)
            await until(lambda: box._acked >= last)
        await line.close()
    assert historian.values(SIGNALS[0].path) == list(range(sent))
    assert (line.resets >= 4, line.stalls >= 1) == (True, True)


async def test_a_half_open_link_is_noticed_by_both_sides(tmp_path: Path) -> None:
    collectors = Collectors(tmp_path / "pki")
    given = Bundle(**{**_fields(bundle(collectors, "m1")), "lost_s": 1.0})
    historian = MemoryHistorian()
    async with gate(tmp_path, historian, Heard(), collectors, lost_s=1.0) as door:
        line = RoughLine(door.port)
        await line.start()
        async with afar(tmp_path, given, line.port) as box:
            box.declare(SIGNALS[:1])
            box.event(Event(time_ns=1, kind=EventKind.SOURCE_UP, path="m1"))
            box.add(ticks([0]), 1)
            await until(lambda: box._acked >= 1)
            await until(lambda: door.ingest.sources()[0].state == "up")
            line.silence()
            box.add(ticks([1]), 1)
            await until(lambda: door.ingest.sources()[0].state == "lost", 3)
            await until(lambda: not box.connected, 5)
            await line.reset()
            line.speak()
            await until(lambda: box._acked >= 2, 10)
        await line.close()
    assert historian.values(SIGNALS[0].path) == [0, 1]


async def test_a_large_curve_on_a_slow_link_is_no_silence(tmp_path: Path) -> None:
    """It is under way for three times the patience of both sides."""
    collectors = Collectors(tmp_path / "pki")
    given = Bundle(**{**_fields(bundle(collectors, "m1")), "lost_s": 0.6})
    historian, heard = MemoryHistorian(), Heard()
    values = np.random.default_rng(1).random(200_000, np.float32)
    async with gate(tmp_path, historian, heard, collectors, lost_s=0.6) as door:
        line = RoughLine(door.port, Weather(delay_s=0.02, bytes_per_s=400_000.0))
        await line.start()
        async with afar(tmp_path, given, line.port) as box:
            last = box.curve(Curve(serial="a", station="b", program="c", step=1, time_ns=9,
                                   channels={"x": values}))  # fmt: skip
            await until(lambda: box._acked >= last, 15)
        assert line.connections == 1
        await line.close()
    np.testing.assert_array_equal(heard.curves[0].channels["x"], values)


def test_bundles_are_private_and_damaged_ones_are_named(tmp_path: Path) -> None:
    given = bundle(Collectors(tmp_path / "pki"), "m1")
    path = tmp_path / "cell7.bundle.json"
    write_bundle(given, path)
    assert path.stat().st_mode & 0o077 == 0
    assert read_bundle(path) == given
    for text, why in (
        ("{}", "is of version None"),
        ('{"version": 1}', "is no bundle"),
        ("[", "is no bundle"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=why):
            read_bundle(path)
    with pytest.raises(ConfigError, match="its certificate cannot be used"):
        remote(Bundle(**{**_fields(given), "key": "nothing"}))


def test_packed_frames_come_back_and_broken_ones_are_refused() -> None:
    whole = handover.pack_batch(7, 8, ticks(range(500)))
    small = handover.packed(whole)
    assert len(small) < len(whole) / 2
    assert handover.unpacked(small[5:]) == (FrameType.BATCH, whole[5:])
    pulse = handover.frame(FrameType.PULSE)
    assert handover.packed(pulse) == pulse
    for body in (b"", small[5:-4], bytes([11]) + small[6:], small[5:6] + b"\xff" * 4 + small[10:]):
        with pytest.raises(DecodeError, match="PACKED"):
            handover.unpacked(body)


async def test_who_waits_in_vain_does_not_hold_the_door(tmp_path: Path) -> None:
    """Connections that never speak are bounded; the next one is turned away at once."""
    collectors = Collectors(tmp_path / "pki")
    given = bundle(collectors, "m1")
    async with gate(tmp_path, MemoryHistorian(), Heard(), collectors) as door:
        with pytest.raises(ConfigError, match=f"cannot listen at 127.0.0.1:{door.port}"):
            bound(f"127.0.0.1:{door.port}")
        idle = [await asyncio.open_connection("127.0.0.1", door.port) for _ in range(64)]
        await until(lambda: door._door == 64, 5)
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        assert await asyncio.wait_for(reader.read(), 2) == b""
        for _, one in [*idle, (reader, writer)]:
            one.close()
        async with afar(tmp_path, given, door.port) as box:
            box.declare(SIGNALS[:1])
            box.add(ticks([0]), 1)
            await until(lambda: box._acked >= 1, 10)


async def test_enroll_run_and_revoke_on_the_command_line(tmp_path: Path) -> None:
    historian, data = MemoryHistorian(), tmp_path / "data"
    (tmp_path / "in").mkdir()
    plant, given = tmp_path / "plant.toml", tmp_path / "cell7.bundle.json"
    plant.write_text(
        f'[ingest]\nlisten = "127.0.0.1:8700"\nlost_s = 3.0\n[[source]]\nid = "lab"\n'
        f'protocol = "files"\nfolder = "{tmp_path}/in"\ncollector = "cell7"\n'
    )

    async def brain_collector(*words: str) -> str:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "workshop_brain", "collector", *words,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        out, _ = await process.communicate()
        return f"{process.returncode} {out.decode()}"

    async with gate(tmp_path, historian, Heard(), Collectors(data / "pki/collectors")) as door:
        enroll = ["enroll", "cell7", "--plant", str(plant), "--data", str(data), "-o", str(given)]
        here = f"127.0.0.1:{door.port}"
        wrong, answer, unknown = await asyncio.gather(
            brain_collector(*enroll, "--address", "nowhere"),
            brain_collector(*enroll, "--address", here),
            brain_collector("revoke", "cell8", "--data", str(data)),
        )
        assert wrong.startswith("1 brain: --address: must be host:port")
        assert answer.startswith(f"0 {given}")
        assert unknown.startswith("1 brain: no collector 'cell8' is enrolled")
        assert (read_bundle(given).lost_s, read_bundle(given).address) == (3.0, here)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "workshop_brain", "collector", "run", str(given), "--data",
            str(tmp_path / "there"), stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            (tmp_path / "in/a.csv").write_text("time,press/force\n2026-03-01T08:00:00Z,12.5\n")
            await until(lambda: historian.durable_rows == 1, 20)
            listed = await brain_collector("list", "--data", str(data))
            assert "cell7  until" in listed
            assert "lab" in listed
            assert (await brain_collector("revoke", "cell7", "--data", str(data)))[0] == "0"
            await until(lambda: door.ingest.sources()[0].state == "lost", 5)
        finally:
            process.terminate()
            await process.communicate()
    assert "was revoked at" in (tmp_path / "there/logs/collector-lab.log").read_text()
