"""The demo control: what it accepts, what it refuses, and what its page says."""

import re
from importlib import resources
from typing import Any

import httpx
import pytest

from workshop_brain.config import built_in
from workshop_brain.errors import SourceError
from workshop_brain.twin.commands import (
    BreakUnit,
    Command,
    OperatorAbsent,
    QualityStop,
    RepairUnit,
)
from workshop_brain.twin.control import ControlSurface, control_app, post
from workshop_brain.twin.devices import plant_devices
from workshop_brain.twin.journal import FASTEST

SOFT3 = "local/works/gears/soft/c1/soft3"


class Desk:
    """A control surface that notes what it is asked."""

    def __init__(self, refusal: str = "") -> None:
        self.commands: list[Command] = []
        self.speeds: list[float] = []
        self.refusal = refusal
        surface = ControlSurface(
            devices=plant_devices(built_in().plant),
            apply=self.apply,
            status=lambda: {"plant_ms": 1.0},
            set_speed=self.speeds.append,
        )
        self.app = control_app(surface)

    async def apply(self, command: Command) -> str:
        self.commands.append(command)
        return self.refusal

    async def ask(self, method: str, path: str, **rest: Any) -> httpx.Response:
        transport = httpx.ASGITransport(app=self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.request(method, path, **rest)


@pytest.mark.parametrize(
    ("path", "body", "command"),
    [
        ("/break", {"unit": "soft3", "minutes": 5}, BreakUnit(SOFT3, 300.0)),
        ("/break", {"unit": SOFT3}, BreakUnit(SOFT3, 1800.0)),
        ("/repair", {"unit": "works/gears/soft/c1/soft3"}, RepairUnit(SOFT3)),
        ("/quality", {"unit": "soft3", "minutes": 1.5}, QualityStop(SOFT3, 90.0)),
        ("/absent", {"unit": "soft3", "minutes": 2}, OperatorAbsent(SOFT3, 120.0)),
    ],
)
async def test_buttons_become_commands(path: str, body: dict[str, Any], command: Command) -> None:
    desk = Desk()
    answer = await desk.ask("POST", path, json=body)
    assert answer.status_code == 200
    assert answer.json() == {"ok": True, "unit": SOFT3}
    assert desk.commands == [command]


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("/break", {"unit": "soft99"}, "soft99"),
        ("/break", {"unit": "soft3", "minutes": -1}, "minutes"),
        ("/break", {"unit": "soft3", "minutes": "5"}, "minutes"),
        ("/break", {"unit": "soft3", "minutes": True}, "minutes"),
        ("/speed", {"factor": 0}, "factor"),
        ("/speed", {"factor": "fast"}, "factor"),
        ("/speed", {}, "factor"),
        ("/break", [1], "object"),
    ],
)
async def test_wrong_requests_are_named_and_do_nothing(path: str, body: Any, named: str) -> None:
    desk = Desk()
    answer = await desk.ask("POST", path, json=body)
    assert answer.status_code == 400
    assert named in answer.json()["error"]
    assert not desk.commands
    assert not desk.speeds


async def test_speed_is_set() -> None:
    desk = Desk()
    answer = await desk.ask("POST", "/speed", json={"factor": 20})
    assert answer.json() == {"ok": True, "speed": 20.0}
    assert desk.speeds == [20.0]
    answer = await desk.ask("POST", "/speed", json={"factor": "max"})
    assert answer.json() == {"ok": True, "speed": "max"}
    assert desk.speeds == [20.0, FASTEST]


async def test_a_refusal_of_the_plant_is_told() -> None:
    answer = await Desk("the unit is broken already").ask("POST", "/break", json={"unit": "soft3"})
    assert answer.status_code == 400
    assert answer.json()["error"] == "the unit is broken already"


async def test_foreign_pages_and_hosts_cannot_press_the_buttons() -> None:
    desk = Desk()
    form = await desk.ask("POST", "/break", data={"unit": "soft3"})
    assert form.status_code == 400
    other = await desk.ask("POST", "/break", json={"unit": "soft3"}, headers={"Host": "evil.test"})
    assert other.status_code == 400
    assert not desk.commands


async def test_the_page_is_one_piece_in_two_languages() -> None:
    answer = await Desk().ask("GET", "/")
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    text = resources.files("workshop_brain.twin").joinpath("control.html").read_text("utf-8")
    assert answer.text == text
    assert not re.search(r'(src|href)="', text)
    keys = set(re.findall(r'data-t="(\w+)"', text))
    for language in ("en", "zh"):
        table = text.split(f"{language}: {{ title:")[1].split("reasons:")[0]
        assert keys <= {"title", *re.findall(r"(\w+): \"", table)}


def test_a_missing_plant_is_named() -> None:
    with pytest.raises(SourceError, match=r"no simulated plant answers at http://127\.0\.0\.1:9/"):
        post(9, "/break", {"unit": "soft3"})
