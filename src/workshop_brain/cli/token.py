"""``brain token``: lets a program push samples."""

import re
import secrets
import time
from pathlib import Path
from typing import Annotated

import typer

from workshop_brain.cli.show import note, print_json
from workshop_brain.errors import ConfigError, StoreError


def token(
    name: Annotated[str, typer.Argument(help="Name of the program; its signals carry it.")],
    data: Annotated[Path, typer.Option(help="Data directory.")] = Path("data"),
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long the token is good.")] = 365,
    enterprise: Annotated[str, typer.Option(help="Enterprise of the plant file.")] = "local",
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Print a token with which a program may push samples, and do nothing else.

    Works while the brain runs. For example:

    curl -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" -d '[{"path":
    "works/press_1/force", "time": "2026-03-01T08:00:00Z", "value": 12.5}]'
    http://127.0.0.1:8600/api/v1/samples
    """
    from workshop_brain.store.records import Records, Role

    if not re.fullmatch(r"[\w.@+-]{1,64}", name):
        raise ConfigError(f"{name!r}: must be 1 to 64 letters, digits and . @ + - _")
    if not (data / "records.sqlite").exists():
        raise StoreError(f"--data {data}: no brain has run here; is it the right directory?")
    records = Records(data / "records.sqlite", enterprise=enterprise)
    try:
        user = records.user(name)
        if user is None:
            user = records.add_user(name, secrets.token_urlsafe(32), Role.PUSHER)
        if user.role is not Role.PUSHER:
            raise ConfigError(
                f"{name}: is a {user.role.value}; a token that may only push needs another name"
            )
        made = records.open_session(name, now_ns=time.time_ns(), ttl_s=days * 86_400)
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from error
    finally:
        records.close()
    note(f"{name} may push samples for {days} days; this is shown once")
    if json_:
        print_json({"name": name, "role": user.role.value, "days": days, "token": made})
    else:
        print(made)
