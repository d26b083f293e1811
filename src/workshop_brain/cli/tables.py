"""Results as tables and texts for the terminal."""

from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from workshop_brain.units import NS_PER_S
from workshop_brain.web.messages import render


def experiment_table(result: dict[str, Any]) -> None:
    """Policies side by side, a figure a row: mean and half width of the 95 % interval."""
    summary: dict[str, Any] = result["summary"]
    seeds = ", ".join(str(s) for s in result["seeds"])
    table = Table(
        title=f"{result['scenario']}: {result['days']} days, seeds {seeds}, "
        f"{result['iterations_per_event']} iterations per event (brain)"
    )
    table.add_column("figure")
    for name in summary:
        table.add_column(name, justify="right")
    for figure in next(iter(summary.values())):
        table.add_row(figure, *(_interval(own[figure]) for own in summary.values()))
    for figure in next(iter(result["paired"].values()), {}):
        rows = (_interval(result["paired"][name].get(figure, {})) for name in summary)
        table.add_row(f"{figure}, against the foreman", *rows)
    Console().print(table)


def _interval(value: dict[str, Any]) -> str:
    mean, half = value.get("mean"), value.get("ci95")
    if mean is None:
        return "-"
    return f"{mean:,.2f}" if half is None else f"{mean:,.2f} ± {half:,.2f}"


def decision_text(body: dict[str, Any], language: str) -> str:
    """A decision in words: when, what triggered it, candidates, reasons, effect, what followed."""
    when = datetime.fromtimestamp(body["time_ns"] / NS_PER_S, UTC).isoformat(timespec="seconds")
    lines = [f"{body['id']}  {body['decision_class']}  {body['line']}  {when}  {body['state']}"]
    lines.append(f"  trigger: {body['trigger']}")
    for i, candidate in enumerate(body["candidates"]):
        mark = "*" if i == body["chosen"] else " "
        kpis = ", ".join(f"{k} {v:,.1f}" for k, v in candidate["kpis"].items())
        value = f"{candidate['objective']:,.1f}"
        lines.append(f"  {mark} {candidate['name']}: objective {value}; {kpis}")
    lines += [f"  - {render(r['id'], r['params'], language)}" for r in body["reasons"]]
    lines.append(f"  moved operations: {len(body['changes'])}; effect: {body['effect']}")
    for row in body.get("followed", []):
        left_out = {"kind", "wall_ns", "decision", "job_order"}
        rest = {k: v for k, v in row.items() if k not in left_out}
        lines.append(f"  {row['kind']}: {rest}")
    return "\n".join(lines)
