"""Results as tables for the terminal."""

from typing import Any

from rich.console import Console
from rich.table import Table


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
