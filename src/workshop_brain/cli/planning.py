"""``brain schedule``: the engine on files."""

from pathlib import Path
from typing import Annotated

import typer

from workshop_brain.cli.show import print_json
from workshop_brain.errors import ConfigError, InfeasibleError

app = typer.Typer(help="The scheduling engine on files.", no_args_is_help=True)
FileArgument = Annotated[Path, typer.Argument(help=".fjs, jsp, sdst, fajsp, fsp or reactive JSON")]


MOST_SECONDS = (0.01, 86_400.0)
KNOWN = ".fjs, .jsp, .sdst, .fajsp, .fsp, .txt in one of these forms, or .json"
"""What instances look like: whole numbers in lines, or a JSON document."""


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: unknown format; known are {KNOWN}") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error


def _instance(path: Path) -> str:
    """Text of an instance; ConfigError when it can be none, whatever the name says."""
    text = _read(path)
    if not text.strip():
        raise ConfigError(f"{path}: is empty")
    first = text.split(maxsplit=1)[:1]
    if not text.lstrip().startswith("{") and not _is_number(first[0] if first else ""):
        raise ConfigError(f"{path}: unknown format; known are {KNOWN}")
    return text


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


@app.command()
def solve(
    file: FileArgument,
    seconds: Annotated[float, typer.Option(help="Time in all, 0.01 to 86400.")] = 5.0,
    workers: Annotated[int, typer.Option(help="Threads.", min=1, max=64)] = 2,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1)] = 1,
    json_: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Solve an instance; prints objective, bound, gap, curve and plan."""
    from workshop_brain.schedule.run import solve_file_text

    if not MOST_SECONDS[0] <= seconds <= MOST_SECONDS[1]:
        raise ConfigError(f"--seconds must be from 0.01 to 86400, got {seconds}")
    text = _instance(file)
    result = solve_file_text(text, name=str(file), seconds=seconds, workers=workers, seed=seed)
    if not json_:
        result = {k: v for k, v in result.items() if k not in {"plan", "history"}}
    print_json(result)


@app.command()
def react(
    file: FileArgument,
    plan: Annotated[Path, typer.Option(help="PLAN.json of the running plan.")],
    event: Annotated[Path, typer.Option(help="EVENT.json: what happened.")],
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1)] = 1,
    deadline_ms: Annotated[
        float, typer.Option(help="Time to answer in; less tries fewer candidates.", min=0.1)
    ] = 10.0,
    json_: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Repair a running plan after an event."""
    from workshop_brain.schedule.run import react_file_text

    result = react_file_text(
        _instance(file),
        _read(plan),
        _read(event),
        name=str(file),
        seed=seed,
        deadline_ms=deadline_ms,
    )
    if not json_:
        result = {k: v for k, v in result.items() if k not in {"plan", "diff"}}
    print_json(result)


@app.command()
def verify(file: FileArgument, plan: Annotated[Path, typer.Argument(help="PLAN.json")]) -> None:
    """Check a plan with the independent checker."""
    from workshop_brain.schedule.run import verify_file_text

    result = verify_file_text(_instance(file), _read(plan), name=str(file))
    print_json(result)
    if not result["feasible"]:
        first = result["violations"][0]
        raise InfeasibleError(
            f"{plan}: {len(result['violations'])} violations; the first: {first['kind']}: "
            f"{', '.join(first['ops'])} {first['detail']}"
        )
