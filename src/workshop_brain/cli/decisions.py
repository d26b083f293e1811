"""``brain explain``, ``brain replay``, ``brain ledger``: decisions and their record."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from workshop_brain.cli.show import PlantOption, note, plant_zone, print_json
from workshop_brain.errors import ConfigError, LedgerError

DataOption = Annotated[Path, typer.Option(help="Data directory.")]
DecisionArgument = Annotated[str, typer.Argument(help="Decision id, or 'last'.")]
ledger_app = typer.Typer(help="The decision ledger.", no_args_is_help=True)


def explain(
    decision: DecisionArgument,
    data: DataOption = Path("data"),
    plant: PlantOption = None,
    language: Annotated[str, typer.Option(help="en or zh")] = "en",
    json_: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Say what a decision saw, what it could have done, what it chose and why."""
    if language not in ("en", "zh"):
        raise ConfigError(f"--language {language!r}: en or zh")
    from workshop_brain.app.ledger_view import find_decision
    from workshop_brain.cli.report import report

    record = find_decision(data, decision)
    if json_:
        print_json(record)
    else:
        answers = _answers(data, record)
        print(report(record, answers, language=language, zone=plant_zone(plant)))


def _answers(data: Path, record: dict[str, Any]) -> list[dict[str, Any]]:
    """What came back of a decision's commands: those entries name the job alone."""
    from workshop_brain.app.ledger_view import open_ledger

    jobs = {row["job"] for row in record["followed"] if row["kind"] == "command"}
    if not jobs:
        return []
    return [
        {"kind": entry.kind, **entry.body}
        for entry in open_ledger(data).entries()
        if entry.kind in ("confirmation", "outcome") and entry.body.get("job") in jobs
    ]


def replay(
    decision: DecisionArgument,
    data: DataOption = Path("data"),
    json_: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Compute a decision anew from its stored inputs and compare it with the ledger."""
    from workshop_brain.app.ledger_view import replay_decision

    outcome = replay_decision(data, decision)
    if json_:
        print_json(outcome)
    else:
        _print_comparison(outcome["comparison"])
    if not outcome["same"]:
        raise LedgerError(f"decision {outcome['id']}: the recomputed decision differs")


def _print_comparison(rows: list[dict[str, Any]]) -> None:
    different = [row for row in rows if not row["same"]]
    for row in rows:
        print(f"{'same     ' if row['same'] else 'DIFFERENT'} {row['what']}")
        if not row["same"]:
            for part, recorded, recomputed in _parts(row["recorded"], row["recomputed"]):
                print(
                    f"            {part}ledger {_short(recorded)}, recomputed {_short(recomputed)}"
                )
    if different:
        print("DIFFERENT: " + ", ".join(row["what"] for row in different))
    else:
        print(f"same: {len(rows)} of {len(rows)}")


def _parts(recorded: Any, recomputed: Any) -> list[tuple[str, Any, Any]]:
    """Where two values differ: the keys of two dictionaries, else the values themselves."""
    if not isinstance(recorded, dict) or not isinstance(recomputed, dict):
        return [("", recorded, recomputed)]
    keys = sorted(recorded.keys() | recomputed.keys())
    pairs = [(f"{key}: ", recorded.get(key), recomputed.get(key)) for key in keys]
    return [pair for pair in pairs if pair[1] != pair[2]]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


@ledger_app.command()
def verify(
    data: DataOption = Path("data"),
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Check the whole chain: every entry's hash, order, and the stored inputs."""
    from workshop_brain.app.ledger_view import open_ledger

    problems = open_ledger(data).verify()
    if json_:
        print_json({"whole": not problems, "problems": [asdict(p) for p in problems]})
    for problem in [] if json_ else problems:
        print(f"line {problem.line}: {problem.text}" if problem.line else problem.text)
    if problems:
        raise LedgerError(f"{data / 'ledger'}: {len(problems)} problems found")
    note("The ledger is whole.")


@ledger_app.command("show")
def show(
    data: DataOption = Path("data"),
    last: Annotated[int, typer.Option(help="How many entries.")] = 20,
) -> None:
    """Print the last entries as JSON."""
    from workshop_brain.app.ledger_view import open_ledger

    print_json([asdict(entry) for entry in open_ledger(data).entries()][-last:])
