"""Watch: live values and production joined, as the screens see them."""

from pathlib import Path

import numpy as np
import pytest

from workshop_brain.app.watch import Watch
from workshop_brain.config import built_in
from workshop_brain.model.event import EventKind
from workshop_brain.model.signal import Samples, SignalDef, SignalKind
from workshop_brain.model.state import StopReason, UnitState
from workshop_brain.store.historian import Historian

S = 1_000_000_000
NOW = 1_790_000_000 * S
ROOT = "local/works/assembly/asm1"
CONTROLLER = f"{ROOT}/main/asm1"
TAGS = ("state_current", "stop_reason", "prod_processed_count", "blocked", "starved")


def watch_of(*units: str) -> tuple[Watch, dict[str, int]]:
    watch = Watch(built_in().plant)
    signals = [
        SignalDef(path=f"{unit}/{tag}", kind=SignalKind.GAUGE, high=1e6, source="opc")
        for unit in units
        for tag in TAGS
    ]
    watch.on_declared(list(range(len(signals))), signals)
    return watch, watch.live.ids


def batch(*rows: tuple[int, int, float]) -> Samples:
    ids, times, values = zip(*rows, strict=True)
    return Samples(
        np.array(ids, np.uint32),
        np.array(times, np.int64),
        np.array(values, np.float64),
        np.zeros(len(rows), np.uint8),
    )


def test_declared_ids_may_repeat_but_leave_no_hole() -> None:
    watch, _ = watch_of(f"{ROOT}/z1/st01")
    known = watch.live.signals[0]
    watch.on_declared([0], [known])
    assert watch.live.epoch == 5
    more = [
        SignalDef(path=f"{ROOT}/z1/st01/{n}", kind=SignalKind.GAUGE, source="opc") for n in "ab"
    ]
    watch.on_declared([6, 5], more)
    assert watch.live.ids[more[1].path] == 5
    with pytest.raises(ValueError, match="hole"):
        watch.on_declared([9], more[:1])


def test_line_output_and_takt_come_from_the_line_controller() -> None:
    watch, ids = watch_of(CONTROLLER, f"{ROOT}/z1/st01", f"{ROOT}/z1/st02")
    count = ids[f"{CONTROLLER}/prod_processed_count"]
    start = NOW - 7200 * S
    watch.on_samples(batch((count, start, 1000)), 0)
    watch.tick(start)
    for k in range(1, 181):
        watch.on_samples(batch((count, start + 40 * k * S, 1000 + k)), 0)
        watch.tick(start + 40 * k * S)
    view = watch.line_view("asm1", NOW, np.zeros(watch.live.epoch, np.bool_))
    assert view["takt_s"] == 40.0
    assert view["output"]["hour"] == 90
    assert view["output"]["today"] == 180
    assert [s["id"] for s in view["stations"]] == ["st01", "st02"]
    kpi = watch.kpi_view("asm1", NOW)
    assert kpi["pq"] == 180
    assert kpi["throughput_per_h"] == pytest.approx(90.0)


def test_counter_reset_does_not_lose_output() -> None:
    watch, ids = watch_of(CONTROLLER)
    count = ids[f"{CONTROLLER}/prod_processed_count"]
    for k, value in enumerate([10, 12, 1, 3]):
        watch.on_samples(batch((count, NOW + k * S, value)), 0)
        watch.tick(NOW + k * S)
    assert watch.counted(watch.units.rows[CONTROLLER], NOW)[0] == 5


def test_bottleneck_needs_observation_and_names_the_station() -> None:
    units = [f"{ROOT}/z1/st{k:02d}" for k in range(1, 6)]
    watch, ids = watch_of(*units)
    assert watch.bottleneck_view("asm1", NOW) is None
    rows = []
    for minute in range(40):
        at = NOW + minute * 60 * S
        for k, unit in enumerate(units):
            state, reason = ids[f"{unit}/state_current"], ids[f"{unit}/stop_reason"]
            rows += [(state, at, UnitState.EXECUTE), (reason, at, StopReason.NONE)]
            if k != 3:
                stop = StopReason.BLOCKED if k < 3 else StopReason.STARVED
                rows += [(state, at + 40 * S, UnitState.SUSPENDED), (reason, at + 40 * S, stop)]
    watch.tick(NOW)
    watch.on_samples(batch(*sorted(rows, key=lambda r: r[1])), 0)
    found = watch.bottleneck_view("asm1", NOW + 2400 * S)
    assert found is not None
    assert found["path"] == units[3]
    assert found["ranking"][0]["path"] == units[3]
    assert found["confidence"] > 0.5


def test_kpi_losses_sum_to_the_observed_time() -> None:
    unit = built_in().plant.work_center("soft").units[0].path
    watch, ids = watch_of(unit)
    watch.tick(NOW)
    state, reason = ids[f"{unit}/state_current"], ids[f"{unit}/stop_reason"]
    watch.on_samples(
        batch(
            (state, NOW, UnitState.EXECUTE),
            (state, NOW + 600 * S, UnitState.HELD),
            (reason, NOW + 600 * S, StopReason.SETUP),
        ),
        0,
    )
    kpi = watch.kpi_view("soft", NOW + 1000 * S)["units"][0]
    assert kpi["apt_s"] == 600
    assert kpi["aust_s"] == 400
    assert kpi["availability"] == 0.6
    assert sum(kpi["losses_s"].values()) == pytest.approx(1000)


def test_restored_values_are_there_and_old_breakdowns_are_known() -> None:
    watch, ids = watch_of(f"{ROOT}/z1/st01")
    state = ids[f"{ROOT}/z1/st01/state_current"]
    time_ns = np.full(5, -(2**63), np.int64)
    value, quality = np.full(5, np.nan), np.full(5, 2, np.uint8)
    time_ns[state], value[state], quality[state] = NOW, UnitState.ABORTED, 0
    (stop,) = watch.restore(time_ns, value, quality)
    assert (stop.kind, stop.time_ns) == (EventKind.BREAKDOWN, NOW)
    assert watch.units.state[0] == UnitState.ABORTED
    again = watch.on_samples(batch((state, NOW + S, UnitState.EXECUTE)), 0)
    assert EventKind.RESTORED in [e.kind for e in again]


def test_counts_and_states_of_before_a_restart_are_recalled(tmp_path: Path) -> None:
    plant_start = NOW - NOW % (86_400 * S) + 4 * 3600 * S  # noon at the plant
    first, ids = watch_of(CONTROLLER, f"{ROOT}/z1/st01")
    count, state = ids[f"{CONTROLLER}/prod_processed_count"], ids[f"{CONTROLLER}/state_current"]
    reason = ids[f"{CONTROLLER}/stop_reason"]
    rows = [(count, plant_start + 40 * k * S, 500.0 + k) for k in range(1, 91)]
    rows += [(state, plant_start + 40 * S, 6.0), (state, plant_start + 1800 * S, 11.0)]
    rows += [(reason, plant_start + 1800 * S, StopReason.SETUP)]
    samples = batch(*sorted(rows, key=lambda r: r[1]))
    with Historian(tmp_path) as historian:
        historian.declare(first.live.signals)
        historian.append(samples, source="opc", session=1, seq=1)
        again = Watch(built_in().plant)
        again.extend(historian.signals())
        again.restore(*historian.last_values())
        again.tick(again.live.newest_ns)
        later = again.live.newest_ns + 40 * S
        found = again.recaller(historian)()
        again.on_samples(batch((count, later, 591.0)), 0)
        again.recall(found)
    again.tick(later)
    view = again.line_view("asm1", later, np.zeros(again.live.epoch, np.bool_))
    assert view["output"]["today"] == 90
    assert view["output"]["hour"] == 90
    kpi = again.kpi_view("asm1", later)["units"][0]
    assert kpi["apt_s"] == 1760
    assert kpi["aust_s"] == 1840


def test_recall_of_an_empty_history_changes_nothing(tmp_path: Path) -> None:
    watch, _ = watch_of(CONTROLLER)
    with Historian(tmp_path) as historian:
        watch.recall(watch.recaller(historian)())
    watch.tick(NOW)
    assert watch.counted(0, NOW) == (0, NOW)


def test_alarms_are_listed_while_active() -> None:
    watch = Watch(built_in().plant)
    path = f"{ROOT}/main/asm1"
    tags = ("state_current", "alarm_code")
    watch.extend(
        [SignalDef(path=f"{path}/{t}", kind=SignalKind.STATE, high=99, source="o") for t in tags]
    )
    watch.on_samples(batch((1, NOW, 7)), 0)
    assert watch.alarms[path].payload["code"] == 7
    watch.on_samples(batch((1, NOW + S, 0)), 0)
    assert watch.alarms == {}


def test_wall_order_is_line_devices_then_work_center_units() -> None:
    watch, _ = watch_of(f"{ROOT}/z1/st02", f"{ROOT}/z1/st01")
    order = watch.unit_order()
    assert order[:2] == [f"{ROOT}/z1/st01", f"{ROOT}/z1/st02"]
    assert order[2:] == [u.path for c in watch.plant.work_centers for u in c.units]
    assert len(watch.unit_order()) == len(set(order))


def test_known_since_is_never_later_than_now() -> None:
    """Before the first stamp plant time is wall time; the plant may live months before it."""
    watch, ids = watch_of(CONTROLLER)
    watch.tick(NOW + 90 * 86_400 * S)
    watch.on_samples(batch((ids[f"{CONTROLLER}/prod_processed_count"], NOW, 5.0)), 0)
    watch.tick(NOW)
    view = watch.line_view("asm1", NOW, np.zeros(watch.live.epoch, np.bool_))
    assert view["output"]["since_ms"] <= NOW / 1e6
