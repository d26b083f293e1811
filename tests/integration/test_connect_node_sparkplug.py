"""Our primary host and sparkplug-client (npm), an edge node that we did not write.

It is installed when it is missing; without node and npm the tests skip.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from bench import node_sparkplug
from tests.integration.test_connect_sparkplug import Kept, collecting, until
from tests.integration.test_twin_sparkplug import Broker

from workshop_brain.model.event import EventKind
from workshop_brain.model.signal import Quality, SignalKind


@pytest.fixture(scope="module")
def place() -> Path:
    found = node_sparkplug.folder()
    if isinstance(found, str):
        pytest.skip(found)
    return found


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[int]:
    broker = Broker(tmp_path)
    await broker.start()
    yield broker.port
    await broker.kill()


def check_values(kept: Kept, last: int) -> None:
    """Every tick of every metric, by value; the births may repeat one."""
    counted = [v for _, v, _ in kept.rows("tick_count")]
    assert sorted(set(counted)) == list(range(last + 1))
    assert {v for _, v, _ in kept.rows("half")} == {k / 2 for k in range(last + 1)}
    assert {v for _, v, _ in kept.rows("minus")} == {-float(k) for k in range(last + 1)}
    assert {v for _, v, _ in kept.rows("even")} == {0.0, 1.0}
    words = {kept.words[int(v)] for _, v, _ in kept.rows("word") if v == v}
    assert words == {f"t{k}" for k in range(last + 1)}


async def test_births_data_rebirth_and_deaths_of_a_foreign_edge_node(
    tmp_path: Path, place: Path, port: int
) -> None:
    kept = Kept()
    async with collecting(tmp_path, port, kept), node_sparkplug.edge(place, port) as edge:
        await edge.told("born")
        await until(lambda: len(kept.rows("tick_count")) > 20)
        ram = next(s for s in kept.signals if s.name == "tick_count")
        assert (ram.path, ram.kind) == ("local/shop/press/_/_/ram/tick_count", SignalKind.COUNTER)
        assert [v for _, v, _ in kept.rows("temperature")] == [21.5]
        assert EventKind.GAP not in kept.kinds()
        edge.say("skip")
        command = await edge.told("command")
        assert command["metrics"] == [["Node Control/Rebirth", True]]
        await edge.told("born")
        await until(lambda: kept.kinds().count(EventKind.BIRTH) == 2)
        marked = [v for _, v, q in kept.rows("tick_count") if q & Quality.GAP_BEFORE]
        assert len(marked) == 1
        edge.say("hold")
        last = int(str((await edge.told("held"))["tick"]))
        await until(lambda: kept.rows("tick_count")[-1][1] == last)
        check_values(kept, last)
        edge.say("ram dies")
        await until(lambda: kept.rows("tick_count")[-1][2] & Quality.BAD > 0)
        assert not any(q & Quality.BAD for _, _, q in kept.rows("temperature"))
        edge.say("stop")
        await until(lambda: kept.rows("temperature")[-1][2] & Quality.BAD > 0)
    deaths = [e.path for e in kept.events if e.kind is EventKind.DEATH]
    assert deaths == ["shop/press/ram", "shop/press"]


async def test_compressed_payloads_are_read(tmp_path: Path, place: Path, port: int) -> None:
    kept = Kept()
    async with (
        collecting(tmp_path, port, kept),
        node_sparkplug.edge(place, port, compress=True) as edge,
    ):
        await until(lambda: len(kept.rows("tick_count")) > 20)
        edge.say("hold")
        last = int(str((await edge.told("held"))["tick"]))
        await until(lambda: kept.rows("tick_count")[-1][1] == last)
        check_values(kept, last)
        assert kept.kinds().count(EventKind.BIRTH) == 1
