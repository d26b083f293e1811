"""Results as tables and texts for the terminal."""

from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from workshop_brain.units import NS_PER_S
from workshop_brain.web.messages import render


def experiment_table(result: dict[str, Any]) -> None:
    """Policies side by side, one column a figure: mean and half-width of the 95 % interval."""
    console = Console()
    policies: dict[str, Any] = result["policies"]
    figures = list(next(iter(policies.values()))["mean"])
    table = Table(title=f"{result['scenario']}: {result['days']} days, seeds {result['seeds']}")
    table.add_column("figure")
    for name in policies:
        table.add_column(name, justify="right")
    for figure in figures:
        cells = [_interval(p["mean"].get(figure), p["ci95"].get(figure)) for p in policies.values()]
        table.add_row(figure, *cells)
    console.print(table)


def _interval(mean: Any, half: Any) -> str:
    if mean is None:
        return "-"
    return f"{mean:,.1f}" if half is None else f"{mean:,.1f} ± {half:,.1f}"


def decision_text(body: dict[str, Any], language: str) -> str:
    """A decision in words: when, what triggered it, candidates, reasons, effect, what followed."""
    when = datetime.fromtimestamp(body["time_ns"] / NS_PER_S, UTC).isoformat(timespec="seconds")
    lines = [f"{body['id']}  {body['decision_class']}  {body['line']}  {when}  {body['state']}"]
    lines.append(f"  trigger: {body['trigger']}")
    for i, candidate in enumerate(body["candidates"]):
        mark = "*" if i == body["chosen"] else " "
        kpis = ", ".join(f"{k} {v:,.1f}" for k, v in candidate["kpis"].items())
        lines.append(f"  {mark} {candidate['name']}: objective {candidate['objective']:,.1f}; {kpis}")
    lines += [f"  - {render(r['id'], r['params'], language)}" for r in body["reasons"]]
    lines.append(f"  moved operations: {len(body['changes'])}; effect: {body['effect']}")
    for row in body.get("followed", []):
        rest = {k: v for k, v in row.items() if k not in {"kind", "wall_ns", "decision", "job_order"}}
        lines.append(f"  {row['kind']}: {rest}")
    return "\n".join(lines)
