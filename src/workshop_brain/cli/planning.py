"""``brain schedule``: the engine on files, and files from and to other systems."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from workshop_brain.cli.readable import readable
from workshop_brain.cli.show import print_json
from workshop_brain.errors import ConfigError, InfeasibleError, OrderError

app = typer.Typer(help="The scheduling engine on files.", no_args_is_help=True)
FileArgument = Annotated[
    Path,
    typer.Argument(
        help=".fjs, jsp, sdst, fajsp, fsp, JSON (reactive, orders, PyJobShop), .xlsx, .csv or a "
        "folder of them, B2MML .xml"
    ),
]


MOST_SECONDS = (0.01, 86_400.0)
KNOWN = (
    ".fjs, .jsp, .sdst, .fajsp, .fsp, .txt in one of these forms, .json, .xlsx, .csv or a folder "
    "of them, or B2MML .xml"
)
"""What instances look like: whole numbers in lines, documents, or tables."""
NEVER_WRITTEN = ("machine", "overlap", "setup", "precedence")
"""Broken rules that no event explains; a running plan may exceed durations and limits."""
_TABLES = (".csv", ".tsv", ".xlsx", ".xlsm", ".xls")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error


def _read(path: Path) -> str:
    try:
        text = _bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: unknown format; known are {KNOWN}") from error
    return readable(path, text)


def _instance(path: Path) -> str:
    """Text of an instance; ConfigError when it can be none, whatever the name says."""
    if not path.is_dir():
        content = _bytes(path)
        start = content.lstrip(b"\xef\xbb\xbf \r\n\t\f\v")
        if not start:
            raise ConfigError(f"{path}: is empty")
        if start[:16].lower() == b"<number of tasks":
            raise ConfigError(f"{path}: is a line to balance; `brain balance solve` reads it")
        first = start.split(maxsplit=1)[0]
        if start[:1] == b"{" or _is_number(first):
            return _read(path)
        if not _is_table(path, content) and start[:1] != b"<":
            raise ConfigError(f"{path}: unknown format; known are {KNOWN}")
    document = _imported([path])
    for note in document["notes"]:
        typer.echo(note, err=True)
    return json.dumps(document)


def _is_table(path: Path, content: bytes) -> bool:
    from workshop_brain.schedule.exchange.tables import is_excel

    head = next((line for line in content.splitlines() if line.strip()), b"")
    has_columns = any(mark in head for mark in (b",", b";", b"\t", "，".encode()))
    return is_excel(content) or path.suffix.casefold() in _TABLES or has_columns


def _imported(paths: list[Path], timezone: str = "", start: str = "") -> dict[str, Any]:
    """The document of tables, a folder of them, a B2MML schedule or PyJobShop data."""
    from workshop_brain.schedule.exchange import (
        is_problem_data,
        orders_document,
        problem_data_document,
        schedule_document,
    )

    files: dict[str, bytes] = {}
    for path in paths:
        inside = (
            sorted(p for p in path.iterdir() if p.suffix.casefold() in _TABLES)
            if path.is_dir()
            else [path]
        )
        if not inside:
            raise ConfigError(f"{path}: has no {', '.join(_TABLES)} files in it")
        files |= {str(p): _bytes(p) for p in inside}
    name = paths[0].name
    for file, content in files.items():
        start_of = content.lstrip(b"\xef\xbb\xbf \r\n\t")[:1]
        if start_of in (b"<", b"{") and len(files) > 1:
            raise ConfigError(f"{file}: is no table; import it alone")
        if start_of == b"<":
            return schedule_document(content, file, timezone=timezone or "UTC", start=start)
        if start_of == b"{":
            readable(Path(file), content.decode("utf-8-sig", "replace"))
            try:
                data = json.loads(content)
            except ValueError as error:
                raise OrderError(f"{file}: is not valid JSON: {error}") from error
            if not is_problem_data(data):
                raise OrderError(f"{file}: is no PyJobShop problem data; solve reads it as it is")
            return problem_data_document(data, name)
    return orders_document(files, timezone=timezone, start=start, name=name)


def _plan(path: Path, text: str, name: str) -> str:
    """A plan as JSON text, whatever format it comes in."""
    content = _bytes(path)
    if content.lstrip(b"\xef\xbb\xbf \r\n\t")[:1] in (b"{", b"[", b""):
        return _read(path)
    from workshop_brain.schedule.exchange import read_plan
    from workshop_brain.schedule.run import read

    problem = read(text, name)
    return json.dumps(read_plan(problem, content, str(path)).to_json(problem))


def _is_number(word: bytes) -> bool:
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
    allow_unscheduled: Annotated[
        bool,
        typer.Option(
            "--allow-unscheduled", help="Leave out orders that cannot be done, and plan the rest."
        ),
    ] = False,
    keep_end: Annotated[
        bool,
        typer.Option(
            "--keep-end", help="Finish all no later than a foreman would, before due dates count."
        ),
    ] = False,
    json_: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Solve an instance; prints objective, bound, gap, curve and plan."""
    from workshop_brain.schedule.run import solve_file_text

    if not MOST_SECONDS[0] <= seconds <= MOST_SECONDS[1]:
        raise ConfigError(f"--seconds must be from 0.01 to 86400, got {seconds}")
    text = _instance(file)
    result = solve_file_text(
        text,
        name=str(file),
        seconds=seconds,
        workers=workers,
        seed=seed,
        may_leave=allow_unscheduled,
        keep_end=keep_end,
    )
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

    text = _instance(file)
    result = react_file_text(
        text,
        _plan(plan, text, str(file)),
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

    text = _instance(file)
    result = verify_file_text(text, _plan(plan, text, str(file)), name=str(file))
    print_json(result)
    if not result["feasible"]:
        first = result["violations"][0]
        raise InfeasibleError(
            f"{plan}: {len(result['violations'])} violations; the first: {first['kind']}: "
            f"{', '.join(first['ops'])} {first['detail']}"
        )


@app.command("import")
def import_(
    files: Annotated[
        list[Path],
        typer.Argument(help="CSV files, a folder of them, .xlsx, B2MML .xml or PyJobShop JSON."),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File, else stdout.")
    ] = None,
    timezone: Annotated[
        str, typer.Option(help="Of dates without a zone; else as the file says, else UTC.")
    ] = "",
    start: Annotated[
        str, typer.Option(help="Plan from this instant; else as the file says, or its first.")
    ] = "",
) -> None:
    """Read orders of other systems into one JSON document that solve takes."""
    from workshop_brain.schedule.exchange import orders_problem

    document = _imported(files, timezone, start)
    problem = orders_problem(document, str(document["name"]))
    for note in document["notes"]:
        typer.echo(note, err=True)
    typer.echo(
        f"{problem.n_jobs} orders, {problem.n_ops} operations, {problem.n_machines} machines, "
        f"from {document['origin'] or 0}",
        err=True,
    )
    _write(output, json.dumps(document, ensure_ascii=False, indent=1).encode())


@app.command()
def export(
    file: FileArgument,
    plan: Annotated[Path, typer.Argument(help="PLAN.json")],
    to: Annotated[str, typer.Option(help="csv, xlsx, b2mml or json.")] = "csv",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File, or for csv a folder; else stdout."),
    ] = None,
    language: Annotated[str, typer.Option("--lang", help="Headers: en or zh.")] = "en",
    timezone: Annotated[str, typer.Option(help="Of the times; else the file's own.")] = "",
) -> None:
    """Write a plan for other systems: operations, what runs where, and which orders are late."""
    from workshop_brain.schedule.exchange import write_plan
    from workshop_brain.schedule.run import read, read_plan, read_since
    from workshop_brain.schedule.verify import verify as violations_of

    text = _instance(file)
    plan_text = _plan(plan, text, str(file))
    problem, _ = read_since(read(text, str(file)), plan_text)
    found = read_plan(problem, plan_text)
    for violation in violations_of(problem, found):
        if violation.kind in NEVER_WRITTEN:
            raise InfeasibleError(
                f"{plan}: {violation.kind}: {', '.join(violation.ops)} {violation.detail}; such a "
                "plan cannot be carried out and is not written"
            )
    _say_unscheduled(plan_text, language)
    if not timezone and text.lstrip().startswith("{"):
        timezone = str(json.loads(text).get("timezone") or "")
    written = write_plan(problem, found, to, language=language, timezone=timezone or "UTC")
    if len(written) == 1 or output is None:
        _write(output, next(iter(written.values())))
        return
    try:
        output.mkdir(exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--output {output}: no folder can be made: {error.strerror}") from error
    for name, content in written.items():
        _write(output / name, content)


def _say_unscheduled(plan_text: str, language: str) -> None:
    """What a plan lists as left out, with its reasons, beside the tables that cannot hold them."""
    body = json.loads(plan_text)
    rows = body.get("unscheduled") if isinstance(body, dict) else None
    for row in rows if isinstance(rows, list) else []:
        why = row.get("why") if isinstance(row, dict) else None
        if isinstance(why, dict) and why.get(language):
            typer.echo(f"{why[language]}", err=True)


def _write(output: Path | None, content: bytes) -> None:
    if output is None:
        typer.echo(content, nl=False)
        return
    try:
        output.write_bytes(content)
    except OSError as error:
        raise ConfigError(f"--output {output}: cannot be written: {error.strerror}") from error
