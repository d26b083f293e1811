"""``brain explain``, ``brain replay``, ``brain ledger``: decisions and their record."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from workshop_brain.cli.show import note, print_json
from workshop_brain.errors import ConfigError, LedgerError

DataOption = Annotated[Path, typer.Option(help="Data directory.")]
DecisionArgument = Annotated[str, typer.Argument(help="Decision id, or 'last'.")]
ledger_app = typer.Typer(help="The decision ledger.", no_args_is_help=True)


def explain(
    decision: DecisionArgument,
    data: DataOption = Path("data"),
    language: Annotated[str, typer.Option(help="en or zh")] = "en",
    json_: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Say what a decision saw, what it could have done, what it chose and why."""
    if language not in ("en", "zh"):
        raise ConfigError(f"--language {language!r}: en or zh")
    from workshop_brain.app.ledger_view import find_decision
    from workshop_brain.cli.tables import decision_text

    record = find_decision(data, decision)
    if json_:
        print_json(record)
    else:
        print(decision_text(record, language))


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
        for row in outcome["comparison"]:
            mark = "same     " if row["same"] else "DIFFERENT"
            print(f"{mark} {row['what']}: recomputed {row['recomputed']}, ledger {row['recorded']}")
    if not outcome["same"]:
        raise LedgerError(f"decision {outcome['id']}: the recomputed decision differs")


@ledger_app.command()
def verify(data: DataOption = Path("data")) -> None:
    """Check the whole chain: every entry's hash, order, and the stored inputs."""
    from workshop_brain.app.ledger_view import open_ledger

    problems = open_ledger(data).verify()
    for problem in problems:
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
