"""Records: users, sessions, links, orders, jobs, settings, decisions."""

import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from sqlalchemy import create_engine, inspect

from workshop_brain.errors import DamageError, StoreError
from workshop_brain.model.decision import (
    Candidate,
    Decision,
    DecisionClass,
    DecisionState,
    Level,
    Message,
)
from workshop_brain.model.order import (
    JobOrder,
    JobResponse,
    JobState,
    RequestState,
    WorkRequest,
)
from workshop_brain.store import records as records_module
from workshop_brain.store.records import Records, Role, User
from workshop_brain.store.tables import Table
from workshop_brain.units import NS_PER_S

NOW = 1_767_225_600 * NS_PER_S


@pytest.fixture(autouse=True)
def _light_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    light = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1)
    monkeypatch.setattr(records_module, "_hasher", lambda: light)


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    made = Records(tmp_path / "records.sqlite")
    yield made
    made.close()


def request(id: str, due_ns: int = NOW) -> WorkRequest:
    return WorkRequest(id=id, product="AT8", quantity=5, due_ns=due_ns, priority=2)


def job(id: str) -> JobOrder:
    return JobOrder(
        id=id, requests=(("A1", 3), ("A2", 2)), work_center="heat", equipment="local/w/h/heat/c/f1",
        product="AT8", program="case_08", quantity=5, start_ns=NOW, end_ns=NOW + NS_PER_S,
    )  # fmt: skip


def decision(id: str, time_ns: int = NOW, line: str = "asm1") -> Decision:
    return Decision(
        id=id, time_ns=time_ns, decision_class=DecisionClass.REPAIR, line=line,
        trigger={"kind": "breakdown"}, input_hash="a" * 64, seed=7, iterations=100,
        candidates=(Candidate(name="shift", kpis={"moves": 2.0}, objective=1.5),), chosen=0,
        reasons=(Message(id="reason.breakdown", params={"unit": "soft1"}),),
        changes=({"op": "A1.soft", "to": "soft2"},), effect={"late_orders": -1.0},
        level=Level.VETO, state=DecisionState.PROPOSED, plan_hash="b" * 64, bound=0.5,
    )  # fmt: skip


def test_migrations_and_tables_agree(tmp_path: Path) -> None:
    file = tmp_path / "records.sqlite"
    Records(file).close()
    Records(file).close()
    engine = create_engine(f"sqlite:///{file}")
    found = inspect(engine)
    for name, table in Table.metadata.tables.items():
        columns = {c["name"]: c for c in found.get_columns(name)}
        assert set(columns) == set(table.columns.keys())
        assert found.get_pk_constraint(name)["constrained_columns"][0] == "enterprise"
        for column in table.columns:
            assert columns[column.name]["nullable"] == column.nullable, f"{name}.{column.name}"
    engine.dispose()


def test_only_the_right_password_signs_in(records: Records) -> None:
    user = records.add_user("wang", "correct horse", "planner", language="zh")
    assert user == User(name="wang", role=Role.PLANNER, language="zh")
    assert records.check_password("wang", "correct horse") == user
    assert records.check_password("wang", "correct Horse") is None
    assert records.check_password("nobody", "correct horse") is None
    records.set_password("wang", "another one")
    assert records.check_password("wang", "correct horse") is None
    assert records.check_password("wang", "another one") == user
    with pytest.raises(ValueError, match="exists already"):
        records.add_user("wang", "password", "viewer")
    with pytest.raises(ValueError, match="at least 8"):
        records.add_user("li", "short", "viewer")


def test_passwords_and_tokens_are_stored_as_hashes_only(tmp_path: Path) -> None:
    file = tmp_path / "records.sqlite"
    records = Records(file)
    records.add_user("wang", "correct horse", "admin")
    token = records.open_session("wang", now_ns=NOW, ttl_s=60)
    link = records.add_link(role="admin", now_ns=NOW, ttl_s=60)
    records.close()
    data = b"".join(p.read_bytes() for p in tmp_path.iterdir())
    assert b"$argon2id$" in data
    for secret in ("correct horse", token, link):
        assert secret.encode() not in data


def test_the_last_administrator_stays(records: Records) -> None:
    records.add_user("a", "password-a", "admin")
    with pytest.raises(ValueError, match="last administrator"):
        records.set_role("a", "viewer")
    with pytest.raises(ValueError, match="last administrator"):
        records.remove_user("a")
    records.add_user("b", "password-b", "admin")
    records.remove_user("a")
    assert [u.name for u in records.users()] == ["b"]


def test_a_session_ends_by_time_by_sign_out_and_by_a_new_password(records: Records) -> None:
    records.add_user("a", "password-a", "operator")
    first = records.open_session("a", now_ns=NOW, ttl_s=10)
    second = records.open_session("a", now_ns=NOW, ttl_s=1000)
    third = records.open_session("a", now_ns=NOW, ttl_s=1000)
    assert records.session(first, now_ns=NOW + 9 * NS_PER_S) is not None
    assert records.session(first, now_ns=NOW + 10 * NS_PER_S) is None
    records.close_session(second)
    assert records.session(second, now_ns=NOW) is None
    records.set_password("a", "password-b")
    assert records.session(third, now_ns=NOW) is None
    assert records.session("made up", now_ns=NOW) is None


def test_a_link_works_once_and_until_it_expires(records: Records) -> None:
    token = records.add_link(role="admin", now_ns=NOW, ttl_s=10)
    late = records.add_link(role="viewer", now_ns=NOW, ttl_s=10)
    link = records.use_link(token, now_ns=NOW)
    assert link is not None
    assert (link.user, link.role) == ("admin", Role.ADMIN)
    assert records.use_link(token, now_ns=NOW) is None
    assert records.use_link(late, now_ns=NOW + 11 * NS_PER_S) is None


def test_requests_come_back_by_due_date_and_keep_their_state(records: Records) -> None:
    records.save_requests([request("B", NOW + 2), request("A", NOW + 1)])
    assert [r.request for r in records.requests()] == [request("A", NOW + 1), request("B", NOW + 2)]
    records.set_request_state("A", RequestState.COMPLETED, end_ns=NOW)
    records.save_requests([replace(request("A", NOW + 9), quantity=8)])
    (row,) = records.requests(RequestState.COMPLETED)
    assert (row.request.quantity, row.end_ns) == (8, NOW)
    assert [r.request.id for r in records.requests(RequestState.WAITING)] == ["B"]
    assert records.remove_request("B")
    assert not records.remove_request("B")
    with pytest.raises(ValueError, match="no work request 'B'"):
        records.set_request_state("B", RequestState.RUNNING)


def test_jobs_keep_what_the_plant_said_of_them(records: Records) -> None:
    records.save_job(job("J1"), way="opcua", decision="D1")
    row = records.job("J1")
    assert row is not None
    assert (row.job, row.state, row.response) == (job("J1"), JobState.PLANNED, None)
    response = JobResponse(job="J1", state=JobState.RUNNING, good=2, start_ns=NOW)
    assert records.save_response(response)
    records.save_job(job("J1"), way="opcua", decision="D2")
    (row,) = records.jobs(JobState.RUNNING, work_center="heat")
    assert (row.response, row.decision) == (response, "D2")
    assert records.jobs(JobState.ENDED) == records.jobs(work_center="soft") == []
    assert not records.save_response(JobResponse(job="J2", state=JobState.ENDED))


def test_settings_are_found_by_prefix(records: Records) -> None:
    records.set_setting("level.asm1.repair", 3)
    records.set_setting("level.asm1.repair", 4)
    records.set_setting("levelled", {"a": [1]})
    assert records.settings("level.") == {"level.asm1.repair": 4}
    assert records.setting("levelled") == {"a": [1]}
    assert records.setting("nothing", 5) == 5


def test_decisions_come_back_equal_and_newest_first(records: Records) -> None:
    for k in range(3):
        records.save_decision(decision(f"D{k}", NOW + k, "asm1" if k else "soft"))
    changed = replace(decision("D1", NOW + 1), state=DecisionState.IN_FORCE)
    records.save_decision(changed, entry=4, approved_by="wang")
    records.save_decision(changed, outcome={"late_orders": 0})
    row = records.decision("D1")
    assert row is not None
    assert (row.decision, row.entry, row.approved_by) == (changed, 4, "wang")
    assert row.outcome == {"late_orders": 0}
    assert [r.decision.id for r in records.decisions()] == ["D2", "D1", "D0"]
    assert [r.decision.id for r in records.decisions(before_ns=NOW + 2, line="asm1")] == ["D1"]
    assert len(records.decisions(1)) == 1


def test_enterprises_do_not_see_each_other(tmp_path: Path) -> None:
    one = Records(tmp_path / "r.sqlite", enterprise="one")
    two = Records(tmp_path / "r.sqlite", enterprise="two")
    one.add_user("a", "password-a", "admin")
    one.save_requests([request("A")])
    one.set_setting("k", 1)
    one.save_decision(decision("D"))
    token = one.open_session("a", now_ns=NOW, ttl_s=10)
    assert two.users() == two.requests() == two.decisions() == []
    assert two.setting("k") is None
    assert two.session(token, now_ns=NOW) is None
    two.add_user("a", "password-b", "admin")
    assert two.check_password("a", "password-a") is None
    one.close()
    two.close()


def test_threads_may_write_at_once(records: Records) -> None:
    def work(k: int) -> None:
        for n in range(10):
            records.set_setting(f"t{k}.{n}", n)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(records.settings("t")) == 40


def test_a_wrong_address_and_a_damaged_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nosuch"):
        Records("nosuch://host/db")
    file = tmp_path / "records.sqlite"
    file.write_bytes(b"this is no database, but it is long enough to be read as one" * 20)
    with pytest.raises(DamageError, match=r"records\.sqlite"):
        Records(file)
    assert sqlite3.sqlite_version
