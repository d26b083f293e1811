"""PyJobShop problem data (its ``ProblemData.to_json``) as a ``workshop-orders/1`` document.

What this engine cannot express is refused by name: a plan that breaks a dropped rule is worse than
none. ``SetupTime`` and ``EndBeforeStart``, breaks, releases, due dates and weights are kept.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from workshop_brain.errors import OrderError
from workshop_brain.schedule.exchange.document import FORMAT, MOST, MOST_SETUPS, in_form

NEVER = 2**42
"""Its largest value: no deadline."""
_OBJECTIVES = ("weight_makespan", "weight_total_tardiness", "weight_total_flow_time")


def is_problem_data(data: Mapping[str, Any]) -> bool:
    """Whether a JSON object has the parts of PyJobShop's problem data."""
    return all(isinstance(data.get(key), list) for key in ("resources", "tasks", "modes"))


def problem_data_document(data: Mapping[str, Any], name: str = "") -> dict[str, Any]:
    """The document of parsed problem data.

    Of several modes on one machine the shortest is taken: nothing kept here makes a longer one
    better. Total flow time is weighted tardiness against the release dates.

    Raises
    ------
    OrderError
        A constraint, resource or objective that cannot be kept, named with its index.
    """
    with in_form("PyJobShop's problem data"):
        return _document(data, name)


def _document(data: Mapping[str, Any], name: str) -> dict[str, Any]:
    _refuse(data)
    tasks, jobs = data["tasks"], list(data.get("jobs", []))
    machines = _names(data["resources"], "machine")
    objective, scale, by_release = _objective(data.get("objective") or {"weight_makespan": 1})
    rows = _alternatives(data, machines)
    ids = _names(tasks, "task")
    families, setup = _setups(data, len(tasks), len(machines))
    after: list[list[list[Any]]] = [[] for _ in tasks]
    for k, row in enumerate((data.get("constraints") or {}).get("end_before_start", [])):
        delay = _int(row.get("delay", 0), f"end_before_start[{k}].delay")
        if delay < 0:
            raise OrderError(
                f"end_before_start[{k}]: delay {delay} lets tasks overlap, which is not modelled; "
                "use 0 or more"
            )
        before = _index(row["task1"], tasks, f"end_before_start[{k}].task1")
        after[_index(row["task2"], tasks, f"end_before_start[{k}].task2")].append(
            [ids[before], delay]
        )
    members: list[list[int]] = [[] for _ in jobs]
    single: list[int] = []
    for t, task in enumerate(tasks):
        job = task.get("job")
        group = single if job is None else members[_index(job, jobs, f"tasks[{t}].job")]
        group.append(t)
    job_ids = _names(jobs, "job")
    taken = set(job_ids)

    def operations(of: Sequence[int]) -> list[dict[str, Any]]:
        return [
            {
                "id": ids[t],
                "family": families[t],
                "release": _int(tasks[t].get("earliest_start", 0), f"tasks[{t}].earliest_start"),
                "after": after[t],
                "alternatives": [[machines[m], d] for m, d in rows[t].items()],
            }
            for t in of
        ]

    documents = []
    for j, job in enumerate(jobs):
        release = _int(job.get("release_date", 0), f"jobs[{j}].release_date")
        due = release if by_release else job.get("due_date")
        documents.append(
            {
                "id": job_ids[j],
                "release": release,
                "due": None if due is None else _int(due, f"jobs[{j}].due_date"),
                "weight": scale * _int(job.get("weight", 1), f"jobs[{j}].weight"),
                "operations": operations(members[j]),
            }
        )
    for t in single:
        id = ids[t] if ids[t] not in taken else f"task {ids[t]}"
        documents.append({"id": id, "weight": 0, "due": None, "operations": operations([t])})
    pauses = _pauses(data, rows)
    return {
        "format": FORMAT,
        "name": name,
        "origin": None,
        "objective": objective,
        "machines": [
            {
                "id": machines[m],
                "work_center": machines[m],
                "table": m if len(setup) > 1 else 0,
                "closed": resource.get("breaks", []),
                "resumable": pauses[m],
            }
            for m, resource in enumerate(data["resources"])
        ],
        "jobs": documents,
        "families": sorted({*families}, key=int),
        "setup": setup,
        "notes": [],
    }


def _refuse(data: Mapping[str, Any]) -> None:
    """OrderError that names the first thing that cannot be kept."""
    for key, rows in (data.get("constraints") or {}).items():
        if rows and key not in ("end_before_start", "setup_times"):
            raise OrderError(
                f"constraints.{key}: {len(rows)} cannot be kept, only end_before_start and "
                "setup_times can; take them out or state them so"
            )
    for m, resource in enumerate(data["resources"]):
        kind = resource.get("type", "machine")
        what = f"resources[{m}] {resource.get('name', '')!r}"
        if kind != "machine":
            raise OrderError(f"{what}: a {kind} resource cannot be kept, only machines can")
        if resource.get("no_idle"):
            raise OrderError(f"{what}: no_idle cannot be kept; set it to false")
    for t, task in enumerate(data["tasks"]):
        what = f"tasks[{t}] {task.get('name', '')!r}"
        if task.get("optional"):
            raise OrderError(f"{what}: optional tasks cannot be kept; decide and take it out")
        if task.get("earliest_end"):
            raise OrderError(f"{what}: earliest_end cannot be kept; use earliest_start")
        for key in ("latest_start", "latest_end"):
            if task.get(key, NEVER) < NEVER:
                raise OrderError(f"{what}: {key} {task[key]} cannot be kept; use a due date")
    for j, job in enumerate(data.get("jobs", [])):
        if job.get("deadline", NEVER) < NEVER:
            raise OrderError(
                f"jobs[{j}] {job.get('name', '')!r}: deadline {job['deadline']} cannot be kept; "
                "use due_date and a weight"
            )


def _objective(weights: Mapping[str, int]) -> tuple[str, int, bool]:
    """``(objective, factor on the weights, whether due dates are the releases)``."""
    used = {key: w for key, w in weights.items() if w}
    if len(used) != 1 or next(iter(used)) not in _OBJECTIVES:
        raise OrderError(
            f"objective: {used or 'nothing'} cannot be kept; one of {', '.join(_OBJECTIVES)} can"
        )
    key, weight = next(iter(used.items()))
    if key == "weight_makespan":
        if weight != 1:
            raise OrderError(f"objective.weight_makespan: set it to 1, got {weight}; same plan")
        return "makespan", 1, False
    return "weighted_tardiness", _int(weight, f"objective.{key}"), key == _OBJECTIVES[2]


def _alternatives(data: Mapping[str, Any], machines: Sequence[str]) -> list[dict[int, int]]:
    """Machine index -> shortest duration, per task."""
    rows: list[dict[int, int]] = [{} for _ in data["tasks"]]
    for k, mode in enumerate(data["modes"]):
        t = _index(mode["task"], data["tasks"], f"modes[{k}].task")
        if len(mode["resources"]) != 1:
            raise OrderError(
                f"modes[{k}]: needs {len(mode['resources'])} resources at a time; one machine can "
                "be kept"
            )
        m = _index(mode["resources"][0], machines, f"modes[{k}].resources")
        if any(mode.get("demands") or ()):
            continue  # a machine has no capacity to give: such a mode can never be taken
        duration = _int(mode["duration"], f"modes[{k}].duration")
        if duration < 0:
            raise OrderError(f"modes[{k}].duration: must be 0 or more, got {duration}")
        rows[t][m] = min(duration, rows[t].get(m, duration))
    for t, row in enumerate(rows):
        if not row:
            raise OrderError(f"tasks[{t}] {data['tasks'][t].get('name', '')!r}: has no mode")
    return rows


def _pauses(data: Mapping[str, Any], rows: Sequence[Mapping[int, int]]) -> list[bool]:
    """Whether work pauses over breaks, per machine; all its tasks must agree."""
    out = []
    with_setup = {row["machine"] for row in (data.get("constraints") or {}).get("setup_times", [])}
    for m, resource in enumerate(data["resources"]):
        if not resource.get("breaks"):
            out.append(True)
            continue
        if m in with_setup:
            raise OrderError(
                f"resources[{m}] {resource.get('name', '')!r}: setup times that run during breaks "
                "cannot be kept: here they pause; take out the breaks or the setups"
            )
        allowed = {
            bool(data["tasks"][t].get("allow_breaks")) for t, row in enumerate(rows) if m in row
        }
        if len(allowed) > 1:
            raise OrderError(
                f"resources[{m}] {resource.get('name', '')!r}: allow_breaks differs between its "
                "tasks; here a machine pauses over breaks for all or for none"
            )
        out.append(allowed == {True})
    return out


def _setups(
    data: Mapping[str, Any], n_tasks: int, n_machines: int
) -> tuple[list[str], list[list[list[int]]]]:
    """Family of each task (tasks alike share one) and a table for each machine."""
    entries: dict[tuple[int, int, int], int] = {}
    for k, row in enumerate((data.get("constraints") or {}).get("setup_times", [])):
        what = f"setup_times[{k}]"
        m = _index(row["machine"], data["resources"], f"{what}.machine")
        a, b = (_index(row[key], data["tasks"], f"{what}.{key}") for key in ("task1", "task2"))
        duration = _int(row["duration"], f"{what}.duration")
        if duration < 0:
            raise OrderError(f"{what}.duration: must be 0 or more, got {duration}")
        entries[m, a, b] = duration
    leaving: list[list[tuple[int, int, int]]] = [[] for _ in range(n_tasks)]
    coming: list[list[tuple[int, int, int]]] = [[] for _ in range(n_tasks)]
    for (m, a, b), duration in entries.items():
        if duration:
            leaving[a].append((m, b, duration))
            coming[b].append((m, a, duration))
    alike: dict[Any, int] = {}
    family, first = [], []
    for t in range(n_tasks):
        key = (tuple(sorted(leaving[t])), tuple(sorted(coming[t])))
        if key not in alike:
            alike[key] = len(alike)
            first.append(t)
        family.append(alike[key])
    count = len(first)
    if not any(entries.values()):
        return ["0"] * n_tasks, [[[0]]]
    if n_machines * count**2 > MOST_SETUPS:
        raise OrderError(f"setup_times: {count} different tasks on {n_machines} machines, too many")
    tables = [
        [[entries.get((m, a, b), 0) for b in first] for a in first] for m in range(n_machines)
    ]
    return [str(f) for f in family], tables


def _names(rows: Sequence[Mapping[str, Any]], what: str) -> list[str]:
    """Names where all are given and differ, else the indices."""
    names = [str(row.get("name") or "") for row in rows]
    if all(names) and len(set(names)) == len(names):
        return names
    return [str(k) for k in range(len(rows))]


def _index(value: Any, rows: Sequence[Any], what: str) -> int:
    k = _int(value, what)
    if not 0 <= k < len(rows):
        raise OrderError(f"{what}: {k} is not one of the {len(rows)} there are")
    return k


def _int(value: Any, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > MOST:
        raise OrderError(f"{what}: must be a whole number up to {MOST}, got {value!r}")
    return value
