"""The command ``brain``. Commands import their room when they run, so that ``--help`` is quick."""

import typer

from workshop_brain.cli import (
    backup,
    balance,
    collector,
    connect,
    curves,
    data,
    decisions,
    hidden,
    history,
    planning,
    publish,
    rejected,
    token,
    twin,
    up,
)

app = typer.Typer(
    name="brain",
    help="Runs a workshop from its own data: connect, know, decide, dispatch.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("up")(up.up)
app.command("connect")(connect.connect)
app.command("doctor")(up.doctor)
app.command("rejected")(rejected.rejected)
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.command("query")(history.query)
app.command("sql")(history.sql)
app.command("import")(data.import_files)
app.command("export")(data.export)
app.command("token")(token.token)
app.command("explain")(decisions.explain)
app.command("replay")(decisions.replay)
app.add_typer(collector.app, name="collector")
app.add_typer(curves.app, name="curves")
app.add_typer(publish.app, name="publish")
app.add_typer(decisions.ledger_app, name="ledger")
app.add_typer(twin.app, name="twin")
app.add_typer(planning.app, name="schedule")
app.add_typer(balance.app, name="balance")
app.add_typer(hidden.app, name="process", hidden=True)

__all__ = ["app"]
