"""Arrays and structures of a real server become one signal for each of their scalars."""

import importlib.util
import math
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
from asyncua import Node, Server, ua
from asyncua.common.structures104 import new_struct, new_struct_field
from bench.line import free_port

from workshop_brain.connect import rejected
from workshop_brain.connect.choice import Override
from workshop_brain.connect.discovery import opcua
from workshop_brain.connect.discovery.options import Options
from workshop_brain.connect.opcua.parts import MOST_PARTS
from workshop_brain.model.signal import Quality, SignalKind

T = ua.VariantType


def _helpers() -> ModuleType:
    path = Path(__file__).with_name("test_connect_opcua.py")
    spec = importlib.util.spec_from_file_location("connect_opcua_helpers_parts", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


H = _helpers()


@asynccontextmanager
async def plant(port: int) -> AsyncIterator[dict[str, Node]]:
    """One unit with a variable of each shape."""
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/t")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    space = await server.register_namespace("urn:test")
    axis, _ = await new_struct(
        server, space, "AxisType",
        [new_struct_field("Speed", T.Double), new_struct_field("Name", T.String)],
    )  # fmt: skip
    drive, _ = await new_struct(
        server, space, "DriveType",
        [
            new_struct_field("IsOn", T.Boolean),
            new_struct_field("Axis", axis),
            new_struct_field("Temps", T.Float, array=True),
            new_struct_field("Count", T.UInt64, optional=True),
            new_struct_field("Key", T.Guid),
        ],
    )  # fmt: skip
    await server.load_data_type_definitions()
    root = await server.nodes.objects.add_folder(ua.NodeId("Plant", space), "Plant")
    unit = root
    for name in ("works", "area", "line", "cell", "u1"):
        unit = await unit.add_folder(ua.NodeId(name, space), f"{space}:{name}")

    async def add(
        name: str, value: object, kind: T | None = None, type_: Node | None = None
    ) -> Node:
        return await unit.add_variable(
            ua.NodeId(name, space), f"{space}:{name}", value, kind,
            datatype=type_.nodeid if type_ is not None else None,
        )  # fmt: skip

    matrix = ua.Variant([[1, 2, 3], [4, 5, 6]], T.Int16)
    started = ua.DriveType(
        IsOn=True, Axis=ua.AxisType(Speed=1.5, Name="x"), Temps=[20.5, 21.5], Count=2**60 + 1
    )
    nodes = {
        "Plain": await add("Plain", 0.0),
        "Curve": await add("Curve", [0.25, math.nan, 2.5], T.Double),
        "Steps": await add("Steps", [2**60 + 1, 2], T.Int64),
        "Doors": await add("Doors", [True, False], T.Boolean),
        "Names": await add("Names", ["a", "变速器"], T.String),
        "Grid": await add("Grid", matrix, T.Int16),
        "Range": await add("Range", ua.Range(1.0, 9.0)),
        "Drive": await add("Drive", started, type_=drive),
        "Axes": await add("Axes", [ua.AxisType(7.0, "a"), ua.AxisType(8.0, "b")], type_=axis),
        "Long": await add("Long", [0.0] * (MOST_PARTS + 5), T.Double),
    }  # fmt: skip
    async with server:
        await server.historize_node_data_change(nodes["Curve"])
        yield nodes


async def test_every_scalar_of_arrays_and_structures_is_stored(tmp_path: Path) -> None:
    kept, port, folder = H.Kept(), free_port(), tmp_path / "data" / "spool"
    folder.mkdir(parents=True)
    async with plant(port) as nodes, H.collecting(folder, port, kept) as (pump, _):
        await H.until(lambda: bool(kept.rows("/plain")) and bool(kept.rows("/drive_axis_speed")))

        def now(name: str) -> float:
            return kept.rows(f"/{name}")[-1][1]

        def word(name: str) -> str:
            return kept.words[int(now(name))]

        assert (now("curve_0"), now("curve_2")) == (0.25, 2.5)
        _, nan, quality = kept.rows("/curve_1")[-1]
        assert math.isnan(nan)
        assert quality & 3 == Quality.BAD
        assert (word("steps_0_exact"), now("steps_1")) == (str(2**60 + 1), 2)
        assert (now("doors_0"), now("doors_1")) == (1, 0)
        assert (word("names_0"), word("names_1")) == ("a", "变速器")
        assert [now(f"grid_{i}_{j}") for i in (0, 1) for j in (0, 1, 2)] == [1, 2, 3, 4, 5, 6]
        assert (now("range_low"), now("range_high")) == (1, 9)
        assert (now("drive_is_on"), now("drive_axis_speed"), now("drive_temps_1")) == (1, 1.5, 21.5)
        assert (word("drive_axis_name"), word("drive_count_exact")) == ("x", str(2**60 + 1))
        assert (now("axes_0_speed"), word("axes_1_name")) == (7, "b")
        by_name = {s.name: s for s in kept.signals}
        assert by_name["doors_0"].kind is SignalKind.FLAG
        assert by_name["curve_2"].address == "nsu=urn:test;s=Curve[2]"
        assert by_name["drive_axis_speed"].address == "nsu=urn:test;s=Drive.Axis.Speed"
        assert not {"curve", "drive", "drive_key", f"long_{MOST_PARTS}"} & set(by_name)
        assert now(f"long_{MOST_PARTS - 1}") == 0
        reasons = [(e.payload["reason"], e.payload["paths"]) for e in kept.gaps()]
        assert reasons == [("array too long", ["local/works/area/line/cell/u1/long"])]

        # An array that grows gets new signals, one that shrinks leaves no value behind.
        await nodes["Curve"].write_value([5.0, 6.0, 7.0, 8.0])
        await H.until(lambda: bool(kept.rows("/curve_3")))
        assert [now(f"curve_{k}") for k in range(4)] == [5, 6, 7, 8]
        await nodes["Curve"].write_value([9.0])
        await H.until(lambda: now("curve_0") == 9)
        assert all(math.isnan(now(f"curve_{k}")) for k in (1, 2, 3))
        later = ua.DriveType(IsOn=False, Axis=ua.AxisType(Speed=-2.0, Name="y"), Temps=[])
        await nodes["Drive"].write_value(later)
        await H.until(lambda: now("drive_axis_speed") == -2)
        assert math.isnan(now("drive_temps_0"))
        assert math.isnan(now("drive_count"))
        before = len(kept.rows("/plain"))
        for k in range(20):
            await nodes["Plain"].write_value(float(k + 1))
            await nodes["Curve"].write_value([float(k)] * (k % 5), T.Double)
        await H.until(lambda: now("plain") == 20)
        assert len(kept.rows("/plain")) > before
        assert pump.reconnects == 0
    assert next(rejected.kept(tmp_path / "data")).causes == {"long_array": 1}


async def test_holes_of_elements_are_filled_from_the_history_of_their_array(
    tmp_path: Path,
) -> None:
    kept, port = H.Kept(), free_port()
    async with plant(port) as nodes, H.collecting(tmp_path, port, kept) as (pump, _):
        await H.until(lambda: bool(kept.rows("/curve_0")))
        columns = pump._columns
        assert columns is not None
        handle = next(h for h in columns.parts if columns.items[h].signal.name == "curve")
        for k in (1, 2, 3, 4):
            await nodes["Curve"].write_value([float(k), 10.0 * k, float(k)])
            await H.until(lambda k=k: kept.rows("/curve_1")[-1][1] == 10.0 * k)
            if k == 1:
                since = columns.last_ns[[handle]].copy()
            if k == 3:  # as if 2 and 3 had been lost on their way
                columns.open_holes(np.array([handle]), since)
        filled = Quality.HISTORICAL
        await H.until(lambda: sum(bool(q & filled) for _, _, q in kept.rows("/curve_1")) == 3)
        told = [(v, q) for _, v, q in kept.rows("/curve_1") if q & filled]
    assert told == [(20.0, filled), (30.0, filled), (40.0, filled)]
    assert "filled from history" in [e.payload["reason"] for e in kept.gaps()]


async def test_discovery_proposes_what_the_collector_makes_of_arrays_and_structures(
    tmp_path: Path,
) -> None:
    kept, port = H.Kept(), free_port()
    async with plant(port):
        look = Options(seconds=0.3, source="m1", pki_dir=tmp_path / "pki")
        found = await opcua.discover(f"opc.tcp://127.0.0.1:{port}/t", look)
        assert found.source["root"] == "Plant"
        more = {
            "exclude": tuple(found.source.get("exclude", ())),
            "override": tuple(Override(**row) for row in found.source.get("override", ())),
        }
        async with H.collecting(tmp_path, port, kept, **more):
            await H.until(lambda: bool(kept.rows("/plain")))
    proposed = {p.signal.path: p.signal for p in found.proposals}
    assert set(proposed) == {s.path for s in kept.signals if not s.name.endswith("_exact")}
    assert {path.rsplit("/", 1)[1] for path in proposed} > {"curve_2", "drive_axis_speed"}
    assert all(proposed[s.path].kind is s.kind for s in kept.signals if s.path in proposed)
