"""The current plan on disk: for machines (``current.json``) and for people (``current.html``).

Both are written atomically at each publish, so that a plan can be printed while the brain is down.
"""

import html
import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from workshop_brain.autonomy.state import Planned, PlanRef
from workshop_brain.errors import StoreError
from workshop_brain.model.order import JobOrder
from workshop_brain.model.plant import Plant
from workshop_brain.units import NS_PER_S

FORMAT = "workshop-current-plan/1"
CURRENT, IN_FORCE = "current.json", "in_force.json"
_TEXT = {
    "en": {
        "title": "Plan of {site}",
        "made": "Plan {plan} of {time} ({zone})",
        "proposed": "proposed, not in force",
        "in_force": "in force",
        "unit": "Unit", "start": "Start", "end": "End", "job": "Job order",
        "product": "Product", "program": "Program", "quantity": "Pieces", "requests": "Orders",
        "empty": "No jobs are planned here.",
    },
    "zh": {
        "title": "{site} 排程表",
        "made": "排程 {plan}，{time}（{zone}）",
        "proposed": "建议，尚未生效",
        "in_force": "生效中",
        "unit": "机台", "start": "开始", "end": "结束", "job": "工单",
        "product": "产品", "program": "程序", "quantity": "件数", "requests": "订单",
        "empty": "此处没有排程的工单。",
    },
}  # fmt: skip
_STYLE = """
body{font:14px/1.4 system-ui,"Noto Sans CJK SC",sans-serif;color:#111;margin:2em}
h1{font-size:20px;margin:0}h2{font-size:16px;margin:1.6em 0 .3em}p{margin:.2em 0}
table{border-collapse:collapse;width:100%}th,td{border:1px solid #999;padding:2px 6px;
text-align:left}td.n{text-align:right}th{background:#eee}tr{break-inside:avoid}
section{break-after:page}@media print{body{margin:0}}
"""


def write_plan(
    directory: Path,
    plant: Plant,
    plan: PlanRef,
    *,
    decision: str,
    in_force: bool,
    time_ns: int,
) -> None:
    """Write both files; StoreError when the directory cannot be written."""
    body = {
        "format": FORMAT,
        "plan": plan.hash,
        "decision": decision,
        "in_force": in_force,
        "time_ns": time_ns,
        "jobs": [_row(p) for p in plan.jobs],
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
        text = json.dumps(body, ensure_ascii=False, indent=1)
        if in_force:
            _replace(directory / IN_FORCE, text)
        _replace(directory / CURRENT, text)
        page = print_page(
            plant, plan, decision=decision, in_force=in_force, time_ns=time_ns, language=None
        )
        _replace(directory / "current.html", page)
    except OSError as error:
        raise StoreError(
            f"{directory}: the current plan cannot be written: {error}; free space or fix rights"
        ) from error


def read_plan(directory: Path, name: str = CURRENT) -> tuple[PlanRef, str, bool] | None:
    """Plan, its decision and whether it was in force; None when there is none to read."""
    try:
        body = json.loads((directory / name).read_text("utf-8"))
        if body["format"] != FORMAT:
            return None
        jobs = tuple(_planned(row) for row in body["jobs"])
        return PlanRef.of(body["plan"], jobs), str(body["decision"]), bool(body["in_force"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def print_page(
    plant: Plant,
    plan: PlanRef,
    *,
    decision: str,
    in_force: bool,
    time_ns: int,
    language: str | None = None,
) -> str:
    """A printable HTML sheet per work center, by unit and start; both languages when None."""
    languages = ("en", "zh") if language is None else (language,)
    parts = [_sheet(plant, plan, decision, in_force, time_ns, at) for at in languages]
    lang = languages[0]
    return (
        f'<!doctype html><html lang="{lang}"><head><meta charset="utf-8">'
        f"<title>{html.escape(_site(plant, lang))}</title><style>{_STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>"
    )


def _sheet(
    plant: Plant, plan: PlanRef, decision: str, in_force: bool, time_ns: int, language: str
) -> str:
    text = _TEXT[language]
    when = _clock(time_ns, plant.timezone, "%Y-%m-%d %H:%M")
    made = text["made"].format(plan=decision or plan.hash[:12], time=when, zone=plant.timezone)
    state = text["in_force" if in_force else "proposed"]
    out = [
        f'<div lang="{language}">',
        f"<h1>{html.escape(text['title'].format(site=_site(plant, language)))}</h1>",
        f"<p>{html.escape(made)}: <strong>{state}</strong></p>",
    ]
    for center in plant.work_centers:
        name = center.names.get(language, center.id)
        out.append(f"<section><h2>{html.escape(name)} ({html.escape(center.id)})</h2>")
        jobs = [p for p in plan.jobs if p.order.work_center == center.id]
        out.append(_table(jobs, plant, text) if jobs else f"<p>{text['empty']}</p>")
        out.append("</section>")
    return "".join([*out, "</div>"])


def _table(jobs: Sequence[Planned], plant: Plant, text: Mapping[str, str]) -> str:
    heads = ("unit", "start", "end", "job", "product", "program", "quantity", "requests")
    head = "".join(f'<th scope="col">{text[h]}</th>' for h in heads)
    rows = []
    for planned in jobs:
        order = planned.order
        cells = (
            order.equipment.rsplit("/", 1)[-1],
            _clock(order.start_ns, plant.timezone),
            _clock(order.end_ns, plant.timezone),
            order.id,
            order.product,
            order.program,
            str(order.quantity),
            ", ".join(f"{request} ({pieces})" for request, pieces in order.requests),
        )
        body = "".join(
            f'<td class="n">{html.escape(c)}</td>' if k == 6 else f"<td>{html.escape(c)}</td>"
            for k, c in enumerate(cells)
        )
        rows.append(f"<tr>{body}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _site(plant: Plant, language: str) -> str:
    return plant.names.get(language, plant.site)


def _clock(ns: int, zone: str, form: str = "%m-%d %H:%M") -> str:
    return datetime.fromtimestamp(ns // NS_PER_S, UTC).astimezone(ZoneInfo(zone)).strftime(form)


def _row(planned: Planned) -> dict[str, Any]:
    order = planned.order
    return {
        "id": order.id,
        "requests": [list(pair) for pair in order.requests],
        "work_center": order.work_center,
        "equipment": order.equipment,
        "product": order.product,
        "program": order.program,
        "quantity": order.quantity,
        "start_ns": order.start_ns,
        "end_ns": order.end_ns,
        "after": list(planned.after),
        "from_ns": planned.from_ns,
        "behind": list(planned.behind),
    }


def _planned(row: dict[str, Any]) -> Planned:
    values = {k: v for k, v in row.items() if k not in ("after", "from_ns", "behind")}
    values["requests"] = tuple((str(r), int(n)) for r, n in row["requests"])
    return Planned(
        order=JobOrder(**values),
        after=tuple(row["after"]),
        from_ns=int(row.get("from_ns", 0)),
        behind=tuple(row.get("behind", ())),
    )


def _replace(path: Path, text: str) -> None:
    """All or nothing: a reader sees the old file or the new one."""
    temporary = path.with_name(f".{path.name}.new")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
