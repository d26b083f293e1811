"""A wrong plant.toml is named with its place and value; a right one is understood."""

import contextlib
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from workshop_brain import config
from workshop_brain.cli.up import check_sources
from workshop_brain.errors import ConfigError
from workshop_brain.model.signal import SignalKind

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "connect-opcua.md"


def example() -> str:
    """The plant.toml of the how-to, as a user copies it."""
    found = re.search(r"```toml\n(.*?)```", HOW_TO.read_text("utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


CALENDAR = '[[calendar]]\nid = "day"\nwindows = [{ days = [0], from = 0, to = 60 }]\n[[product]]'
SETUP = "setup_min = [[0, 30], [20, 0]]"
UNITS = 'units = [ { id = "mill1" }'
STEP = "seconds = 95 }"
URL = 'url = "opc.tcp://10.0.0.5:4840"\nroot'
PROTOCOL = 'protocol = "opcua"\nurl = "opc.tcp://10.0.0.5:4840"\nroot = "Machines"'
JOB_ORDER = 'way = "job_order"                  # job_order | handshake | work_list | dry_run\nurl'
MQTT = 'protocol = "sparkplug"\nurl = "{}"'
SOURCE2 = '[[source]]\nid = "plc"\nprotocol = "sparkplug"\n[[dispatch]]'
MILL2 = '[[work_center]]\nid = "mill"\narea = "b"\nunits = [{ id = "m" }]\n[[product]]'
OTHER_MILL1 = (
    '[[work_center]]\nid = "lathe"\narea = "b"\n'
    'units = [{ id = "l", path = "local/works/machining/mill/c1/mill1" }]\n[[product]]'
)
BRACKET2 = (
    '[[product]]\nid = "bracket"\nrouting = [{ work_center = "mill", family = "alu", seconds = 9 }]'
    "\n[[source]]"
)
DISPATCH2 = '[[dispatch]]\nwork_center = "mill"\n[autonomy]'

# what stands in the how-to's example, what the user made of it, what the message must say
MACHINING = 'kind = "machining"'
FLOW = 'kind = "line"\nflow = [{}]\n#'
LINE = "flow = [{}]\n" + SETUP
WRONG = [
    # shapes and types
    (SETUP, "setup_min = 5", "work_center[0].setup_min: must be a list, got 5"),
    (SETUP, 'setup_min = [[0, "x"], [20, 0]]', "work_center[0].setup_min[0][1]: must be a number"),
    (SETUP, "setup_min = [[0, 30]]", "work_center[0].setup_min: must be 2 x 2"),
    (SETUP, "setup_min = [0, 30]", "work_center[0].setup_min: must be 2 x 2"),
    (SETUP, "setup_min = [[0, -3], [2, 0]]", "work_center[0].setup_min[0][1]: must be >= 0"),
    (SETUP, "setup_min = [[0, nan], [2, 0]]", "work_center[0].setup_min[0][1]: must be >= 0"),
    ("[[work_center]]", "[work_center]", "work_center: must be a list of tables, [[work_center]]"),
    ("[[product]]", "[product]", "product: must be a list of tables, [[product]]"),
    ("[[source]]", "[source]", "source: must be a list of tables, [[source]]"),
    ("[[dispatch]]", "[dispatch]", "dispatch: must be a list of tables, [[dispatch]]"),
    ("[plant]", "[[plant]]", "plant: must be a table, got [{"),
    ("[plant]", "calendar = 3\n[plant]", "calendar: must be a list of tables, got 3"),
    (UNITS, 'units = [ "mill1"', "work_center[0].units[0]: must be a table, got 'mill1'"),
    (UNITS, 'units = [ { id = "m", speed = "fast" }', "units[0].speed: must be a number, got 'fas"),
    (UNITS, 'units = [ { id = "m", speed = 0 }', "work_center[0].units[0].speed: must be > 0"),
    (UNITS, 'units = [ { id = "m", speed = inf }', "work_center[0].units[0].speed: must be > 0"),
    (UNITS, 'units = [ { id = "m", operators = "x" }', "units[0].operators: must be a whole numb"),
    (UNITS, 'units = [ { id = "m", operators = -1 }', "units[0].operators: must be >= 0"),
    (SETUP, 'capacity = "many"', "work_center[0].capacity: must be a whole number, got 'many'"),
    (SETUP, "transport_s = 1.5", "work_center[0].transport_s: must be a whole number, got 1.5"),
    (SETUP, "transit_s = true", "work_center[0].transit_s: must be a whole number, got True"),
    ('kind = "machining"', 'kind = "batch"', "work_center[0].capacity: a batch work center needs"),
    ('kind = "machining"', 'kind = "robot"', "work_center[0].kind: must be machining, batch or"),
    ('["steel", "alu"]', '"steel"', "work_center[0].families: must be a list, got 'steel'"),
    ('["steel", "alu"]', "[1, 2]", "work_center[0].families[0]: must be a text in quotes, got 1"),
    (STEP, 'seconds = "95" }', "product[0].routing[0].seconds: must be a number, got '95'"),
    (STEP, "seconds = 0 }", "product[0].routing[0].seconds: must be > 0"),
    ('site = "works"', "site = 7", "plant.site: must be a text in quotes, got 7"),
    ('site = "works"', 'site = "a/b"', "plant.site: must be a name without '/'"),
    ('site = "works"', "names = { en = 1 }", "plant.names.en: must be a text in quotes, got 1"),
    # time
    ("Europe/Berlin", "Europe/Berln", "plant.timezone: no time zone 'Europe/Berln'; a name li"),
    ("Europe/Berlin", "Europe", "plant.timezone: no time zone 'Europe'"),
    ("[[product]]", CALENDAR.replace("[0]", '["mon"]'), "calendar[0].windows[0].days: must be"),
    ("[[product]]", CALENDAR.replace("[0]", "[]"), "calendar[0].windows[0].days: must be"),
    ("[[product]]", CALENDAR.replace("60", "2400"), "calendar[0].windows[0]: from and to must be"),
    # the same id twice
    ('id = "mill2"', 'id = "mill1"', "work_center[0].units[1].id: 'mill1' is taken by work_cent"),
    ("[[product]]", MILL2, "work_center[1].id: 'mill' is taken by work_center[0]"),
    ("[[product]]", OTHER_MILL1, "work_center[1].units[0].path: 'local/works/machining/mill/c1/"),
    ("[[source]]", BRACKET2, "product[1].id: 'bracket' is taken by product[0]"),
    ("[[dispatch]]", SOURCE2, "source[1].id: 'plc' is taken by source[0]"),
    ("[autonomy]", DISPATCH2, "dispatch[1].work_center: 'mill' is taken by dispatch[0]"),
    # sources
    (URL, 'url = "10.0.0.5:4840"\nroot', "source[0].url: must be opc.tcp://host:port, got '10.0."),
    (URL, 'url = "http://10.0.0.5"\nroot', "source[0].url: must be opc.tcp://host:port"),
    (URL, 'url = "opc.tcp://h:port"\nroot', "source[0].url: must be opc.tcp://host:port"),
    (URL, 'url = ""\nroot', "source[0].url: must be opc.tcp://host:port, got ''"),
    (URL, "root", "source[0].url is missing"),
    (PROTOCOL, MQTT.format("broker:1883"), "source[0].publishing_ms: unknown key; known are"),
    ('protocol = "opcua"', 'protocol = "opcu"', "source[0].protocol: no protocol 'opcu'; did you"),
    ("publishing_ms = 100", "publishing_ms = -5", "source[0].publishing_ms: must be > 0 and at mo"),
    ("publishing_ms = 100", "sampling_ms = 0", "source[0].sampling_ms: must be > 0"),
    ("queue_s = 60", "queue_s = 0", "source[0].queue_s: must be > 0"),
    ('id = "plc"', 'id = "../plc"', "source[0].id: must be a name without '/'"),
    # ways out
    ('way = "job_order"', 'way = "worklist"', "dispatch[0].way: no way 'worklist'; did you mean"),
    ('receiver = "Machines/JobOrderControl"', "", "dispatch[0].receiver is missing; way 'job_ord"),
    ('receiver = "Machines/JobOrderControl"', "timeout_s = -1", "dispatch[0].timeout_s: must be"),
    (JOB_ORDER, 'way = "handshake"\nurl = ""\n# ', "dispatch[0].url is missing; way 'handshake'"),
    (JOB_ORDER, 'way = "job_order"\nurl = "plc:4840"\n# ', "dispatch[0].url: must be opc.tcp://"),
    ('work_center = "mill"\nway', 'work_center = "mil"\nway', "dispatch[0].work_center: no work"),
    # autonomy
    ('plan = "advise"', 'plan = "advice"', "autonomy.default.plan: must be one of observe, advise"),
    ('plan = "advise"', 'plam = "advise"', "autonomy.default.plam: unknown key; did you mean 'p"),
    ("[autonomy]", '[autonomy]\nveto_s = "a"', "autonomy.veto_s: must be a whole number, got 'a'"),
    ("[autonomy]", "[autonomy]\nveto_s = 0", "autonomy.veto_s: must be > 0"),
    ("[autonomy]", "[autonomy]\nline = 3", "autonomy.line: must be a table, got 3"),
    ("[autonomy]", "[autonomy]\nline = { mill = 3 }", "autonomy.line.mill: must be a table, got 3"),
    ("[autonomy]", "[autonomy]\nline = { mil = {} }", "autonomy.line.mil: no work center 'mil'; d"),
    ("[autonomy]", "[envelope]\nfrozen_min = -1\n[autonomy]", "envelope.frozen_min: must be >= 0"),
    ("[autonomy]", '[envelope]\nreceivers = "a"\n[autonomy]', "envelope.receivers: must be a list"),
    # unknown keys and names
    ("[plant]", "[plants]\n[plant]", "plants: unknown table; did you mean 'plant'?"),
    ("timezone =", "timezoen =", "plant.timezoen: unknown key; did you mean 'timezone'? known"),
    ("families = [\"steel\"", "familes = [\"steel\"", "work_center[0].familes: unknown key; did y"),
    (UNITS, 'units = [ { id = "m", spead = 1 }', "units[0].spead: unknown key; did you mean 's"),
    ('id = "bracket"', 'id = "bracket"\nrouts = 1', "product[0].routs: unknown key; did you mean"),
    (STEP, "seconds = 95, afer = [] }", "routing[0].afer: unknown key; did you mean 'after'"),
    ("[[product]]", CALENDAR.replace("windows", "windws"), "calendar[0].windws: unknown key; did"),
    ("[[product]]", CALENDAR.replace("to =", "til ="), "calendar[0].windows[0].til: unknown key"),
    ("queue_s = 60", "queues = 60", "source[0].queues: unknown key; did you mean 'queue_s'"),
    ("receiver =", "reciever =", "dispatch[0].reciever: unknown key; did you mean 'receiver'"),
    ("[autonomy]", "[autonomy]\nvetos = 1", "autonomy.vetos: unknown key; did you mean 'veto_s'"),
    ("[autonomy]", "[envelope]\nfrozen = 1\n[autonomy]", "envelope.frozen: unknown key; did you m"),
    ('families = ["alu"]', 'families = ["al"]', "units[1].families: no family 'al'; did you mean"),
    ('family = "alu"', 'family = "al"', "routing[0].family: no family 'al'; did you mean 'alu'"),
    (SETUP, 'calendar = "alway"', "work_center[0].calendar: no calendar 'alway'; did you mean 'al"),
    # flow of a line
    (SETUP, LINE.format('["a1..a3", "b"], ["c1..c2", "a2"]'), "flow: only a work center of kind"),
    (MACHINING, FLOW.format('"a1..a3"'), "flow[0]: must be a list of texts like 'st01..st10'"),
    (MACHINING, FLOW.format('["a1..b3"]'), "flow[0]: must be an id, or a run like 'st01..st10'"),
    (MACHINING, FLOW.format('["a3..a1"]'), "flow[0]: 'a3..a1' must count up"),
    (MACHINING, FLOW.format('["a1"]'), "flow[0]: needs at least two places"),
    (MACHINING, FLOW.format('["a1..a3", "a2"]'), "flow[0]: 'a2' stands in "),
    (MACHINING, FLOW.format('["a1..a3"], ["a2", "b1"]'), "flow[1]: 'a2' stands in "),
    # what can be written and cannot be meant
    ('id = "mill"', f'id = "{"m" * 300}"', "work_center[0].id: must have at most 100 characters"),
    ('id = "mill"', r'id = "mi\u0000ll"', "work_center[0].id: must not have control characters; t"),
    ('id = "mill"', r'id = "mi\nll"', r"work_center[0].id: must not have control characters; take"),
    ('id = "mill"', 'id = "mill "', "work_center[0].id: must be a name without '/', outer spaces"),
    ('id = "mill1"', 'id = "m/1"', "work_center[0].units[0].id: must be a name without '/'"),
    ('id = "mill1"', 'id = "m", path = "a//b"', "units[0].path: must be names with '/' between"),
    ('id = "mill1"', 'id = "m", path = ""', "units[0].path: must be names with '/' between them"),
    ('id = "bracket"', 'id = "b\\tb"', "product[0].id: must not have control characters"),
    ('id = "bracket"', f'id = "{"b" * 300}"', "product[0].id: must have at most 100 characters"),
    ('["steel", "alu"]', '["steel", ""]', "work_center[0].families[1]: is empty"),
    ('site = "works"', r'site = "a\nb"', "plant.site: must not have control characters"),
    ("[[product]]", CALENDAR.replace("}]", "}, { days = [1, 0], from = 59, to = 90 }]"),
     "calendar[0].windows[1]: 59..90 overlaps 0..60 on day 0"),
    ("[[product]]", CALENDAR.replace("[0]", "[0, 0]"), "calendar[0].windows[0]: 0..60 overlaps 0."),
    ("[[product]]", '[[calendar]]\nid = "d"\nwindows = []\n[[product]]', "calendar[0].windows: is"),
    ('{ id = "mill1" }, { id = "mill2", families = ["alu"] }', '{ id = "m", families = ["steel"] }',
     "routing[0].family: no unit of 'mill' makes 'alu'; add it to a unit's families"),
    (STEP, "seconds = 1e300 }", "routing[0].seconds: must be > 0 and at most 10000000, got 1e+300"),
    (STEP, "seconds = 1e-300 }", "routing[0].seconds: must be at least 0.001, got 1e-300"),
    (STEP, "seconds = inf }", "routing[0].seconds: must be > 0 and at most 10000000, got inf"),
    (UNITS, 'units = [ { id = "m", speed = nan }', "units[0].speed: must be > 0 and at most 100, "),
    (UNITS, 'units = [ { id = "m", speed = 1e8 }', "units[0].speed: must be > 0 and at most 100, "),
    (UNITS, 'units = [ { id = "m", speed = 1e-9 }', "units[0].speed: must be at least 0.01, got 1"),
    (SETUP, "setup_min = [[0, 1e7], [1, 0]]", "setup_min[0][1]: must be >= 0 and at most 100000, "),
    ("queue_s = 60", "queue_s = 999999999", "source[0].queue_s: must be > 0 and at most 604800"),
    ("[autonomy]", "[autonomy]\nveto_s = 999999999", "autonomy.veto_s: must be > 0 and at most 60"),
    ("queue_s = 60", 'security = "Basic257"', "source[0].security: no security 'Basic257'; known "),
    ("queue_s = 60", 'security = "auto,Sing"', "source[0].security: no security 'auto,Sing'; know"),
    ("queue_s = 60", 'security = ""', "source[0].security: no security ''; known are none, auto"),
    # what is missing
    ('id = "mill"', "", "work_center[0].id is missing"),
    ('id = "mill1"', "", "work_center[0].units[0].id is missing"),
    ('id = "bracket"', "", "product[0].id is missing"),
    ('id = "plc"', "", "source[0].id is missing"),
    ('area = "machining"', "", "work_center[0].area is missing"),
    (", " + STEP, " }", "product[0].routing[0].seconds is missing"),
    ('work_center = "mill"\nway', "way", "dispatch[0].work_center is missing"),
]  # fmt: skip


@pytest.mark.parametrize(("right", "wrong", "message"), WRONG)
def test_a_wrong_key_or_value_is_named_with_its_place(right: str, wrong: str, message: str) -> None:
    text = example()
    assert right in text
    with pytest.raises(ConfigError) as caught:
        config.parse(text.replace(right, wrong, 1), origin="plant.toml")
    assert str(caught.value).startswith("plant.toml: ")
    assert message in str(caught.value)


def test_the_example_of_the_how_to_is_understood() -> None:
    settings = config.parse(example(), origin="plant.toml")
    (center,) = settings.plant.work_centers
    assert center.setup_s == ((0, 1800), (1200, 0))
    assert center.units[1].families == {"alu"}
    assert settings.sources[0].url == "opc.tcp://10.0.0.5:4840"
    assert settings.dispatch[0].way == "job_order"


def test_a_flow_is_chains_of_runs_and_places_side_by_side() -> None:
    flow = '["a09..a11", "(b1..b2)", "c"], ["d1..d2", "a10"]'
    text = example().replace(MACHINING, FLOW.format(flow), 1)
    (center,) = config.parse(text, origin="plant.toml").plant.work_centers
    assert center.flow == (
        (("a09",), ("a10",), ("a11",), ("b1", "b2"), ("c",)),
        (("d1",), ("d2",), ("a10",)),
    )


def sparkplug(url: str) -> str:
    """The example with a broker in place of the server."""
    lines = (f'[[source]]\nid = "plc"\n{MQTT.format(url)}\n', "[[dispatch]]")
    text = example()
    return text[: text.index("[[source]]")] + lines[0] + text[text.index(lines[1]) :]


@pytest.mark.parametrize("url", ["", "mqtt://broker:1883", "mqtts://broker", "mqtt://[::1]:1883"])
def test_a_sparkplug_source_may_name_a_broker_or_none(url: str) -> None:
    assert config.parse(sparkplug(url), origin="plant.toml").sources[0].url == url


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("groups = []", "groups: is empty and would follow nothing; leave it out to follow all"),
        ('groups = ["a/b"]', "groups[0]: must be '+' or a group id without '/', '+' or '#'"),
        ('groups = ["+", "#"]', "groups[1]: must be '+' or a group id"),
        ('host_id = ""', "host_id: must be a name without '/', '+' or '#', got ''"),
        ('host_id = "a/b"', "host_id: must be a name without '/', '+' or '#', got 'a/b'"),
    ],
)
def test_groups_and_host_id_are_levels_of_a_topic(line: str, message: str) -> None:
    text = sparkplug("").replace('protocol = "sparkplug"', f'protocol = "sparkplug"\n{line}')
    with pytest.raises(ConfigError) as caught:
        config.parse(text, origin="plant.toml")
    assert f"source[0].{message}" in str(caught.value)


@pytest.mark.parametrize("security", ["none", "auto", "auto,Sign", "Basic256Sha256,Sign"])
def test_a_policy_may_be_named_with_its_mode(security: str) -> None:
    text = example().replace("queue_s = 60", f'security = "{security}"')
    source = config.parse(text, origin="plant.toml").sources[0]
    assert source == replace(source, security=security)


def test_a_byte_order_mark_is_read_over_and_another_encoding_is_named(tmp_path: Path) -> None:
    file = tmp_path / "plant.toml"
    file.write_text(example(), encoding="utf-8-sig")
    assert config.load(file) == config.parse("\ufeff" + example(), origin="plant.toml")
    file.write_text(example(), encoding="utf-16")
    with pytest.raises(ConfigError, match=r"plant.toml: is not UTF-8 text .* save it as UTF-8"):
        config.load(file)


@pytest.mark.parametrize("url", ["broker:1883", "http://broker", "mqtt://", "mqtt://[::1:1883"])
def test_a_broker_needs_its_scheme_and_host(url: str) -> None:
    with pytest.raises(ConfigError, match=r"source\[0\].url: must be mqtt://host:port or mqtts://"):
        config.parse(sparkplug(url), origin="plant.toml")


@pytest.mark.parametrize(
    "value", ["5", "-1", "nan", "true", '"x"', '""', "[]", "[[]]", "{}", "1e99"]
)
def test_any_value_anywhere_gives_settings_or_a_named_error(value: str) -> None:
    assignment = re.compile(r"(?<== )(\[\[.*?\]\]|\[[^\[{]*?\]|\"[^\"]*\"|\d+)")
    text = example()
    for found in assignment.finditer(text):
        broken = text[: found.start()] + value + text[found.end() :]
        with contextlib.suppress(ConfigError):
            config.parse(broken, origin="plant.toml")


def test_the_built_in_plant_is_understood_and_is_what_an_empty_file_gives() -> None:
    assert len(config.built_in().plant.work_centers) == 5
    assert config.parse("", origin="empty.toml") == config.built_in()


def test_a_secret_that_is_not_set_is_named_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = config.parse(example(), origin="plant.toml")
    monkeypatch.delenv("PLC_PASSWORD", raising=False)
    with pytest.raises(ConfigError, match=r"^plant.toml: source\[0\].password_env: .*PLC_PASSWORD"):
        check_sources(settings, Path("plant.toml"))
    monkeypatch.setitem(os.environ, "PLC_PASSWORD", "x")
    check_sources(settings, Path("plant.toml"))


def test_a_plant_without_sources_is_refused() -> None:
    settings = config.parse('[plant]\nsite = "a"\n', origin="plant.toml")
    with pytest.raises(ConfigError, match="no machine to read from"):
        check_sources(settings, Path("plant.toml"))


AFAR = '[ingest]\nlisten = "0.0.0.0:8700"\nspool_mb = 100\n[[source]]\nid = "press"\n'


def test_a_source_may_be_read_by_a_collector_on_another_host() -> None:
    text = f'{AFAR}protocol = "opcua"\nurl = "opc.tcp://p:4840"\ncollector = "cell7"\n'
    text += 'password_env = "NOT_SET_HERE"\n'
    settings = config.parse(text, origin="p")
    assert settings.afar == {"press": "cell7"}
    assert (settings.ingest.listen, settings.ingest.lost_s) == ("0.0.0.0:8700", 5.0)
    check_sources(settings, Path("p"))  # its password is needed on the other host


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ('"0.0.0.0:8700"', '"8700"', "ingest.listen: must be host:port, like 0.0.0.0:8700"),
        ("spool_mb = 100", "spool_mb = 0", "ingest.spool_mb: must be > 0"),
        ("spool_mb = 100", "lost_s = 0.1", "ingest.lost_s: must be at least 1"),
        ("spool_mb = 100", "spol_mb = 1", "ingest.spol_mb: unknown key; did you mean 'spool_mb'"),
        ('"cell7"', '"a/b"', r"source\[0\].collector: must be a name without"),
        ('"opcua"\nurl = "opc.tcp://p:4840"', '"sparkplug"', r"source\[0\].url is missing; a coll"),
    ],
)
def test_wrong_words_about_other_hosts_are_named(right: str, wrong: str, message: str) -> None:
    text = f'{AFAR}protocol = "opcua"\nurl = "opc.tcp://p:4840"\ncollector = "cell7"\n'
    assert right in text
    with pytest.raises(ConfigError, match=message):
        config.parse(text.replace(right, wrong), origin="p")


def test_history_is_kept_as_long_as_the_plant_says() -> None:
    text = "[history]\nretain_days = 90\nretain_text_days = 0\nretain_state_days = 400\n"
    kept = config.parse(text, origin="x").history
    days = [kept.days_of(kind) for kind in SignalKind]
    assert days == [90, 90, 400, 90, 0]
    for wrong, message in (
        ("retain_days = -1", "history.retain_days: must be >= 0"),
        ("retain_days = 1.5", "history.retain_days: must be a whole number"),
        ("seal_rows = 5", "history.seal_rows: unknown key"),
        ('catalog = "mysql://b@db/p"', "history.catalog .* must be postgresql://user@host"),
        ('catalog = "postgresql://b:x@db/p"', "holds a password; give the name of an environment"),
        ('catalog = "postgresql://b@db/p?sslmode=no"', "may end with"),
    ):
        with pytest.raises(ConfigError, match=message):
            config.parse(f"[history]\n{wrong}\n", origin="x")


def test_the_catalog_of_the_history_may_be_in_postgres() -> None:
    url = "postgresql://brain@db:5432/plant?schema=l1&sslmode=verify-full"
    text = f'[history]\ncatalog = "{url}"\ncatalog_password_env = "CATALOG_PASSWORD"\n'
    history = config.parse(text, origin="x").history
    assert (history.catalog, history.catalog_password_env) == (url, "CATALOG_PASSWORD")
