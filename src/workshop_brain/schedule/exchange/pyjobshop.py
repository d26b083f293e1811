"""PyJobShop problem data (its ``ProblemData.to_json``) as a ``workshop-orders/1`` document.

What this engine cannot express is refused by name: a plan that breaks a dropped rule is worse than
none. ``SetupTime`` and ``EndBeforeStart``, breaks, releases, due dates, deadlines and weights are
kept; renewable resources become tools, ``StartBeforeEnd`` along a precedence a maximum lag.
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
    better. All modes of a task must ask for the same renewables; a task that asks for nothing else
    gets a machine of its own. Total flow time is weighted tardiness against the release dates.

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
    names = _names(data["resources"], "machine")
    is_tool = [resource.get("type", "machine") == "renewable" for resource in data["resources"]]
    objective, scale, by_release = _objective(data.get("objective") or {"weight_makespan": 1})
    needs = _renewables(data, names, is_tool)
    rows = _alternatives(data, names, is_tool)
    ids = _names(tasks, "task")
    families, setup = _setups(data, len(tasks), len(names))
    after = _links(data, ids)
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
                "alternatives": [
                    [names[m] if m >= 0 else f"task {ids[t]}", d] for m, d in rows[t].items()
                ],
                **({"tools": needs[t]} if needs[t] else {}),
                **_latest(tasks[t].get("latest_end"), f"tasks[{t}].latest_end"),
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
                **_latest(job.get("deadline"), f"jobs[{j}].deadline"),
                "operations": operations(members[j]),
            }
        )
    for t in single:
        id = ids[t] if ids[t] not in taken else f"task {ids[t]}"
        documents.append({"id": id, "weight": 0, "due": None, "operations": operations([t])})
    pauses = _pauses(data, rows)
    machines = [
        {
            "id": names[m],
            "work_center": names[m],
            "table": m if len(setup) > 1 else 0,
            "closed": resource.get("breaks", []),
            "resumable": pauses[m],
        }
        for m, resource in enumerate(data["resources"])
        if not is_tool[m]
    ]
    machines += [
        {"id": f"task {ids[t]}", "work_center": f"task {ids[t]}", "table": 0}
        for t, row in enumerate(rows)
        if -1 in row
    ]
    tools = [
        {"id": names[m], "quantity": resource["capacity"], "closed": resource.get("breaks", [])}
        for m, resource in enumerate(data["resources"])
        if is_tool[m] and resource["capacity"] > 0
    ]
    return {
        "format": FORMAT,
        "name": name,
        "origin": None,
        "objective": objective,
        "machines": machines,
        **({"tools": tools} if tools else {}),
        "jobs": documents,
        "families": sorted({*families}, key=int),
        "setup": setup,
        "notes": [],
    }


def _latest(tick: Any, what: str) -> dict[str, int]:
    """A deadline, where there is one."""
    return {} if tick is None or tick >= NEVER else {"deadline": _int(tick, what)}


def _links(data: Mapping[str, Any], ids: Sequence[str]) -> list[list[list[Any]]]:
    """Per task ``[predecessor, least lag, greatest lag or None]``."""
    constraints, tasks = data.get("constraints") or {}, data["tasks"]
    links: list[dict[int, list[int | None]]] = [{} for _ in tasks]
    for k, row in enumerate(constraints.get("end_before_start", [])):
        what = f"end_before_start[{k}]"
        _check_row(row, what)
        delay = _int(row.get("delay", 0), f"{what}.delay")
        if delay < 0:
            raise OrderError(
                f"{what}: delay {delay} lets tasks overlap, which is not modelled; use 0 or more"
            )
        before = _index(row["task1"], tasks, f"{what}.task1")
        link = links[_index(row["task2"], tasks, f"{what}.task2")]
        link[before] = [max(delay, (link.get(before) or [0])[0] or 0), None]
    for k, row in enumerate(constraints.get("start_before_end", [])):
        what = f"start_before_end[{k}]"
        _check_row(row, what)
        most = -_int(row.get("delay", 0), f"{what}.delay")
        after = _index(row["task1"], tasks, f"{what}.task1")
        before = _index(row["task2"], tasks, f"{what}.task2")
        if before not in links[after] or most < 0:
            raise OrderError(
                f"{what}: can be kept as a maximum lag only: task1 must follow task2 by "
                f"end_before_start, and the delay be 0 or less, got {-most}"
            )
        known = links[after][before][1]
        links[after][before][1] = most if known is None else min(most, known)
    return [[[ids[p], *link] for p, link in row.items()] for row in links]


def _renewables(
    data: Mapping[str, Any], names: Sequence[str], is_tool: Sequence[bool]
) -> list[dict[str, int]]:
    """What each task asks of renewable resources; OrderError where its modes differ in that."""
    out: list[dict[str, int] | None] = [None] * len(data["tasks"])
    for k, mode in enumerate(data["modes"]):
        asked = {}
        demands = list(mode.get("demands") or [0] * len(mode["resources"]))
        for m, demand in zip(mode["resources"], demands, strict=True):
            r = _index(m, names, f"modes[{k}].resources")
            if not is_tool[r]:
                continue
            if _int(demand, f"modes[{k}].demands") > 0:
                asked[names[r]] = demand
            elif data["resources"][r].get("breaks"):
                raise OrderError(
                    f"modes[{k}]: asks for 0 of {names[r]!r} but must keep its breaks, which "
                    "cannot be said here; ask for 1 or leave the resource out"
                )
        t = _index(mode["task"], data["tasks"], f"modes[{k}].task")
        known = out[t]
        if not _is_possible(data, mode, is_tool):
            continue
        if known is not None and known != asked:
            raise OrderError(
                f"modes[{k}]: asks for {asked or 'no'} renewables, another mode of the same task "
                f"for {known or 'none'}; only equal ones can be kept"
            )
        out[t] = asked
        for name in asked:
            resource = data["resources"][names.index(name)]
            if resource.get("breaks") and data["tasks"][t].get("allow_breaks"):
                raise OrderError(
                    f"tasks[{t}]: may pause over the breaks of {name!r}; here only work on "
                    "machines does: set allow_breaks to false or take the breaks out"
                )
    return [asked or {} for asked in out]


def _is_possible(data: Mapping[str, Any], mode: Mapping[str, Any], is_tool: Sequence[bool]) -> bool:
    """Whether the resources can give what a mode asks for; a machine has no capacity to give."""
    demands = list(mode.get("demands") or [0] * len(mode["resources"]))
    pairs = zip(mode["resources"], demands, strict=True)
    return all(d <= (data["resources"][m]["capacity"] if is_tool[m] else 0) for m, d in pairs)


def _refuse(data: Mapping[str, Any]) -> None:
    """OrderError that names the first thing that cannot be kept."""
    for key, rows in (data.get("constraints") or {}).items():
        if rows and key not in ("end_before_start", "start_before_end", "setup_times"):
            raise OrderError(
                f"constraints.{key}: {len(rows)} cannot be kept, only end_before_start, "
                "setup_times and start_before_end as a maximum lag can; take them out or state "
                "them so"
            )
    for m, resource in enumerate(data["resources"]):
        kind = resource.get("type", "machine")
        what = f"resources[{m}] {resource.get('name', '')!r}"
        if kind not in ("machine", "renewable"):
            raise OrderError(
                f"{what}: a {kind} resource cannot be kept, only machines and renewables can"
            )
        if resource.get("no_idle"):
            raise OrderError(f"{what}: no_idle cannot be kept; set it to false")
    for t, task in enumerate(data["tasks"]):
        what = f"tasks[{t}] {task.get('name', '')!r}"
        if task.get("optional"):
            raise OrderError(f"{what}: optional tasks cannot be kept; decide and take it out")
        if task.get("earliest_end"):
            raise OrderError(f"{what}: earliest_end cannot be kept; use earliest_start")
        if task.get("latest_start", NEVER) < NEVER:
            raise OrderError(
                f"{what}: latest_start {task['latest_start']} cannot be kept; use latest_end"
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


def _alternatives(
    data: Mapping[str, Any], names: Sequence[str], is_tool: Sequence[bool]
) -> list[dict[int, int]]:
    """Machine index -> shortest duration, per task; -1 = the task asks for no machine."""
    rows: list[dict[int, int]] = [{} for _ in data["tasks"]]
    for k, mode in enumerate(data["modes"]):
        t = _index(mode["task"], data["tasks"], f"modes[{k}].task")
        used = [_index(m, names, f"modes[{k}].resources") for m in mode["resources"]]
        machines = [m for m in used if not is_tool[m]]
        if len(machines) > 1:
            raise OrderError(
                f"modes[{k}]: needs {len(machines)} machines at a time; one machine, and "
                "renewables besides, can be kept"
            )
        if not _is_possible(data, mode, is_tool):
            continue
        m = machines[0] if machines else -1
        duration = _int(mode["duration"], f"modes[{k}].duration")
        if duration < 0:
            raise OrderError(f"modes[{k}].duration: must be 0 or more, got {duration}")
        rows[t][m] = min(duration, rows[t].get(m, duration))
    for t, row in enumerate(rows):
        if not row:
            raise OrderError(
                f"tasks[{t}] {data['tasks'][t].get('name', '')!r}: has no mode that can be taken; "
                "give it one that asks for no more of a resource than its capacity, 0 of a machine"
            )
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


def _check_row(row: Any, what: str) -> None:
    if not isinstance(row, Mapping):
        raise OrderError(f"{what}: must be an object with task1, task2 and delay, got {row!r}")


def _int(value: Any, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > MOST:
        raise OrderError(f"{what}: must be a whole number up to {MOST}, got {value!r}")
    return value
